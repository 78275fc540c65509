"""The command `check` beside workers and open transactions, and when it cannot do everything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from testbed.misbehaving import MisbehavingServer, mute
from testbed.redis import RedisServer
from testbed.worker import eventually, health, register

Checking = subprocess.Popen[str]
Begin = Callable[..., Checking]
ONCE = '{"commandTimeout": 20000, "retryStrategy": {"maxAttempts": 1}}'
RECORD = "platform.record_check_results(jsonb)"


@pytest.fixture
def begin(worker_url: str) -> Iterator[Begin]:
    """health-worker check WORD..., which goes on while the test does something."""
    with ExitStack() as stack:

        def run(*words: str, **environment: str) -> Checking:
            checking = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "worker", "check", *words],
                    env={
                        "PATH": os.environ["PATH"],
                        "DATABASE_URL": worker_url,
                        "ALLOWED_NETWORKS": "127.0.0.1/32",
                        "CHECK_DEADLINE_SECONDS": "1",
                        **environment,
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(checking.kill)
            return checking

        yield run


async def finish(checking: Checking) -> tuple[int, str, str]:
    """Wait for its end: exit code, stdout, and the one line of stderr."""
    stdout, stderr = await asyncio.to_thread(checking.communicate, timeout=40)
    assert len(stderr.splitlines()) <= 1, stderr
    return checking.returncode, stdout, stderr


@asynccontextmanager
async def transaction(url: str, statement: str) -> AsyncIterator[asyncpg.transaction.Transaction]:
    """A statement of somebody who forgets to commit."""
    connection = await asyncpg.connect(url)
    forgotten = connection.transaction()
    await forgotten.start()
    await connection.execute(statement)
    yield forgotten
    await connection.close()


async def leased(owner: Any) -> int:
    """Count the rows that are leased."""
    return int(
        await owner.fetchval(
            "select count(*) from platform.database_schedules where leased_until is not null"
        )
    )


async def is_recorded(url: str, *names: str) -> bool:
    rows = await health(url)
    return all(rows[name][0] == "healthy" for name in names)


async def test_a_row_in_an_open_edit_keeps_no_other_from_being_checked_freed_and_shown(
    registry_url: str, owner: Any, redis_server: RedisServer, begin: Begin
) -> None:
    for name in ("edited", "one", "two"):
        await register(registry_url, "redis", redis_server.url(), name=name)
    edit = "update platform.databases set config = '{\"a\": 1}' where name = 'edited'"
    async with transaction(registry_url, edit):
        checking = begin("--json")

        async def others_are_free() -> bool:
            return await is_recorded(registry_url, "one", "two") and not await leased(owner)

        await eventually(others_are_free, "the others are recorded and no row stays leased", 8)
        assert checking.poll() is None, "it asks again for the row that it could not have"
        code, stdout, stderr = await finish(checking)
    assert [document["name"] for document in json.loads(stdout)] == ["one", "two"]
    assert code == 2
    assert stderr == (
        "health-worker: not checked, for it is leased by a worker or held by a transaction: "
        "edited\n"
    )


async def test_a_row_that_is_deleted_meanwhile_is_not_waited_for(
    registry_url: str, redis_server: RedisServer, begin: Begin
) -> None:
    for name in ("deleted", "kept"):
        await register(registry_url, "redis", redis_server.url(), name=name)
    delete = "delete from platform.databases where name = 'deleted'"
    async with transaction(registry_url, delete) as deletion:
        checking = begin(CHECK_DEADLINE_SECONDS="300")
        await eventually(lambda: is_recorded(registry_url, "kept"), "the other is recorded")
        await deletion.commit()
        code, stdout, stderr = await finish(checking)
    assert "kept" in stdout
    assert "deleted" not in stdout
    assert code == 2
    assert stderr == "health-worker: not checked, for it is no longer active: deleted\n"


async def test_no_more_rows_are_leased_than_are_checked_and_each_is_recorded_soon(
    registry_url: str, owner: Any, redis_server: RedisServer, begin: Begin
) -> None:
    with MisbehavingServer(mute) as server:
        silent = f"redis://127.0.0.1:{server.port}"
        await register(registry_url, "redis", silent, ONCE, name="silent")
        for number in range(4):
            await register(registry_url, "redis", redis_server.url(), name=f"well {number}")
        checking = begin(MAX_CONCURRENT_CHECKS="2", CHECK_DEADLINE_SECONDS="20")
        most = 0

        async def others_are_recorded() -> bool:
            nonlocal most
            most = max(most, await leased(owner))
            return await is_recorded(registry_url, *(f"well {number}" for number in range(4)))

        await eventually(others_are_recorded, "the others are recorded", 10)
        assert checking.poll() is None
        assert most <= 2

        async def one_is_leased() -> bool:
            return await leased(owner) == 1

        await eventually(one_is_leased, "only the one that is being checked is leased")


@pytest.mark.parametrize("table", ["databases", "database_schedules"])
async def test_a_refused_result_costs_no_other_row_its_place_in_the_table(
    registry_url: str, owner: Any, redis_server: RedisServer, begin: Begin, table: str
) -> None:
    for name in ("refused", "one", "two"):
        await register(registry_url, "redis", redis_server.url(), name=name)
    refused = await owner.fetchval("select id from platform.databases where name = 'refused'")
    key = {"databases": "id", "database_schedules": "database_id"}[table]
    changed = {"databases": "health_check_status", "database_schedules": "last_reason"}[table]
    await owner.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'not this one'; end $$;"
        f"create trigger refuse before update on platform.{table} for each row"
        f" when (new.{key} = '{refused}' and new.{changed} is distinct from old.{changed})"
        " execute function refuse()"
    )
    code, stdout, stderr = await finish(begin())
    assert all(name in stdout for name in ("refused", "one", "two"))
    assert code == 2
    assert stderr == ("health-worker: not recorded, for the registry refuses the result: refused\n")
    assert await is_recorded(registry_url, "one", "two")


async def test_what_a_transaction_keeps_from_being_recorded_is_shown_and_given_back(
    registry_url: str, owner: Any, redis_server: RedisServer, begin: Begin
) -> None:
    for name in ("held", "free"):
        await register(registry_url, "redis", redis_server.url(), name=name)
    hold = "select from platform.databases where name = 'held' for update"
    async with transaction(registry_url, hold):
        code, stdout, stderr = await finish(begin())
    assert "held" in stdout
    assert "free" in stdout
    assert code == 2
    assert stderr == "health-worker: not recorded, for a transaction holds the row: held\n"
    assert await is_recorded(registry_url, "free")
    assert await leased(owner) == 0


async def test_a_registry_that_is_lost_on_the_way_costs_neither_the_table_nor_a_lease(
    registry_url: str, owner: Any, redis_server: RedisServer, begin: Begin
) -> None:
    for name in ("one", "two"):
        await register(registry_url, "redis", redis_server.url(), name=name)
    result = await owner.fetchval(f"select pg_get_function_result('{RECORD}'::regprocedure)")
    await owner.execute(
        "create or replace function platform.record_check_results(results jsonb)"
        f" returns {result} language plpgsql security definer as"
        " $$ begin perform pg_terminate_backend(pg_backend_pid()); end $$"
    )
    code, stdout, stderr = await finish(begin())
    assert "one" in stdout
    assert "two" in stdout
    assert code == 2
    assert " cannot be used: " in stderr
    assert stderr.endswith("; not recorded: one, two\n")
    assert await leased(owner) == 0


async def test_an_interrupt_gives_back_what_is_not_recorded(
    registry_url: str, owner: Any, begin: Begin
) -> None:
    with MisbehavingServer(mute) as server:
        await register(registry_url, "redis", f"redis://127.0.0.1:{server.port}", ONCE)
        checking = begin(CHECK_DEADLINE_SECONDS="20")

        async def is_under_way() -> bool:
            return server.callers > 0

        await eventually(is_under_way, "the check runs")
        assert await leased(owner) == 1
        checking.send_signal(signal.SIGINT)
        code, stdout, stderr = await finish(checking)
        assert (code, stdout, stderr.strip()) == (1, "", "")
    assert await leased(owner) == 0
