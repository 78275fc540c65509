"""Several replicas and somebody's open transaction on the same rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from testbed.fakes import FakeMeter, Lines
from testbed.worker import eventually
from worker.errors import RegistryUnavailableError
from worker.registry import Pace, Registry
from worker.registry_connection import MAX_CONNECTIONS, RegistryConnection
from worker.registry_troubles import FIRST_BACK_OFF_SECONDS

LEASE = timedelta(seconds=45)
BACKENDS = (
    "select count(*) from pg_stat_activity"
    " where application_name = 'database-health-worker' and datname = current_database()"
)
Add = Callable[..., Awaitable[UUID]]
Rows = Callable[..., Coroutine[Any, Any, list[Any]]]
Due = Callable[..., Awaitable[None]]
Read = Callable[[UUID], Awaitable[Any]]


@pytest.fixture
async def replicas(worker_url: str) -> AsyncIterator[list[Any]]:
    """Connections of four replicas, none of which waits for a lock longer than 5 s."""
    connections = [
        await asyncpg.connect(worker_url, server_settings={"lock_timeout": "5s"}) for _ in range(4)
    ]
    yield connections
    for connection in connections:
        await connection.close()


@pytest.fixture
async def somebody(registry_url: str) -> AsyncIterator[Any]:
    """The owner in an open transaction, rolled back at the end."""
    connection = await asyncpg.connect(registry_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await connection.close()


async def test_claimers_at_once_share_the_rows_and_none_is_claimed_twice(
    add: Add, claim: Rows, replicas: list[Any]
) -> None:
    databases = [await add() for _ in range(200)]

    async def take(connection: Any) -> list[UUID]:
        taken: list[UUID] = []
        while rows := await claim(slots=7, connection=connection):
            taken += [row["id"] for row in rows]
        return taken

    shares = await asyncio.gather(*map(take, replicas))
    assert sorted(id_ for share in shares for id_ in share) == sorted(databases)
    assert all(shares)


async def test_batches_recorded_at_once_in_opposite_order_neither_deadlock_nor_lose_a_result(
    add: Add, claim: Rows, record: Rows, replicas: list[Any]
) -> None:
    for _ in range(60):
        await add()
    rows = await claim()
    for number in range(40):
        later = rows[0]["claimed_at"] + timedelta(microseconds=number)
        batches = await asyncio.gather(
            record(*rows, connection=replicas[0], checked_at=later),
            record(*reversed(rows), connection=replicas[1], checked_at=later),
        )
        recorded = {row["database_id"] for batch in batches for row in batch}
        assert len(recorded) == 60


async def test_replicas_doing_everything_at_once_meet_no_deadlock(
    owner: Any, add: Add, claim: Rows, record: Rows, replicas: list[Any]
) -> None:
    for _ in range(40):
        await add(connection_string="redis://:s@h")

    async def replica(connection: Any, seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(25):
            rows = await claim(slots=20, connection=connection)
            await connection.fetch(
                "select * from platform.tend_database_schedules(null, 500, $1, now() + $2)",
                LEASE,
                timedelta(hours=dice.choice((-1, 0, 1))),
            )
            dice.shuffle(rows)
            await record(
                *rows[::2], connection=connection, interval_seconds=5, reason=dice.choice("ab")
            )
            given = "select platform.give_back_databases(jsonb_agg(r)) from unnest($1::jsonb[]) r"
            await connection.fetch(
                given,
                [
                    f'{{"database_id": "{row["id"]}", "slot": "{row["slot"].isoformat()}",'
                    f' "leased_until": "{row["leased_until"].isoformat()}"}}'
                    for row in rows[1::2]
                ],
            )
            await connection.fetch(
                "select * from platform.claim_unannounced_changes(interval '0', 50)"
            )

    async def user() -> None:
        for number in range(40):
            await owner.execute(
                "update platform.databases set config = jsonb_build_object('n', $1::int),"
                " connection_string = 'redis://:s' || $1 || '@h' where random() < 0.2",
                number,
            )

    await asyncio.gather(user(), *(replica(c, seed) for seed, c in enumerate(replicas)))


@pytest.mark.parametrize(
    "statement",
    [
        "update platform.databases set config = '{\"a\": 1}' where id = $1",
        "update platform.databases set health_check_error = 'x' where id = $1",
        "select from platform.databases where id = $1 for update",
        "delete from platform.databases where id = $1",
        "update platform.databases set status = 'inactive' where id = $1",
    ],
)
async def test_a_row_held_by_an_open_transaction_holds_up_no_other(
    add: Add, claim: Rows, record: Rows, *, somebody: Any, replicas: list[Any], statement: str
) -> None:
    held, free = await add(), await add()
    rows = await claim()
    assert len(rows) == 2
    await somebody.execute(statement, held)
    recorded = await record(*rows, connection=replicas[0])
    assert [row["database_id"] for row in recorded] == [free]
    tended = "select * from platform.tend_database_schedules(null, 500, '45 s', now() + '1 h')"
    await replicas[0].fetch(tended)
    await replicas[0].fetch("select * from platform.claim_databases_by_id(null, '45 s')")
    assert await claim(connection=replicas[0]) == []


async def test_a_due_row_held_by_an_open_transaction_holds_up_no_claim(
    add: Add, claim: Rows, somebody: Any, replicas: list[Any]
) -> None:
    held, free = await add(connection_string="redis://:s@h"), await add()
    await somebody.execute(
        "update platform.databases set connection_string = 'redis://:t@h' where id = $1", held
    )
    assert [row["id"] for row in await claim(connection=replicas[0])] == [free]


@pytest.mark.parametrize(
    "statement",
    [
        "update platform.databases set config = '{\"a\": 1}' where id = $1",
        "delete from platform.databases where id = $1",
    ],
)
async def test_a_held_row_without_a_schedule_holds_up_nobody(
    owner: Any, add: Add, claim: Rows, *, somebody: Any, replicas: list[Any], statement: str
) -> None:
    held, free = await add(), await add()
    await owner.execute("delete from platform.database_schedules")
    await somebody.execute(statement, held)
    tended = "select * from platform.tend_database_schedules(null, 500, '45 s', null)"
    await replicas[0].fetch(tended)
    assert [row["id"] for row in await claim(connection=replicas[0])] == [free]
    forced = "select * from platform.claim_databases_by_id(null, interval '0')"
    await replicas[0].fetch(forced)


async def test_a_held_result_stays_pending_and_is_judged_by_what_was_committed(
    registry_url: str, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    database = await add(connection_string="redis://:old@h")
    rows = await claim()
    somebody = await asyncpg.connect(registry_url)
    async with somebody.transaction():
        await somebody.execute(
            "update platform.databases set connection_string = 'redis://:new@h' where id = $1",
            database,
        )
        assert await record(*rows) == []
    await somebody.close()
    (recorded,) = await record(*rows)
    assert recorded["outcome"] == "edited"
    assert (await schedule(database))["status"] == "unknown"


async def test_a_lease_taken_while_a_result_is_being_recorded_stays(
    registry_url: str, owner: Any, add: Add, claim: Rows, record: Rows, *, schedule: Read
) -> None:
    database = await add()
    rows = await claim()
    other = await asyncpg.connect(registry_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(
        "update platform.database_schedules set leased_until = now() + interval '99 s',"
        " due_at = now() + interval '99 s' where database_id = $1",
        database,
    )
    recording = asyncio.create_task(record(*rows))

    async def waits() -> bool:
        waiting = "select count(*) from pg_locks where not granted"
        return bool(await owner.fetchval(waiting))

    await eventually(waits, "the recording waits for the row")
    await transaction.commit()
    (recorded,) = await recording
    await other.close()
    assert recorded["outcome"] == "recorded"
    found = await schedule(database)
    assert found["leased_until"] > found["now"] + timedelta(seconds=60)
    assert found["due_at"] == found["leased_until"]


async def test_changes_are_taken_by_one_of_two_announcers(
    owner: Any, add: Add, claim: Rows, record: Rows, replicas: list[Any]
) -> None:
    for _ in range(60):
        await add()
    await record(*await claim())
    await owner.execute(
        "update platform.database_health_changes set announce_after = now() - interval '31 s'"
    )
    take = "select change_id from platform.claim_unannounced_changes(interval '30 s', 40)"
    taken = await asyncio.gather(*(replica.fetch(take) for replica in replicas))
    ids = [row["change_id"] for rows in taken for row in rows]
    assert len(ids) == len(set(ids))


async def test_a_held_row_holds_up_no_lease_that_is_given_back(
    add: Add, claim: Rows, *, somebody: Any, replicas: list[Any], schedule: Read
) -> None:
    held, free = await add(), await add()
    rows = await claim()
    await somebody.execute(
        "update platform.databases set config = '{\"a\": 1}' where id = $1", held
    )
    leases = ", ".join(
        f'{{"database_id": "{row["id"]}", "slot": "{row["slot"].isoformat()}",'
        f' "leased_until": "{row["leased_until"].isoformat()}"}}'
        for row in rows
    )
    give = "select platform.give_back_databases($1)"
    assert await replicas[0].fetchval(give, f"[{leases}]") == 1
    assert (await schedule(free))["leased_until"] is None


CALLS = (
    "platform.tend_database_schedules(null, 9, '45 s', null)",
    "platform.claim_databases(9, 9, '1 s', '45 s')",
    "platform.claim_databases_by_id(null, '45 s')",
    "platform.claim_known_databases('{}', '1 s', '45 s')",
    "platform.read_databases(null)",
    "platform.record_check_results($$[{DATABASE}]$$)",
    "platform.give_back_databases($$[{DATABASE}]$$)",
    "platform.has_more_databases_than(9)",
    "platform.database_health_snapshot(null, 9)",
    "platform.count_active_databases()",
    "platform.count_slice_of_databases(null, 9)",
    "platform.count_overdue_databases('1 s')",
    "platform.claim_unannounced_changes('0', 9)",
    "platform.mark_changes_announced('{1}')",
)


async def test_no_call_waits_for_long_at_the_server_while_somebody_locks_the_tables(
    add: Add, somebody: Any, worker_url: str
) -> None:
    database = f'{{"database_id": "{await add()}"}}'
    await somebody.execute(
        "lock platform.databases, platform.database_schedules, platform.database_health_changes"
    )

    async def call(words: str) -> None:
        connection = await asyncpg.connect(worker_url)
        try:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.fetch(f"select * from {words.replace('{DATABASE}', database)}")
        finally:
            connection.terminate()

    async with asyncio.timeout(8):
        await asyncio.gather(*map(call, CALLS))


async def test_calls_that_a_lock_held_up_leave_no_backend_behind_that_waits_on(
    somebody: Any, worker_url: str, owner: Any
) -> None:
    async def connected() -> None:
        return

    connection = RegistryConnection(worker_url, 6, Lines(), FakeMeter(), connected)
    registry = Registry(connection, Pace.of(1, 30))
    await registry.tend()
    await somebody.execute("lock platform.databases, platform.database_schedules")

    def call() -> asyncio.Future[Any]:
        calls = (registry.tend(), registry.claim(9, 9), registry.read(None), registry.claim(9, 9))
        return asyncio.gather(*calls, return_exceptions=True)

    assert {type(failure) for failure in await call()} == {RegistryUnavailableError}
    await asyncio.sleep(FIRST_BACK_OFF_SECONDS)
    again = call()
    await asyncio.sleep(0.5)
    assert await owner.fetchval(BACKENDS) == MAX_CONNECTIONS
    await connection.close()
    await again
