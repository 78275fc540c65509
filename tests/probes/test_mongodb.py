"""A real mongod asked in our own words, through PyMongo and through motor: the same answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from testbed.mongodb import MongoDBOptions, MongoDBServer, MongoDBUser
from testbed.postgresql import PostgreSQLServer
from testbed.programs import wait_until
from testbed.redis import RedisServer
from tests.probes.mongodb_asking import (
    QUICK,
    ask,
    every_kind,
    leaves_sockets,
    make_probe,
    with_options,
)
from worker.connection import split
from worker.model import Phase, Reason

pytestmark = leaves_sockets

MOST = 5
"""The least that mongod takes as its greatest number of clients; it lets one more in."""
FULL = "too many open connections"
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
async def test_a_stranger_is_auth_where_credentials_are_demanded(
    secured: MongoDBServer, kind: str
) -> None:
    reason, text = await ask(kind, f"mongodb://{secured.host}:{secured.port}")
    assert reason is Reason.AUTH
    assert "demands credentials" in text


@every_kind
async def test_wrong_credentials_are_tried_once(secured: MongoDBServer, kind: str) -> None:
    before = _attempts(secured)
    await ask(kind, secured.url("root", "wrong-secret"))
    assert _attempts(secured) - before == 1


def _attempts(server: MongoDBServer) -> int:
    """Count the sign-ins that went so far that the password was judged."""
    return server.log.count('"msg":"Authentication failed"')


@every_kind
@pytest.mark.parametrize("login", [(None, None), ("nobody", "unneeded-secret")])
async def test_a_server_that_asks_nobody_is_ok(
    open_to_all: MongoDBServer, kind: str, login: tuple[str | None, str | None]
) -> None:
    assert await ask(kind, open_to_all.url(*login)) == (Reason.OK, "")


async def test_an_answer_tells_its_phases(secured: MongoDBServer) -> None:
    probe = make_probe("wire")
    answer = await probe.ask(probe.plan(split(secured.url()), {}, ssl_enabled=False))
    assert answer.phases.keys() == {Phase.DNS, Phase.CONNECT, Phase.AUTH, Phase.PING}
    assert all(seconds >= 0 for seconds in answer.phases.values())


@every_kind
async def test_where_nothing_listens_is_refused(free_port: int, kind: str) -> None:
    reason, _ = await ask(kind, f"mongodb://127.0.0.1:{free_port}", QUICK)
    assert reason is Reason.REFUSED


@every_kind
@pytest.mark.parametrize("command", ["hello", "saslContinue", "ping"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"errorCode": 11600}, Reason.NOT_READY),
        ({"errorCode": 91}, Reason.NOT_READY),
        ({"errorCode": 8}, Reason.NOT_READY),
        ({"closeConnection": True}, Reason.CLOSED),
        ({"blockTimeMS": 1500}, Reason.TIMEOUT),
    ],
)
async def test_a_command_that_fails_is_read_by_its_fault(
    secured: MongoDBServer, kind: str, command: str, fault: dict[str, Any], expected: Reason
) -> None:
    with secured.failpoint(command, **fault):
        reason, text = await ask(kind, secured.url(), QUICK)
    assert reason is expected
    assert text
    assert "secret" not in text


async def test_a_fault_that_is_in_no_table_is_quoted(secured: MongoDBServer) -> None:
    with secured.failpoint("ping", errorCode=8):
        _, text = await ask("wire", secured.url())
    assert '"UnknownError" (8)' in text


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


@every_kind
async def test_a_paused_server_is_a_timeout(kind: str) -> None:
    with MongoDBServer() as server:
        server.pause()
        try:
            assert (await ask(kind, server.url(), QUICK)).reason is Reason.TIMEOUT
        finally:
            server.resume()
        assert (await ask(kind, server.url())).reason is Reason.OK


@every_kind
async def test_a_server_that_comes_back_is_ok(kind: str) -> None:
    probe = make_probe(kind)
    with MongoDBServer(MongoDBOptions(password="root-secret")) as server:
        assert (await ask(kind, server.url(), probe=probe)).reason is Reason.OK
        server.kill()
        assert (await ask(kind, server.url(), QUICK, probe=probe)).reason is Reason.REFUSED
        server.start()
        assert (await ask(kind, server.url(), probe=probe)).reason is Reason.OK


@every_kind
async def test_a_server_full_of_clients_is_closed_or_saturated(kind: str) -> None:
    with (
        MongoDBServer(MongoDBOptions(arguments=("--maxConns", str(MOST)))) as server,
        ExitStack() as s,
    ):
        for _ in range(MOST + 2):
            s.enter_context(socket.create_connection((server.host, server.port)))
        wait_until(lambda: FULL in server.log, "a full server", 10)
        reason, _ = await ask(kind, server.url(), QUICK)
        assert reason in {Reason.CLOSED, Reason.SATURATED}


@every_kind
async def test_a_server_that_is_in_no_set_does_not_match_a_replica_set(
    secured: MongoDBServer, kind: str
) -> None:
    reason, text = await ask(kind, secured.url(replicaSet="rs0"), QUICK)
    assert reason is Reason.MISCONFIGURED
    assert "replicaSet" in text


@every_kind
async def test_several_hosts_that_are_in_no_set_are_misconfigured(
    secured: MongoDBServer, open_to_all: MongoDBServer, kind: str
) -> None:
    hosts = ",".join(f"{each.host}:{each.port}" for each in (secured, open_to_all))
    assert (await ask(kind, f"mongodb://{hosts}", QUICK)).reason is Reason.MISCONFIGURED


@every_kind
async def test_a_server_is_no_load_balancer(secured: MongoDBServer, kind: str) -> None:
    url = with_options(secured.url(), loadBalanced="true")
    assert (await ask(kind, url, QUICK)).reason is Reason.MISCONFIGURED


@every_kind
async def test_a_redis_is_no_mongodb(redis_server: RedisServer, kind: str) -> None:
    # The libraries send no line end, so Redis waits for one and they wait for Redis.
    expected = Reason.PROTOCOL if kind == "wire" else Reason.TIMEOUT
    url = f"mongodb://{redis_server.host}:{redis_server.port}"
    assert (await ask(kind, url, QUICK)).reason is expected


@every_kind
async def test_a_postgresql_hangs_up(postgresql_target: PostgreSQLServer, kind: str) -> None:
    # It takes our length for an absurd one and closes without a word.
    url = f"mongodb://{postgresql_target.host}:{postgresql_target.port}"
    assert (await ask(kind, url, QUICK)).reason is Reason.CLOSED
