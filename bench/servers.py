"""The servers that are measured against: targets of every engine, and registries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from testbed.certificates import Certificate, Certificates
from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer
from worker import schema_files
from worker.words import Engine

WORKER_ROLE = "bench_worker"
WORKER_PASSWORD = "bench-worker"
PASSWORD = "bench-secret"
MANY = {"max_connections": "300"}
POLL_SECONDS = 0.25
LONGEST_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """One server of each engine in clear text, and one with TLS where they were asked for."""

    urls: dict[Engine, str]
    tls_urls: dict[Engine, str]
    authority: str
    """PEM text."""


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Start a server of each engine, and what speaks TLS beside it."""
    certificate = Certificates.make().good
    with ExitStack() as stack:

        def redis(certificate: Certificate | None = None) -> str:
            options = RedisOptions(password=PASSWORD, certificate=certificate)
            return stack.enter_context(RedisServer(options)).url()

        def mongodb(certificate: Certificate | None = None) -> str:
            options = MongoDBOptions(password=PASSWORD, certificate=certificate)
            return stack.enter_context(MongoDBServer(options)).url()

        options = PostgreSQLOptions(settings=MANY, certificate=certificate)
        postgresql = stack.enter_context(PostgreSQLServer(options))
        yield Fleet(
            {
                Engine.REDIS: redis(),
                Engine.MONGODB: mongodb(),
                Engine.POSTGRESQL: postgresql.url(),
            },
            {
                Engine.REDIS: redis(certificate),
                Engine.MONGODB: mongodb(certificate),
                Engine.POSTGRESQL: postgresql.url(sslmode="verify-full"),
            },
            certificate.authority.decode(),
        )


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry in a server of its own, with the worker's login role."""

    server: PostgreSQLServer

    @property
    def worker_url(self) -> str:
        """The connection string of a login role that is only a member of platform_health_worker."""
        return self.server.url(WORKER_ROLE, WORKER_PASSWORD)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        """Lend a connection of the owner's."""
        connection = await asyncpg.connect(self.server.url())
        try:
            yield connection
        finally:
            await connection.close()

    async def fill(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Register so many copies of each row: type, url, config and copies."""
        async with self.connected() as connection:
            project = await connection.fetchval(
                "insert into platform.projects (name) values ('bench') returning id"
            )
            for row in rows:
                await connection.execute(
                    "insert into platform.databases (project_id, name, type, connection_string,"
                    " config) select $1, $2 || ' ' || i, $2, $3, $4"
                    " from generate_series(1, $5::int) i",
                    project,
                    row["type"],
                    row["url"],
                    json.dumps(row["config"]),
                    row["copies"],
                )

    async def make_due(self, ago: str = "0 s") -> None:
        """Make every row due, and for so long already."""
        async with self.connected() as connection, connection.transaction():
            # Workers lock its rows in another order.
            await connection.execute("lock table platform.database_schedules in exclusive mode")
            await connection.execute(
                "update platform.database_schedules"
                " set due_at = now() - $1::text::interval, leased_until = null, spread = true",
                ago,
            )

    async def wait_for_round(self, rows: int, since: float = 0) -> None:
        """Wait until so many rows were checked after this POSIX time.

        Asks over one connection, and seldom: what the registry spends on that is counted as the
        worker's doing.
        """
        began = time.monotonic()
        async with self.connected() as connection:
            while True:
                done = await connection.fetchval(
                    "select count(*) from platform.databases"
                    " where last_health_check_at > to_timestamp($1)",
                    since,
                )
                if done >= rows:
                    return
                passed = time.monotonic() - began
                half_of_the_rest = passed * (rows - done) / max(done, 1) / 2
                wait = min(passed, half_of_the_rest, LONGEST_POLL_SECONDS)
                await asyncio.sleep(max(POLL_SECONDS, wait))

    async def empty(self) -> None:
        """Remove every row, and what they leave behind."""
        async with self.connected() as connection:
            await connection.execute("truncate platform.projects cascade")
            await connection.execute("vacuum analyze")


@contextmanager
def registry(**settings: str) -> Iterator[Registry]:
    """Start an empty registry; what its disk would cost is not measured (fsync is off)."""
    options = PostgreSQLOptions(settings={"shared_buffers": "512MB", **settings})
    with PostgreSQLServer(options) as server:
        asyncio.run(schema_files.apply(server.url(), 30))
        server.execute(
            f"create role {WORKER_ROLE} login password '{WORKER_PASSWORD}'"
            " in role platform_health_worker"
        )
        yield Registry(server)
