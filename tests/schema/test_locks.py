"""The commands `schema ...` beside somebody's open transaction."""

from __future__ import annotations

import os
import subprocess
import sys

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLServer


def schema(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", "schema", *words],
        env={
            "PATH": os.environ["PATH"],
            "SCHEMA_DATABASE_URL": url,
            "REGISTRY_TIMEOUT_SECONDS": "1",
        },
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


@pytest.mark.parametrize("words", [("apply",), ("verify",), ("rollback", "007")])
async def test_a_locked_table_ends_the_command_with_one_line_that_says_so(
    registry_url: str, words: tuple[str, ...]
) -> None:
    connection = await asyncpg.connect(registry_url)
    async with connection.transaction():
        await connection.execute("lock table platform.databases in access exclusive mode")
        done = schema(registry_url, *words)
    await connection.close()
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "another session has held a lock for longer than REGISTRY_TIMEOUT_SECONDS" in line
    assert schema(registry_url, "verify").returncode == 0, "nothing was changed"


@pytest.fixture
def slow_database_url(cluster: PostgreSQLServer, empty_database_url: str) -> str:
    """A database in which each new view takes longer than REGISTRY_TIMEOUT_SECONDS."""
    cluster.execute(
        "create function public.dawdle() returns event_trigger language plpgsql as"
        " $$ begin perform pg_sleep(1.5); end $$;"
        "create event trigger dawdle on ddl_command_start when tag in ('CREATE VIEW')"
        " execute function public.dawdle()",
        database=empty_database_url.rpartition("/")[2],
    )
    return empty_database_url


def test_what_waits_for_no_lock_is_given_its_time(slow_database_url: str) -> None:
    done = schema(slow_database_url, "apply")
    assert done.returncode == 0, done.stderr
