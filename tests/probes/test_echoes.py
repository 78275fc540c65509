"""A server that has learnt the password says it wherever we listen: no error text repeats it."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from testbed.certificates import Certificates
from testbed.misbehaving import Caller, Conversation, MisbehavingServer, answering, hang_up
from testbed.mongodb_fake import greeting, hello, member, refusing, signing_in, speaking
from tests.unit.nouns import row
from worker.check import Checker
from worker.network import AddressRules, Network
from worker.probes import table
from worker.resolver import IPAddress, Resolver
from worker.words import Engine, Reason

WORD = "hunter2-canary-secret"
ODD = "hunter2: ä/?%41"
CODE = "HUNT2"
NUMBER = "9988776655"
QUICK = {"serverSelectionTimeoutMS": 600, "retryStrategy": {"maxAttempts": 1}}
ITERATIONS = "r={{nonce}}x,s=c2FsdHNhbHQ=,i={}"
WAYS = ("wire", "pymongo")
URL = "{scheme}://u:{secret}@127.0.0.1:{port}/"


class LoopbackNames(Resolver):
    """Finds every name on loopback, and two SRV records that name the password."""

    def __init__(self, port: int, secret: str) -> None:
        super().__init__()
        self._records = [f"0 0 {port} {secret}-{number}.example.com." for number in (1, 2)]

    async def addresses(self, name: str) -> tuple[IPAddress, ...]:
        del name
        return (ip_address("127.0.0.1"),)

    async def records(self, name: str, kind: str) -> list[str]:
        del name
        return self._records if kind == "SRV" else []


class Echo(NamedTuple):
    """A server that puts the row's password into one place of its answer."""

    secret: str
    server: Callable[[str, int], Conversation]
    """Of the secret and the server's own port."""
    url: str = URL
    ways: Sequence[str] = WAYS
    is_tls: bool = False


