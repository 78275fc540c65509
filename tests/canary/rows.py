"""What strangers register: every engine, many faults, each with a secret of its own."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import bson

from testbed.certificates import Certificates
from testbed.misbehaving import (
    Caller,
    Conversation,
    MisbehavingServer,
    answering,
    hang_up,
    mute,
    reset,
    saying,
)
from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.ports import free_port
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer
from tests.canary.birds import Birds

QUICK: dict[str, Any] = {
    "serverSelectionTimeoutMS": 1000,
    "connectTimeout": 1000,
    "commandTimeout": 1000,
    "retryStrategy": {"maxAttempts": 1},
    "healthCheck": {"intervalSeconds": 60},
}


PATIENT = json.dumps(
    QUICK | {"serverSelectionTimeoutMS": 20_000, "connectTimeout": 20_000, "commandTimeout": 20_000}
)
"""For servers that do answer, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the registry; `name` says what is wrong with it."""

    name: str
    engine: str
    url: str
    config: str = json.dumps(QUICK)


def encoded(secret: str) -> str:
    return quote(secret, safe="")


def _postgresql_error(words: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0CXX000\0M{words}\0D{words}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


def _telling_mongodb(words: str) -> Conversation:
    """Refuse every command with an error that quotes."""

    async def converse(caller: Caller) -> None:
        while heard := await caller.hear():
            reply = {"ok": 0.0, "code": 4711, "codeName": words[:30], "errmsg": words}
            body = b"\0\0\0\0\0" + bson.encode(reply)
            request = struct.unpack_from("<i", heard, 4)[0]
            await caller.say(struct.pack("<iiii", 16 + len(body), 1, request, 2013) + body)

    return converse


async def _echo_redis(caller: Caller) -> None:
    """Answer everything with an error that repeats it."""
    while heard := await caller.hear():
        await caller.say(b"-ERR you said " + heard.replace(b"\r\n", b" ") + b"\r\n")


def tellings(engine: str, secret: str) -> Iterator[tuple[str, Conversation]]:
    """Yield servers that know the secret and say it in what they answer."""
    sayings = {
        "tells": f"no, {secret} is wrong",
        "tells in URL encoding": f"no, {encoded(secret)} is wrong",
        "tells behind much else": f"{'x' * 90} {secret}",
        "tells behind more": f"{'x' * 112} {secret}",
        "tells in quotes": f'"{secret}" and "{secret}"',
        "tells in a URL": f"redis://u:{secret}@h?password={encoded(secret)}",
    }
    for name, words in sayings.items():
        match engine:
            case "redis":
                line = words.replace("\n", " ").encode()
                yield name, answering(b"-ERR " + line + b"\r\n")
                yield f"{name} unasked", saying(b"-" + line + b"\r\n")
            case "postgresql":
                yield name, answering(_postgresql_error(words))
            case _:
                yield name, _telling_mongodb(words)


@dataclass(slots=True)
class Flock:
    """The servers behind the rows; they end with the `contextmanager` that made them."""

    birds: Birds
    certificates: Certificates
    servers: ExitStack

    def real(self) -> Iterator[Row]:
        """Yield rows of real servers, which have all the time that they need."""
        return (replace(row, config=PATIENT) for row in self._real())

    def _real(self) -> Iterator[Row]:
        """Yield them: signed in, refused, encrypted, without the database."""
        birds, enter = self.birds, self.servers.enter_context
        redis = enter(RedisServer(RedisOptions(password=birds.secret("@:/%#? é%41密"))))
        mongodb = enter(MongoDBServer(MongoDBOptions(password=birds.secret())))
        options = PostgreSQLOptions(password=birds.secret(), certificate=self.certificates.good)
        postgresql = enter(PostgreSQLServer(options))
        place = f"127.0.0.1:{postgresql.port}"
        yield Row("ok", "redis", redis.url())
        yield Row("ok", "mongodb", mongodb.url())
        yield Row("ok", "postgresql", postgresql.url())
        yield Row("ok with TLS", "postgresql", postgresql.url(sslmode="require"))
        known = encoded(redis.options.password or "")
        yield Row("in an option", "redis", f"redis://127.0.0.1:{redis.port}?password={known}")
        known = encoded(postgresql.options.password)
        query = f"user=postgres&password={known}"
        yield Row("in an option", "postgresql", f"postgresql://{place}/postgres?{query}")
        yield Row("wrong", "redis", redis.url(password=birds.secret()))
        yield Row("wrong user", "redis", redis.url("somebody", birds.secret()))
        yield Row("wrong", "mongodb", mongodb.url("root", birds.secret()))
        sha1 = mongodb.url("root", birds.secret(), authMechanism="SCRAM-SHA-1")
        yield Row("wrong by SHA-1", "mongodb", sha1)
        yield Row("wrong", "postgresql", postgresql.url("postgres", birds.secret()))
        yield Row("wrong user", "postgresql", postgresql.url("somebody", birds.secret()))
        option = postgresql.url("postgres", birds.secret(), sslmode="require")
        yield Row("wrong with TLS", "postgresql", option)
        setting = postgresql.url(options=f"-c work_mem={birds.plain()}")
        yield Row("a setting that is refused", "postgresql", setting)
        yield Row("no such database", "postgresql", postgresql.url(database="nowhere"))
        yield Row("no such index", "redis", redis.url(database="4711"))
        yield Row("not trusted", "postgresql", postgresql.url(sslmode="verify-full"))
        yield Row("TLS where there is none", "redis", redis.url().replace("redis:", "rediss:"))
        yield Row("another engine", "redis", f"redis://:{birds.plain()}@{place}")
        yield Row("another engine", "mongodb", f"mongodb://u:{birds.plain()}@{place}")
        place = f"127.0.0.1:{redis.port}"
        yield Row("another engine", "postgresql", f"postgresql://u:{birds.plain()}@{place}")

    def misbehaving(self) -> Iterator[Row]:
        """Yield rows of servers that hang up, are silent, babble, or say what they know."""
        behaviours: dict[str, Conversation] = {
            "mute": mute,
            "hangs up": hang_up,
            "resets": reset,
            "speaks HTTP": saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "poisons": saying(b"-ERR \0\xff\x1b[31m\r\n"),
        }
        for engine in ("redis", "mongodb", "postgresql"):
            for name, conversation in behaviours.items():
                yield self._row(name, engine, self.birds.secret(), conversation)
            secret = self.birds.secret()
            for name, conversation in tellings(engine, secret):
                yield self._row(name, engine, secret, conversation)
            nowhere = f"u:{encoded(self.birds.secret())}@127.0.0.1:{free_port()}"
            yield Row("nothing listens", engine, f"{engine}://{nowhere}")
            blocked = f"u:{encoded(self.birds.secret())}@169.254.169.254"
            yield Row("blocked", engine, f"{engine}://{blocked}")
        yield self._row("echoes", "redis", self.birds.secret(), _echo_redis)
        yield self._row("echoes a plain one", "redis", self.birds.plain(), _echo_redis)

    def unusable(self) -> Iterator[Row]:
        """Yield rows that nobody can be asked for.

        Scheme, user, host, database and options' names are no secrets: the column shows them.
        """
        birds = self.birds
        for number, url in enumerate(
            (
                f"see the wiki, the password is {birds.plain()}",
                f"redis://u:{birds.secret()}@h",
                f"redis://u:{birds.plain()}/x@h",
                f"redis://u:12/{birds.plain()}@h",
                f"redis://u:{birds.plain()} x@h",
                f"redis://h:{birds.plain()}",
                f"redis://:{birds.plain()}%00@h",
                f"redis://:{birds.plain()}%ff@h",
                f"canary://u:{birds.plain()}@h",
                f"redis://u:p@h?ssl_keyfile=/{birds.plain()}",
                f"redis://u:p@h?ssl_cert_reqs={birds.plain()}",
                "",
            )
        ):
            yield Row(f"unusable {number}", "redis", url)
        for option in ("tlsCAFile", "tlsCertificateKeyFilePassword", "proxyPassword", "whatever"):
            url = f"mongodb://u:{birds.plain()}@h?{option}={birds.plain()}"
            yield Row(f"refused {option}", "mongodb", url)
        for option in (
            "passfile",
            "sslpassword",
            "channel_binding",
            "target_session_attrs",
            "host",
        ):
            url = f"postgresql://u:{birds.plain()}@h?{option}={birds.plain()}"
            yield Row(f"refused {option}", "postgresql", url)
        url = f"redis://u:{birds.secret('')}@h"
        for number, config in enumerate(
            ("[1]", '{"connectTimeout": "1s"}', '{"tls": {"ca": "x"}}')
        ):
            yield Row(f"config {number}", "redis", url.replace("redis:", "rediss:"), config)
        yield Row("crashes", "redis", f"redis://u:{encoded(birds.secret())}@breaks-asking:6379")
        crash = f"redis://u:{encoded(birds.secret())}@breaks-planning?password={birds.plain()}"
        yield Row("crashes early", "redis", crash)

    def _row(self, name: str, engine: str, secret: str, conversation: Conversation) -> Row:
        server = self.servers.enter_context(MisbehavingServer(conversation))
        place = f"127.0.0.1:{server.port}"
        option = "?directConnection=true" if engine == "mongodb" else ""
        return Row(name, engine, f"{engine}://u:{encoded(secret)}@{place}/{option}")


@contextmanager
def flock(birds: Birds, certificates: Certificates) -> Iterator[list[Row]]:
    """Start every server and list the rows."""
    with ExitStack() as servers:
        made = Flock(birds, certificates, servers)
        yield [*made.real(), *made.misbehaving(), *made.unusable()]
