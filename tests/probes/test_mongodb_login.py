"""Signing in as the specification "Driver Authentication" wants it, against a server by hand."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from testbed.mongodb_fake import SALT
from worker.connection import split
from worker.errors import ProbeError
from worker.plan import Config
from worker.probes.mongodb_login import Login, sign_in
from worker.probes.mongodb_plan import MongoDBPlan, make_plan
from worker.probes.mongodb_wire import Conversation, read_error
from worker.scram import SaltedPasswords
from worker.words import Reason

NEW, OLD = "SCRAM-SHA-256", "SCRAM-SHA-1"
ITERATIONS = 4_096
PASSWORD = "made-up-secret"
Document = Mapping[str, Any]
HASHES = {NEW: "sha256", OLD: "sha1"}


class Server(Conversation):
    """The server's side of SCRAM, written from RFC 5802 and nothing of ours."""

    def __init__(
        self, *mechanisms: str, password: str = PASSWORD, ends_at_once: bool = True
    ) -> None:
        self.mechanisms = mechanisms
        self.password = password
        self.ends_at_once = ends_at_once
        self.heard: list[Document] = []
        self.is_open = False

    def hello(self, login: Login) -> Document:  # type: ignore[override]  # one call of ours
        asked = login.in_hello()
        answer: dict[str, Any] = {"ok": 1.0}
        if "saslSupportedMechs" in asked and self.mechanisms:
            answer["saslSupportedMechs"] = list(self.mechanisms)
        start = asked["speculativeAuthenticate"]
        if start["mechanism"] in self.mechanisms:
            answer["speculativeAuthenticate"] = self._challenge(start)
        return answer

    async def run(self, command: Document) -> dict[str, Any]:
        self.heard.append(command)
        if "saslStart" in command:
            if command["mechanism"] not in self.mechanisms:
                raise read_error(18, "AuthenticationFailed", "no")
            return dict(self._challenge(command))
        if "saslContinue" in command:
            return self._judge(command)
        if not self.is_open:
            raise read_error(13, "Unauthorized", "no")
        return {"ok": 1.0}

    def _challenge(self, start: Document) -> Document:
        self.algorithm = HASHES[start["mechanism"]]
        self.bare = start["payload"].removeprefix(b"n,,")
        nonce = self.bare.partition(b",r=")[2] + b"more"
        self.first = b"r=%b,s=%b,i=%d" % (nonce, SALT.encode(), ITERATIONS)
        return {"conversationId": 7, "done": False, "payload": self.first, "ok": 1.0}

    def _judge(self, command: Document) -> dict[str, Any]:
        if not command["payload"]:
            return {"conversationId": 7, "done": True, "payload": b"", "ok": 1.0}
        secret = self.password
        if self.algorithm == "sha1":
            secret = hashlib.md5(f"app:mongo:{secret}".encode()).hexdigest()
        salted = hashlib.pbkdf2_hmac(self.algorithm, secret.encode(), b64decode(SALT), ITERATIONS)
        without_proof, _, proof = command["payload"].partition(b",p=")
        message = b",".join((self.bare, self.first, without_proof))
        key = hmac.digest(salted, b"Client Key", self.algorithm)
        signature = hmac.digest(hashlib.new(self.algorithm, key).digest(), message, self.algorithm)
        if bytes(a ^ b for a, b in zip(key, signature, strict=True)) != b64decode(proof):
            raise read_error(18, "AuthenticationFailed", "no")
        server_key = hmac.digest(salted, b"Server Key", self.algorithm)
        final = b"v=" + b64encode(hmac.digest(server_key, message, self.algorithm))
        return {"conversationId": 7, "done": self.ends_at_once, "payload": final, "ok": 1.0}


@pytest.fixture
def store() -> Iterator[SaltedPasswords]:
    salted = SaltedPasswords()
    yield salted
    salted.close()


def plan(tail: str = "") -> MongoDBPlan:
    url = f"mongodb://app:{PASSWORD}@db.example.com/{tail}"
    return make_plan(split(url), Config({}), ssl_enabled=False)


async def enter(server: Server, store: SaltedPasswords, tail: str = "") -> list[str]:
    """Sign in, and name the commands that it took beside `hello`."""
    login = Login(plan(tail), store)
    await sign_in(server, login, server.hello(login))
    return [next(iter(command)) for command in server.heard]


async def test_speculation_saves_a_round_trip(store: SaltedPasswords) -> None:
    assert await enter(Server(NEW, OLD), store) == ["saslContinue"]


