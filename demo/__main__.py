"""Starts servers, registry and worker, and shows what the worker finds."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.live import Live
from rich.table import Table

from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.ports import free_port
from testbed.postgresql import PostgreSQLServer
from testbed.process import Command, Program
from testbed.programs import ProgramError
from testbed.redis import RedisOptions, RedisServer
from worker import schema_files

WORKER_PASSWORD = "demo-worker"
QUICK = '{"healthCheck": {"intervalSeconds": 5}, "connectTimeout": 1000, "commandTimeout": 1000}'
QUICK_MONGODB = '{"healthCheck": {"intervalSeconds": 5}, "serverSelectionTimeoutMS": 1000}'
REFRESH_SECONDS = 1.0
COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "unknown": "blue"}
SELECT = """
select d.name, d.type, d.health_check_status, s.last_reason, s.latency_seconds,
  extract(epoch from now() - d.last_health_check_at) as age, d.health_check_error
from platform.databases d join platform.database_schedules s on s.database_id = d.id
order by d.created_at, d.name
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The servers of the demo; they end with it."""

    registry: PostgreSQLServer
    redis: RedisServer
    mongodb: MongoDBServer
    postgresql: PostgreSQLServer
    silent_port: int

    def rows(self) -> Sequence[tuple[str, str, str, str]]:
        """List what a user would register: name, type, connection string, config."""
        redis, mongodb, postgresql = self.redis, self.mongodb, self.postgresql
        wrong = mongodb.url("root", "not-the-password")
        return (
            ("sessions", "redis", redis.url(), QUICK),
            ("catalogue", "mongodb", mongodb.url(), QUICK_MONGODB),
            ("orders", "postgresql", postgresql.url(), QUICK),
            ("wrong password", "mongodb", wrong, QUICK_MONGODB),
            ("nothing listens", "redis", f"redis://127.0.0.1:{free_port()}", QUICK),
            ("silent server", "redis", f"redis://127.0.0.1:{self.silent_port}", QUICK),
            ("no such database", "postgresql", postgresql.url(database="nowhere"), QUICK),
            ("unusable URL", "redis", "see the wiki", QUICK),
        )


@contextlib.contextmanager
def fleet() -> Iterator[Fleet]:
    """Start every server of the demo on free loopback ports."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        yield Fleet(
            registry=stack.enter_context(PostgreSQLServer()),
            redis=stack.enter_context(RedisServer(RedisOptions(password="demo-redis"))),
            mongodb=stack.enter_context(MongoDBServer(MongoDBOptions(password="demo-mongodb"))),
            postgresql=stack.enter_context(PostgreSQLServer()),
            silent_port=silent.getsockname()[1],
        )


async def register(servers: Fleet) -> None:
    """Apply the schema, make the worker's login role, and register the databases."""
    url = servers.registry.url()
    await schema_files.apply(url, 30)
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
        [(project, *row) for row in servers.rows()],
    )
    await connection.close()


def worker(servers: Fleet, port: int, folder: Path) -> Program:
    """Describe the real `run` command, as a member of platform_health_worker."""
    url = servers.registry.url("demo_worker", WORKER_PASSWORD)
    command = Command(
        arguments=[sys.executable, "-m", "worker", "run"],
        environment={
            "DATABASE_URL": url,
            "PORT": str(port),
            "METRICS_HOST": "127.0.0.1",
            "ALLOWED_NETWORKS": "127.0.0.1/32",
        },
        ready=lambda log: "worker_started" in log,
    )
    return Program("worker", command, folder)


def table(rows: Sequence[Any], port: int) -> Table:
    """Draw the registry as an operator would want to see it."""
    drawn = Table(title=f"metrics: http://127.0.0.1:{port}/metrics", title_justify="left")
    for heading in ("database", "engine", "status", "reason", "latency", "checked", "error"):
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        status = row["health_check_status"]
        latency, age = row["latency_seconds"], row["age"]
        drawn.add_row(
            row["name"],
            row["type"],
            f"[{COLOURS[status]}]{status}[/]",
            row["last_reason"] or "",
            "" if latency is None else f"{latency * 1000:.1f} ms",
            "" if age is None else f"{age:.0f} s ago",
            row["health_check_error"] or "",
        )
    return drawn


def changes(log: str) -> Sequence[dict[str, Any]]:
    """Pick the changes out of the worker's log."""
    lines = [line for line in log.splitlines(keepends=True) if line.endswith("\n")]
    events = [json.loads(line) for line in lines]
    return [event for event in events if event["event"] == "database_health_changed"]


def tell(console: Console, change: dict[str, Any]) -> None:
    """Print one change as the worker's log told it."""
    colour = COLOURS[change["status"]]
    at = change["timestamp"][11:19]
    text = f"{at} {change['level']:5} {change['message']} (was {change['previous']})"
    console.print(text, style=colour, markup=False, highlight=False)


async def show(servers: Fleet, running: Program, port: int, seconds: float) -> None:
    """Show the table until the time is up (0: until Ctrl-C); half-way stop a server for a while."""
    connection = await asyncpg.connect(servers.registry.url())
    started = time.monotonic()
    stop_at = started + (seconds * 0.4 if seconds else 20)
    start_at = stop_at + (seconds * 0.3 if seconds else 15)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(f"a worker checks {len(servers.rows())} databases; its log says what changes:")
    told = 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while not seconds or time.monotonic() - started < seconds:
            now = time.monotonic()
            if servers.redis.running and stop_at <= now < start_at:
                await asyncio.to_thread(servers.redis.stop)
                console.print("[bold]now we stop the Redis behind «sessions»[/]")
            elif not servers.redis.running and now >= start_at:
                await asyncio.to_thread(servers.redis.start)
                console.print("[bold]now we start it again[/]")
            for change in changes(running.log)[told:]:
                tell(console, change)
                told += 1
            live.update(table(await connection.fetch(SELECT), port), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
    await connection.close()


def main() -> None:
    """Run the demo; Ctrl-C ends it and everything that it started."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0, help="end by itself (0: never)")
    seconds = parser.parse_args().seconds
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with fleet() as servers, tempfile.TemporaryDirectory(prefix="demo-") as folder:
            asyncio.run(register(servers))
            port = free_port()
            with worker(servers, port, Path(folder)) as running:
                with contextlib.suppress(KeyboardInterrupt):
                    asyncio.run(show(servers, running, port, seconds))
                for change in changes(running.log)[-1:]:
                    print("\nthe last change, as alerts see it in the log:")
                    print(json.dumps(change))
    except KeyboardInterrupt:
        return
    except ProgramError as fault:
        print(f"demo: {fault}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
