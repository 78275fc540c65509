"""A server that comes back is ok at its next check, whatever was remembered of the last one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.postgresql import PostgreSQLServer
from testbed.redis import RedisServer
from tests.faults.cell import logging_to_a_buffer, make_row, probe_table
from tests.faults.matrix import Case, Way
from worker.check import Checker
from worker.words import Engine, Reason

# PyMongo leaves sockets that could not connect to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SERVERS: dict[Engine, Callable[[], PostgreSQLServer | RedisServer | MongoDBServer]] = {
    Engine.REDIS: RedisServer,
    Engine.POSTGRESQL: PostgreSQLServer,
    Engine.MONGODB: lambda: MongoDBServer(MongoDBOptions()),
}
WAYS = [(engine, way) for engine in SERVERS for way in (Way.WIRE, Way.DRIVERS)]


@pytest.mark.parametrize(("engine", "way"), [*WAYS, (Engine.MONGODB, Way.MOTOR)])
async def test_a_server_that_comes_back_is_ok_at_its_next_check(engine: Engine, way: Way) -> None:
    with ExitStack() as props:
        server = SERVERS[engine]()
        props.enter_context(server)
        _, log = props.enter_context(logging_to_a_buffer())
        config = {"connectTimeout": 1000, "serverSelectionTimeoutMS": 1000}
        case = Case(url=server.url(), address="", config=config)
        checker = Checker(probe_table(case, way), log, deadline=10, default_interval=60)

        async def check() -> Reason:
            return (await checker.check(make_row(case, engine))).reason

        assert await check() is Reason.OK
        server.kill()
        assert await check() is Reason.REFUSED
        server.start()
        assert await check() is Reason.OK