async def test_a_server_that_does_not_skip_the_last_exchange_gets_it(
    store: SaltedPasswords,
) -> None:
    server = Server(NEW, ends_at_once=False)
    assert await enter(server, store) == ["saslContinue", "saslContinue"]
    assert server.heard[-1]["payload"] == b""


async def test_a_user_of_the_older_mechanism_signs_in_by_that(store: SaltedPasswords) -> None:
    assert await enter(Server(OLD), store) == ["saslStart", "saslContinue"]


async def test_a_server_that_tells_no_mechanisms_is_asked_by_the_oldest(
    store: SaltedPasswords,
) -> None:
    server = Server(OLD)
    login = Login(plan(), store)
    await sign_in(server, login, {"ok": 1.0})
    assert server.heard[0]["mechanism"] == OLD


@pytest.mark.parametrize("mechanism", [NEW, OLD])
async def test_a_mechanism_that_is_named_is_the_only_one_tried(
    store: SaltedPasswords, mechanism: str
) -> None:
    tail = f"?authMechanism={mechanism}"
    assert "saslSupportedMechs" not in Login(plan(tail), store).in_hello()
    assert await enter(Server(NEW, OLD), store, tail) == ["saslContinue"]
    other = Server(*{NEW, OLD} - {mechanism})
    with pytest.raises(ProbeError) as caught:
        await enter(other, store, tail)
    assert caught.value.reason is Reason.AUTH
    assert {each.get("mechanism", mechanism) for each in other.heard} == {mechanism}


@pytest.mark.parametrize(
    ("tail", "source"),
    [
        ("", "admin"),
        ("shop", "shop"),
        ("?authSource=users", "users"),
        ("shop?authSource=users", "users"),
    ],
)
async def test_the_user_is_looked_for_where_the_row_says(
    store: SaltedPasswords, tail: str, source: str
) -> None:
    asked = Login(plan(tail), store).in_hello()
    assert asked["saslSupportedMechs"] == f"{source}.app"
    assert asked["speculativeAuthenticate"]["db"] == source
    server = Server(NEW)
    await enter(server, store, tail)
    assert {command["$db"] for command in server.heard} == {source}


async def test_a_wrong_password_is_tried_once(store: SaltedPasswords) -> None:
    server = Server(NEW, password="another")
    with pytest.raises(ProbeError) as caught:
        await enter(server, store)
    assert caught.value.reason is Reason.AUTH
    assert [next(iter(command)) for command in server.heard] == ["saslContinue", "listDatabases"]


async def test_a_refusal_by_a_server_that_lets_strangers_do_all_is_none(
    store: SaltedPasswords,
) -> None:
    server = Server(NEW, password="another")
    server.is_open = True
    await enter(server, store)


@pytest.mark.parametrize(
    "answer", [{}, {"payload": "text"}, {"payload": None}, {"payload": b"r=x,s=,i=4096"}]
)
async def test_a_challenge_that_is_none_is_protocol(
    store: SaltedPasswords, answer: Document
) -> None:
    hello = {"saslSupportedMechs": [NEW], "speculativeAuthenticate": answer}
    with pytest.raises(ProbeError) as caught:
        await sign_in(Server(NEW), Login(plan(), store), hello)
    assert caught.value.reason is Reason.PROTOCOL


@pytest.mark.parametrize("supported", [None, "SCRAM-SHA-256", [], [7], {NEW: 1}])
async def test_mechanisms_that_are_no_list_of_names_count_as_untold(
    store: SaltedPasswords, supported: object
) -> None:
    server = Server(OLD)
    await sign_in(server, Login(plan(), store), {"saslSupportedMechs": supported})
    assert server.heard[0]["mechanism"] == OLD


async def test_a_server_that_never_ends_the_conversation_is_protocol(
    store: SaltedPasswords,
) -> None:
    class Endless(Server):
        def _judge(self, command: Document) -> dict[str, Any]:
            return {**super()._judge(command), "done": False}

    server = Endless(NEW)
    with pytest.raises(ProbeError) as caught:
        await enter(server, store)
    assert caught.value.reason is Reason.PROTOCOL
    assert len(server.heard) == 2


async def test_a_login_shows_nothing(store: SaltedPasswords) -> None:
    login = Login(plan(), store)
    assert PASSWORD not in repr(login)
    assert PASSWORD not in repr(login.in_hello())
