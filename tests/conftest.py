"""Real servers, started when a test first asks for them; a copy of the registry per test."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from testbed.certificates import Certificates
from testbed.fakes import FakeMeter, Lines
from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.ports import free_port as take_free_port
from testbed.postgresql import PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer
from worker.registry import Pace, Registry
from worker.registry_connection import RegistryConnection
from worker.registry_fleet import RegistryFleet

SCHEMA = Path(__file__).parent.parent / "schema"
TEMPLATE = "registry_template"
WORKER_ROLE = "health_worker_login"
WORKER_PASSWORD = "worker-secret"


def pytest_configure() -> None:
    """Let what the tests start hear SIGINT, which a suite in the background is made to ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(scope="session")
def registry_template(cluster: PostgreSQLServer) -> str:
    cluster.execute(f"create database {TEMPLATE}")
    for path in sorted(SCHEMA.glob("0*.sql")):
        if "register" not in path.name:
            cluster.psql("-q", "-f", path, database=TEMPLATE)
    cluster.execute(
        f"create role {WORKER_ROLE} login password '{WORKER_PASSWORD}'"
        " in role platform_health_worker"
    )
    return TEMPLATE


@pytest.fixture
def registry_database(cluster: PostgreSQLServer, registry_template: str) -> Iterator[str]:
    name = f"registry_{uuid4().hex}"
    cluster.execute(f"create database {name} template {registry_template}")
    yield name
    cluster.execute(f"drop database {name} with (force)")


@pytest.fixture
def registry_url(cluster: PostgreSQLServer, registry_database: str) -> str:
    """The owner's URL of a registry of the test's own."""
    return cluster.url(database=registry_database)


@pytest.fixture
def worker_url(cluster: PostgreSQLServer, registry_database: str) -> str:
    """The same registry's, as a login role that is only a member of platform_health_worker."""
    return cluster.url(user=WORKER_ROLE, password=WORKER_PASSWORD, database=registry_database)


@pytest.fixture
async def connection(worker_url: str) -> AsyncIterator[RegistryConnection]:
    """The way to the registry as the worker's own code uses it."""

    async def connected() -> None:
        return

    connection = RegistryConnection(worker_url, 10, Lines(), FakeMeter(), connected)
    yield connection
    await connection.close()


@pytest.fixture
def registry(connection: RegistryConnection) -> Registry:
    """The registry as the worker's own code claims and records."""
    return Registry(connection, Pace.of(1, 30))


@pytest.fixture
def registry_fleet(connection: RegistryConnection) -> RegistryFleet:
    """The same, as it is asked about the fleet as a whole."""
    return RegistryFleet(connection)


@pytest.fixture
async def owner(registry_url: str) -> AsyncIterator[Any]:
    """A connection of the registry's owner."""
    connection = await asyncpg.connect(registry_url)
    yield connection
    await connection.close()


@pytest.fixture
def empty_database_url(cluster: PostgreSQLServer) -> Iterator[str]:
    name = f"empty_{uuid4().hex}"
    cluster.execute(f"create database {name}")
    yield cluster.url(database=name)
    cluster.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(RedisOptions(password="redis-secret")) as server:
        yield server


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[MongoDBServer]:
    with MongoDBServer(MongoDBOptions(password="mongodb-secret")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_target() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates.make()


@pytest.fixture
def free_port() -> int:
    return take_free_port()


@pytest.fixture(autouse=True)
def leavings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect the sockets that PyMongo leaves while the test that allows them still runs."""
    yield
    if request.node.get_closest_marker("filterwarnings"):
        gc.collect()
