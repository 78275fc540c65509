"""A restore keeps every secret, and the schedule and the history with it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLServer, _program

SECRETS = {
    "with a password": "redis://:secret-1@h:6379/0",
    "without one": "redis://h:6379/0",
    "masked whole": "redis://a:b/c@h",
    "no URL": "host=h password=s",
    "rotated": "redis://:secret-2@h",
    "without a connection string": None,
}
# What must come back exactly; the last column tells rows that were never checked from others.
CONTENT = """
select d.name, d.project_id, d.connection_string, d.password, d.health_check_status,
  d.last_health_check_at, d.updated_at, o.connection_string as clear, s.revision, s.last_reason,
  s.interval_seconds, s.slow, case when s.last_reason is not null then s.due_at end as due_at
from platform.databases d
join platform.databases_with_connection_strings o using (id)
left join platform.database_schedules s on s.database_id = d.id order by d.name
"""
CHANGES = "select * from platform.database_health_changes order by change_id"
Restore = Callable[..., None]


def program(name: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [_program(name), *arguments],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def target(cluster: PostgreSQLServer) -> Iterator[Callable[[str], str]]:
    """Make a database to restore into, from a template."""
    made: list[str] = []

    def make(template: str) -> str:
        made.append(f"restored_{uuid4().hex}")
        cluster.execute(f"create database {made[-1]} template {template}")
        return cluster.url(database=made[-1])

    yield make
    for name in made:
        cluster.execute(f"drop database {name} with (force)")


@pytest.fixture
async def filled(owner: Any, project: UUID, worker: Any) -> None:
    """Rows of every kind, two of them checked, one edited since."""
    for name, url in SECRETS.items():
        await owner.execute(
            "insert into platform.databases (project_id, name, type, connection_string, status)"
            " values ($1, $2, 'redis', $3, $4)",
            project,
            name,
            "redis://:old@h" if name == "rotated" else url,
            "inactive" if name == "no URL" else "active",
        )
    claimed = await worker.fetch("select * from platform.claim_databases(2, 2, '1 s', '45 s')")
    assert len(claimed) == 2
    results = [
        {
            "database_id": str(row["id"]),
            "revision": row["revision"],
            "slot": row["slot"].isoformat(),
            "leased_until": row["leased_until"].isoformat(),
            "started_at": row["claimed_at"].isoformat(),
            "checked_at": row["claimed_at"].isoformat(),
            "status": "unhealthy",
            "reason": "timeout",
            "error": "timeout: silent",
            "interval_seconds": 77,
        }
        for row in claimed
    ]
    recorded = await worker.fetch(
        "select * from platform.record_check_results($1)", json.dumps(results)
    )
    assert [row["outcome"] for row in recorded] == ["recorded"] * 2
    # As an earlier build began to count.
    await owner.execute(
        "update platform.database_schedules set revision = 1 where database_id = $1",
        claimed[0]["id"],
    )
    await owner.execute(
        "update platform.databases set connection_string = $1 where name = 'rotated'",
        SECRETS["rotated"],
    )


async def content(url: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    connection = await asyncpg.connect(url)
    rows = [dict(row) for row in await connection.fetch(CONTENT)]
    changes = [dict(row) for row in await connection.fetch(CHANGES)]
    await connection.close()
    return rows, changes


async def assert_whole(registry: str, restored: str) -> None:
    rows, changes = await content(registry)
    assert {row["name"]: row["clear"] for row in rows} == SECRETS
    assert len(changes) == 2
    assert await content(restored) == (rows, changes)
    connection = await asyncpg.connect(restored)
    fresh = await connection.fetchval(
        "insert into platform.databases (project_id, name, type, connection_string)"
        " select id, 'fresh', 'redis', 'redis://:fresh@h' from platform.projects returning id"
    )
    clear = "select platform.decrypt_database_connection_string($1)"
    assert await connection.fetchval(clear, fresh) == "redis://:fresh@h"
    await connection.execute("update platform.databases set project_id = project_id")
    assert {r["name"]: r["clear"] for r in await connection.fetch(CONTENT)} == {
        **SECRETS,
        "fresh": "redis://:fresh@h",
    }
    claim = "select name from platform.claim_databases(99, 99, '1000 s', '45 s')"
    claimed = {row["name"] for row in await connection.fetch(claim)}
    assert claimed == {*SECRETS, "fresh"} - {"no URL"}
    change = await connection.fetchval(
        "insert into platform.database_health_changes (database_id, from_status, to_status,"
        " reason, at) values ($1, 'unknown', 'healthy', 'ok', now()) returning change_id",
        fresh,
    )
    assert change > max(row["change_id"] for row in changes)
    await connection.close()


@pytest.mark.usefixtures("filled")
async def test_a_full_dump_keeps_every_secret(
    registry_url: str, target: Callable[[str], str], tmp_path: Path
) -> None:
    restored = target("template0")
    program("pg_dump", "-Fc", "-f", tmp_path / "dump", registry_url)
    program("pg_restore", "--exit-on-error", "-d", restored, tmp_path / "dump")
    await assert_whole(registry_url, restored)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("options", [[], ["--disable-triggers"]], ids=str)
async def test_a_dump_of_the_data_goes_into_a_freshly_migrated_registry(
    registry_url: str,
    cluster: PostgreSQLServer,
    target: Callable[[str], str],
    options: list[str],
    tmp_path: Path,
) -> None:
    restored = target("template0")
    for path in sorted((Path(__file__).parent.parent.parent / "schema").glob("0*.sql")):
        if "register" not in path.name:
            cluster.psql("-f", path, database=restored.rpartition("/")[2])
    program("pg_dump", "-Fc", "--data-only", "-f", tmp_path / "dump", registry_url)
    program("pg_restore", "--exit-on-error", *options, "-d", restored, tmp_path / "dump")
    await assert_whole(registry_url, restored)
    connection = await asyncpg.connect(restored)
    assert await connection.fetchval("select count(*) from platform.database_salts") == 2
    await connection.close()


@pytest.mark.usefixtures("filled")
async def test_a_dump_of_the_data_as_inserts_goes_there_too(
    registry_url: str, cluster: PostgreSQLServer, target: Callable[[str], str], tmp_path: Path
) -> None:
    restored = target("template0")
    for path in sorted((Path(__file__).parent.parent.parent / "schema").glob("0*.sql")):
        if "register" not in path.name:
            cluster.psql("-f", path, database=restored.rpartition("/")[2])
    dump = tmp_path / "dump.sql"
    program("pg_dump", "--data-only", "--column-inserts", "-f", dump, registry_url)
    program("psql", "-v", "ON_ERROR_STOP=1", "-q", "-f", dump, restored)
    await assert_whole(registry_url, restored)


async def test_a_ciphertext_without_its_mask_is_refused(owner: Any, project: UUID) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="comes with its mask"):
        await owner.execute(
            "insert into platform.databases (project_id, name, type, connection_string_encrypted)"
            " values ($1, 'n', 'redis', '\\x00')",
            project,
        )