def base64_of(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode().rstrip("=")


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def demand(number: int, body: bytes) -> bytes:
    return message(b"R", struct.pack("!I", number) + body)


def error(code: str, text: str) -> Conversation:
    """Refuse as a PostgreSQL does."""
    return answering(message(b"E", f"SERROR\0C{code}\0M{text}\0\0".encode()))


def scram(challenge: str) -> Conversation:
    """Answer a PostgreSQL client's first SCRAM message so; `{nonce}` is what it has sent."""

    async def converse(caller: Caller) -> None:
        await caller.hear()
        await caller.say(demand(10, b"SCRAM-SHA-256\0\0"))
        nonce = re.search(rb",r=([^,]+)", await caller.hear())
        words = challenge.replace("{nonce}", nonce[1].decode() if nonce else "")
        await caller.say(demand(11, words.encode()))
        await caller.hear()

    return converse


def refusal(code: int, name: str, text: str) -> Conversation:
    """Refuse whatever comes as a mongod does."""
    return speaking(lambda _: refusing(code, name, text))


def secondary(*hosts: str, **about: Any) -> Conversation:
    return speaking(greeting(member("rs", "me:1", hosts, **about)))


def mongodb_scram(first: str, last: str = "") -> Conversation:
    end = {"conversationId": 1, "done": True, "payload": last.encode(), "ok": 1.0}
    return speaking(signing_in(first, lambda _: end))


POSTGRESQL = {
    "SCRAM's error": Echo(WORD, lambda secret, _: scram(f"e={secret}")),
    "SCRAM's iterations": Echo(NUMBER, lambda secret, _: scram(ITERATIONS.format(secret))),
    "an SQLSTATE": Echo(CODE, lambda secret, _: error(secret, "no")),
    "a message": Echo(ODD, lambda secret, _: error("XX000", f"{secret} {quote(secret, safe='')}")),
    "a message in base64": Echo(ODD, lambda secret, _: error("XX000", base64_of(secret))),
    "a message in capitals": Echo(WORD, lambda secret, _: error("XX000", secret.upper())),
}
REDIS = {
    "an error's code": Echo(CODE, lambda secret, _: answering(f"-{secret} no\r\n".encode())),
    "an error's words": Echo(
        ODD, lambda secret, _: answering(f"-ERR {secret} {base64_of(secret)}\r\n".encode())
    ),
    "no error at all": Echo(WORD, lambda secret, _: answering(f"+{secret}\r\n".encode())),
}
MONGODB = {
    "an error's code": Echo(NUMBER, lambda secret, _: refusal(int(secret), "Name", "no")),
    "an error's name": Echo(WORD, lambda secret, _: refusal(7, secret, "no")),
    "an error's words": Echo(ODD, lambda secret, _: refusal(7, "Name", quote(secret, safe=""))),
    "SCRAM's error": Echo(WORD, lambda secret, _: mongodb_scram(f"e={secret}")),
    "SCRAM's last error": Echo(
        WORD, lambda secret, _: mongodb_scram(ITERATIONS.format(4096), f"e={secret}")
    ),
    "SCRAM's iterations": Echo(NUMBER, lambda secret, _: mongodb_scram(ITERATIONS.format(secret))),
    "the set's name": Echo(
        WORD,
        lambda secret, _: speaking(greeting(hello(setName=secret, hosts=["a:1"]))),
        url=f"{URL}?replicaSet=rs",
    ),
    "the name of a primary that is not there": Echo(
        WORD, lambda secret, _: secondary(f"{secret}:1", primary=f"{secret}:1"), ways=["wire"]
    ),
    "that name in base64": Echo(
        WORD, lambda secret, _: secondary("a:1", primary=f"{base64_of(secret)}:1"), ways=["wire"]
    ),
    "the name of a primary that is none": Echo(
        WORD, lambda secret, port: secondary("a:1", primary=f"{secret}:{port}"), ways=["wire"]
    ),
    "a member's name": Echo(
        WORD,
        lambda secret, _: speaking(
            greeting(hello(setName="rs", hosts=[f"{secret}:1"], me=f"{secret}:1"))
        ),
        ways=["wire"],
    ),
    "a member's address": Echo(
        "127.0.0.2", lambda secret, _: secondary(f"{secret}:1", "127.0.0.3:1")
    ),
    "the name that a certificate lacks": Echo(
        WORD,
        lambda secret, port: secondary("a:1", primary=f"{secret}:{port}"),
        url=f"{URL}?tls=true",
        ways=["wire"],
        is_tls=True,
    ),
    "an SRV record": Echo(
        WORD,
        lambda _, __: hang_up,
        url="mongodb+srv://u:{secret}@name.example.com/?tls=false",
        ways=["wire"],
    ),
}
ECHOES = {Engine.POSTGRESQL: POSTGRESQL, Engine.REDIS: REDIS, Engine.MONGODB: MONGODB}


def cases() -> list[Any]:
    return [
        pytest.param(way, engine, echo, id=f"{engine}: {name}, {way}")
        for engine, echoes in ECHOES.items()
        for name, echo in echoes.items()
        for way in echo.ways
    ]


@pytest.mark.parametrize(("way", "engine", "echo"), cases())
async def test_what_a_server_says_never_puts_the_password_into_our_text(
    way: str, engine: Engine, echo: Echo, certificates: Certificates
) -> None:
    async def converse(caller: Caller) -> None:
        await echo.server(echo.secret, server.port)(caller)

    tls = certificates.good.server_context() if echo.is_tls else None
    with MisbehavingServer(converse, tls=tls) as server:
        names = LoopbackNames(server.port, echo.secret)
        network = Network(AddressRules.allow_everything(), names)
        probes = table("wire" if way == "wire" else "drivers", "pymongo", network)
        checker = Checker(probes, lambda *_, **__: None, deadline=5, default_interval=60)
        secret = quote(echo.secret, safe="")
        url = echo.url.format(scheme=engine, secret=secret, port=server.port)
        config = {**QUICK, "tls": {"ca": certificates.ca.decode()}}
        made = await checker.check(row(url, config, engine))
    assert server.callers
    assert made.reason not in {Reason.OK, Reason.INTERNAL}, made.error
    assert made.error
    for form in (echo.secret, secret, base64_of(echo.secret)):
        assert form.lower() not in made.error.lower()
