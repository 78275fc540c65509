"""A real mongod asked in our own words, through PyMongo and through motor: the same answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.mongodb import MongoDBOptions, MongoDBServer, MongoDBUser
from tests.probes.mongodb_asking import (
    QUICK,
    ask,
    every_kind,
    make_probe,
)
from worker.connection import split
from worker.plan import Config
from worker.words import Phase, Reason

# PyMongo leaves sockets that could not connect to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
USERS = (
    MongoDBUser("app", "app-secret", "shop"),
    MongoDBUser("idle", "idle-secret", roles=()),
    MongoDBUser("old", "old-secret", mechanisms=("SCRAM-SHA-1",)),
    MongoDBUser("new", "new-secret", mechanisms=("SCRAM-SHA-256",)),
    MongoDBUser("o=d,d", "p@ss:w/rd % \N{SNOWMAN} \N{LATIN SMALL LIGATURE FI}"),
)


@pytest.fixture(scope="module")
def secured() -> Iterator[MongoDBServer]:
    with MongoDBServer(MongoDBOptions(password="root-secret", users=USERS)) as server:
        yield server


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[MongoDBServer]:
    with MongoDBServer() as server:
        yield server


@every_kind
@pytest.mark.parametrize(
    ("user", "password", "database", "options"),
    [
        ("root", "root-secret", "", {}),
        ("app", "app-secret", "shop", {}),
        ("app", "app-secret", "", {"authSource": "shop"}),
        ("app", "app-secret", "elsewhere", {"authSource": "shop"}),
        ("idle", "idle-secret", "", {}),
        ("old", "old-secret", "", {}),
        ("old", "old-secret", "", {"authMechanism": "SCRAM-SHA-1"}),
        ("new", "new-secret", "", {}),
        ("new", "new-secret", "", {"authMechanism": "SCRAM-SHA-256"}),
        ("o=d,d", USERS[-1].password, "", {}),
        ("o=d,d", USERS[-1].password, "", {"authMechanism": "SCRAM-SHA-1"}),
    ],
)
async def test_a_user_signs_in(
    secured: MongoDBServer,
    kind: str,
    user: str,
    password: str,
    database: str,
    options: dict[str, str],
) -> None:
    url = secured.url(user, password, database, **options)
    assert await ask(kind, url) == (Reason.OK, "")


@every_kind
@pytest.mark.parametrize(
    ("user", "password", "options"),
    [
        ("root", "wrong-secret", {}),
        ("nobody", "wrong-secret", {}),
        ("app", "app-secret", {}),
        ("app", "app-secret", {"authSource": "elsewhere"}),
        ("new", "new-secret", {"authMechanism": "SCRAM-SHA-1"}),
        ("old", "old-secret", {"authMechanism": "SCRAM-SHA-256"}),
    ],
)
async def test_a_user_who_may_not_is_auth(
    secured: MongoDBServer, kind: str, user: str, password: str, options: dict[str, str]
) -> None:
    reason, text = await ask(kind, secured.url(user, password, **options))
    assert reason is Reason.AUTH
    assert "authSource" in text
    assert "secret" not in text


@every_kind
async def test_wrong_credentials_are_tried_once(secured: MongoDBServer, kind: str) -> None:
    before = _attempts(secured)
    await ask(kind, secured.url("root", "wrong-secret"))
    assert _attempts(secured) - before == 1


def _attempts(server: MongoDBServer) -> int:
    """Count the sign-ins that went so far that the password was judged."""
    return server.log.count('"msg":"Authentication failed"')


@every_kind
async def test_a_server_that_asks_nobody_is_ok(open_to_all: MongoDBServer, kind: str) -> None:
    assert await ask(kind, open_to_all.url()) == (Reason.OK, "")


async def test_an_answer_tells_its_phases(secured: MongoDBServer) -> None:
    probe = make_probe("wire")
    answer = await probe.ask(probe.plan(split(secured.url()), Config({}), ssl_enabled=False))
    assert answer.phases.keys() == {Phase.DNS, Phase.CONNECT, Phase.AUTH, Phase.PING}
    assert all(seconds >= 0 for seconds in answer.phases.values())


async def test_a_fault_that_is_in_no_table_is_quoted(secured: MongoDBServer) -> None:
    with secured.failpoint("ping", errorCode=8):
        _, text = await ask("wire", secured.url())
    assert '"UnknownError" ("8")' in text


async def test_a_late_answer_names_its_phase(secured: MongoDBServer) -> None:
    with secured.failpoint("saslContinue", blockTimeMS=900):
        assert await ask("wire", secured.url(), QUICK) == (
            Reason.TIMEOUT,
            "not connected within 700 ms (in auth)",
        )
    with secured.failpoint("ping", blockTimeMS=900):
        assert await ask("wire", secured.url(), QUICK) == (
            Reason.TIMEOUT,
            "ping not answered within 700 ms",
        )


async def test_a_server_that_answers_hello_late_but_in_time_is_ok(secured: MongoDBServer) -> None:
    # Half-way through its time the probe asks once more, in case that it talks to a Redis.
    with secured.failpoint("hello", blockTimeMS=900):
        plenty = {"serverSelectionTimeoutMS": 1600}
        assert await ask("wire", secured.url(), plenty) == (Reason.OK, "")
