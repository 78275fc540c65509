"""Faults of servers that are no mongod, or lie as none does."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from testbed.misbehaving import MisbehavingServer, mute
from testbed.mongodb_fake import (
    SALT,
    Answer,
    Document,
    greeting,
    hello,
    member,
    repeating,
    signing_in,
    speaking,
)
from tests.faults.matrix import Case, Make
from tests.faults.mongodb_cases import MONGODB, QUICK, case
from tests.faults.socket_faults import talking
from tests.faults.stage import Stage
from worker.model import CheckResult
from worker.words import Reason

FORBIDDEN = "127.0.0.2"
"""Loopback, too, but the rules of these rows allow 127.0.0.1 alone."""


@asynccontextmanager
async def names_a_forbidden_host(stage: Stage) -> AsyncIterator[Case]:
    with MisbehavingServer(mute, host=FORBIDDEN) as forbidden:
        other = f"{forbidden.host}:{forbidden.port}"
        liar = greeting(member("rs0", "127.0.0.1:1", [other], primary=other))

        async def nobody_knocked(result: CheckResult) -> None:
            assert (result.reason is Reason.BLOCKED) == (forbidden.callers == 0)

        with MisbehavingServer(speaking(liar)) as server:
            secret = stage.secret()
            yield Case(
                url=MONGODB.url(secret, server.host, server.port),
                address=f"{server.host}:{server.port}",
                config=QUICK,
                secrets=(secret,),
                afterwards=nobody_knocked,
            )


@asynccontextmanager
async def a_redis(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.redis(), stage.secret()
    yield case(server, MONGODB.url(secret, server.host, server.port), secret, config=QUICK)


@asynccontextmanager
async def a_postgresql(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.postgresql(), stage.secret()
    yield case(server, MONGODB.url(secret, server.host, server.port), secret, config=QUICK)


def _never(command: Document) -> Document:
    return {"ok": 1.0, "conversationId": 1, "done": True, "payload": b"v=" + b64encode(bytes(32))}


def _challenge(iterations: int) -> str:
    return f"r={{nonce}}more,s={SALT},i={iterations}"


def _speaking(answer: Answer) -> Make:
    return talking(MONGODB, speaking(answer))


MAKERS: dict[str, Make] = {
    "names a blocked host": names_a_forbidden_host,
    "a Redis": a_redis,
    "a PostgreSQL": a_postgresql,
    "announces one more answer each time": talking(MONGODB, repeating(hello())),
    "2^31-1 SCRAM iterations": _speaking(signing_in(_challenge(2**31 - 1), _never)),
    "hardly any SCRAM iterations": _speaking(signing_in(_challenge(100), _never)),
    "another's SCRAM nonce": _speaking(signing_in(f"r=else,s={SALT},i=15000", _never)),
    "no SCRAM challenge": _speaking(signing_in("what?", _never)),
    "cannot prove that it knows the user": _speaking(signing_in(_challenge(15_000), _never)),
}
