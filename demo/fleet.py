"""The servers of the demo, the databases that are registered, and the worker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.ports import free_port
from testbed.postgresql import PostgreSQLServer
from testbed.process import Command, Program
from testbed.redis import RedisOptions, RedisServer
from worker import schema_files

WORKER_PASSWORD = "demo-worker"
QUICK = '{"healthCheck": {"intervalSeconds": 5}, "connectTimeout": 1000, "commandTimeout": 1000}'
QUICK_MONGODB = '{"healthCheck": {"intervalSeconds": 5}, "serverSelectionTimeoutMS": 1000}'
SCHEMA_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """What a user would register."""

    name: str
    engine: str
    connection_string: str
    config: str = QUICK


@dataclass(frozen=True, slots=True)
class Fleet:
    """The servers of the demo; they end with it."""

    registry: PostgreSQLServer
    redis: RedisServer
    mongodb: MongoDBServer
    postgresql: PostgreSQLServer
    silent_port: int
    unused_port: int

    def rows(self) -> Sequence[Row]:
        """List what is registered: three that work, then five that are broken on purpose."""
        redis, mongodb, postgresql = self.redis, self.mongodb, self.postgresql
        wrong = mongodb.url("root", "not-the-password")
        return (
            Row("sessions", "redis", redis.url()),
            Row("catalogue", "mongodb", mongodb.url(), QUICK_MONGODB),
            Row("orders", "postgresql", postgresql.url()),
            Row("wrong password", "mongodb", wrong, QUICK_MONGODB),
            Row("no such database", "postgresql", postgresql.url(database="nowhere")),
            Row("nothing listens", "redis", f"redis://127.0.0.1:{self.unused_port}"),
            Row("silent server", "redis", f"redis://127.0.0.1:{self.silent_port}"),
            Row("unusable URL", "redis", "see the wiki"),
        )


@contextlib.contextmanager
def fleet() -> Iterator[Fleet]:
    """Start every server of the demo side by side on free loopback ports."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        made = Fleet(
            registry=PostgreSQLServer(),
            redis=RedisServer(RedisOptions(password="demo-redis")),
            mongodb=MongoDBServer(MongoDBOptions(password="demo-mongodb")),
            postgresql=PostgreSQLServer(),
            silent_port=silent.getsockname()[1],
            unused_port=free_port(),
        )
        servers = (made.registry, made.redis, made.mongodb, made.postgresql)
        for server in servers:
            stack.callback(server.close)
        with ThreadPoolExecutor() as pool:
            for starting in [pool.submit(server.start) for server in servers]:
                starting.result()
        yield made


async def register(servers: Fleet) -> None:
    """Apply the schema, make the worker's login role, and register the databases."""
    url = servers.registry.url()
    await schema_files.apply(url, SCHEMA_SECONDS)
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"create role demo_worker login password '{WORKER_PASSWORD}' in role platform_health_worker"
    )
    project = await connection.fetchval(
        "insert into platform.projects (name) values ('demo') returning id"
    )
    await connection.executemany(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " values ($1, $2, $3, $4, $5)",
        [
            (project, row.name, row.engine, row.connection_string, row.config)
            for row in servers.rows()
        ],
    )
    await connection.close()


@contextlib.contextmanager
def worker(servers: Fleet, port: int, folder: Path) -> Iterator[Program]:
    """Register everything and start the real `run` command as a member of the worker's role."""
    asyncio.run(register(servers))
    command = Command(
        arguments=[sys.executable, "-m", "worker", "run"],
        environment={
            "DATABASE_URL": servers.registry.url("demo_worker", WORKER_PASSWORD),
            "PORT": str(port),
            "METRICS_HOST": "127.0.0.1",
            "ALLOWED_NETWORKS": "127.0.0.1/32",
        },
        ready=lambda log: "worker_started" in log,
    )
    with Program("worker", command, folder) as running:
        yield running
