"""A registry as its owner sees it, and the files as psql and the worker run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import redirect_stderr
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLServer
from testbed.programs import find_program
from worker import cli

SCHEMA = Path(__file__).parent.parent.parent / "schema"
LEASE = timedelta(seconds=45)
Run = Callable[..., subprocess.CompletedProcess[str]]
Add = Callable[..., Awaitable[UUID]]


@pytest.fixture
def psql() -> Run:
    """psql URL ARGUMENT..., as somebody types it; `-f` takes a name in `schema/`."""

    def run(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [find_program("psql", "postgresql-client"), "--no-psqlrc", "-At", url, *arguments],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
            cwd=SCHEMA,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def schema_command() -> Run:
    """health-worker schema WORD..., without the start of a process."""

    def run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
        output = StringIO()
        code: object = 0
        with pytest.MonkeyPatch.context() as patch, redirect_stderr(output):
            patch.setattr(sys, "argv", ["health-worker", "schema", *words])
            patch.setenv("SCHEMA_DATABASE_URL", url)
            try:
                cli.main()
            except SystemExit as leaving:
                code = leaving.code
        return subprocess.CompletedProcess(words, int(str(code or 0)), "", output.getvalue())

    return run


@pytest.fixture(scope="module")
def registry_database(cluster: PostgreSQLServer, registry_template: str) -> Iterator[str]:
    """One registry for all tests of a module; `owner` empties it after each."""
    name = f"registry_{uuid4().hex}"
    cluster.execute(f"create database {name} template {registry_template}")
    yield name
    cluster.execute(f"drop database {name} with (force)")


@pytest.fixture
async def owner(owner: Any) -> AsyncIterator[Any]:
    """A connection of the registry's owner, who leaves it empty."""
    yield owner
    await owner.execute("delete from platform.projects")


@pytest.fixture
async def worker(worker_url: str) -> AsyncIterator[Any]:
    """A connection of a member of platform_health_worker."""
    connection = await asyncpg.connect(worker_url)
    yield connection
    await connection.close()


@pytest.fixture
async def project(owner: Any) -> UUID:
    """A project to register databases in."""
    found = await owner.fetchval(
        "insert into platform.projects (name) values ('test') returning id"
    )
    assert isinstance(found, UUID)
    return found


@pytest.fixture
def add(owner: Any, project: UUID) -> Add:
    """Register a database: add(column=value, ...)."""

    async def insert(**columns: object) -> UUID:
        row = {"project_id": project, "name": uuid4().hex, "type": "redis", **columns}
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        found = await owner.fetchval(
            f"insert into platform.databases ({', '.join(row)}) values ({places}) returning id",
            *row.values(),
        )
        assert isinstance(found, UUID)
        return found

    return insert


@pytest.fixture
def clear_text(owner: Any) -> Callable[[UUID], Awaitable[str | None]]:
    """Decrypt what is stored for a database."""

    async def decrypt(database_id: UUID) -> str | None:
        found: str | None = await owner.fetchval(
            "select platform.decrypt_database_connection_string($1)", database_id
        )
        return found

    return decrypt


@pytest.fixture
def mask_of(owner: Any) -> Callable[[UUID], Awaitable[str | None]]:
    """Read what rests in the column connection_string."""

    async def read(database_id: UUID) -> str | None:
        found: str | None = await owner.fetchval(
            "select connection_string from platform.databases where id = $1", database_id
        )
        return found

    return read


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[PostgreSQLServer]:
    """A cluster whose roles are this module's own."""
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture
def schedule(owner: Any) -> Callable[[UUID], Awaitable[Any]]:
    """Read a database's schedule and its health, with the registry's time as `now`."""

    async def read(database_id: UUID) -> Any:
        return await owner.fetchrow(
            "select s.*, d.health_check_status as status, now() as now"
            " from platform.databases d left join platform.database_schedules s"
            " on s.database_id = d.id where d.id = $1",
            database_id,
        )

    return read


@pytest.fixture
def due(owner: Any) -> Callable[..., Awaitable[None]]:
    """Make a database due so many seconds ago, neither leased nor new."""

    async def make(database_id: UUID, ago: float, interval: float = 60, **columns: object) -> None:
        values = {"spread": False, "slow": False, **columns}
        places = "".join(f", {name} = ${number}" for number, name in enumerate(values, 4))
        await owner.execute(
            "update platform.database_schedules set leased_until = null, interval_seconds = $3,"
            f" due_at = now() - make_interval(secs => $2){places} where database_id = $1",
            database_id,
            ago,
            interval,
            *values.values(),
        )

    return make


@pytest.fixture
def claim(worker: Any) -> Callable[..., Awaitable[list[Any]]]:
    """Claim as the worker does."""

    async def run(
        slots: int = 99, slow: int = 99, horizon: float = 1, connection: Any = None
    ) -> list[Any]:
        rows = await (connection or worker).fetch(
            "select * from platform.claim_databases($1, $2, $3, $4)",
            slots,
            slow,
            timedelta(seconds=horizon),
            LEASE,
        )
        return list(rows)

    return run


@pytest.fixture
def record(worker: Any) -> Callable[..., Awaitable[list[Any]]]:
    """Record a healthy result for each claimed row, with these facts changed."""

    async def run(
        *rows: Any,
        connection: Any = None,
        function: str = "record_check_results",
        **facts: object,
    ) -> list[Any]:
        results = [
            {
                "database_id": str(row["id"]),
                "revision": row["revision"],
                "slot": row["slot"].isoformat(),
                "leased_until": row["leased_until"].isoformat(),
                "started_at": row["claimed_at"].isoformat(),
                "checked_at": (row["claimed_at"] + timedelta(microseconds=1)).isoformat(),
                "status": "healthy",
                "reason": "ok",
                "error": None,
                "latency_seconds": 0.001,
                "interval_seconds": 60,
                **facts,
            }
            for row in rows
        ]
        recorded = await (connection or worker).fetch(
            f"select * from platform.{function}($1)", json.dumps(results, default=str)
        )
        return list(recorded)

    return run
