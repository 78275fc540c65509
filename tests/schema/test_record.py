"""What a result changes: health, the next due time, and the history of changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from testbed.fakes import make_result
from worker import outbox
from worker.model import CheckResult
from worker.registry import Registry

MINUTE = timedelta(seconds=60)
Add = Callable[..., Awaitable[UUID]]
Rows = Callable[..., Awaitable[list[Any]]]
Due = Callable[..., Awaitable[None]]
Read = Callable[[UUID], Awaitable[Any]]


async def changes(owner: Any, database: UUID) -> list[tuple[str, str, str]]:
    found = await owner.fetch(
        "select from_status, to_status, reason from platform.database_health_changes"
        " where database_id = $1 order by change_id",
        database,
    )
    return [tuple(row) for row in found]


async def test_a_recorded_row_is_due_an_interval_after_the_slot_that_was_claimed(
    add: Add, claim: Rows, record: Rows, due: Due, schedule: Read
) -> None:
    database = await add()
    await due(database, 20)
    (row,) = await claim()
    (recorded,) = await record(row)
    assert recorded["outcome"] == "recorded"
    assert recorded["next_due"] == row["slot"] + MINUTE
    found = await schedule(database)
    assert (found["due_at"], found["leased_until"]) == (row["slot"] + MINUTE, None)
    assert (found["last_reason"], found["latency_seconds"]) == ("ok", 0.001)
    assert found["status"] == "healthy"


async def test_the_next_due_time_is_never_before_now(
    add: Add, claim: Rows, record: Rows, due: Due, schedule: Read
) -> None:
    database = await add()
    await due(database, 100, interval=1000)
    (row,) = await claim()
    (recorded,) = await record(row, interval_seconds=5)
    found = await schedule(database)
    assert row["claimed_at"] <= recorded["next_due"] <= found["now"]


@pytest.mark.parametrize("kind", ["first", "forced", "overdue"])
async def test_the_gap_after_a_first_forced_or_overdue_check_is_drawn_anew(
    add: Add, claim: Rows, record: Rows, due: Due, *, worker: Any, kind: str
) -> None:
    databases = [await add() for _ in range(100)]
    for database in databases:
        if kind != "first":
            await due(database, 31 if kind == "overdue" else -1000)
    if kind == "forced":
        forced = "select * from platform.claim_databases_by_id(null, '45 s')"
        rows = list(await worker.fetch(forced))
    else:
        rows = await claim(slots=100)
    started = {row["id"]: row["claimed_at"] for row in rows}
    recorded = await record(*rows)
    gaps = [(row["next_due"] - started[row["database_id"]]) / MINUTE for row in recorded]
    assert len(gaps) == 100
    assert 0.5 <= min(gaps) < 0.7
    assert 1.3 < max(gaps) <= 1.5


async def test_only_one_gap_is_drawn_and_every_later_one_is_the_interval(
    owner: Any, add: Add, claim: Rows, record: Rows
) -> None:
    await add()
    await record(*await claim())
    await owner.execute("update platform.database_schedules set due_at = now() - interval '1 s'")
    (row,) = await claim()
    (recorded,) = await record(row)
    assert recorded["next_due"] == row["slot"] + MINUTE


@pytest.mark.parametrize("reason", ["timeout", "dns", "unreachable", "refused", "ok"])
async def test_rows_that_took_all_their_time_are_slow_until_they_answer(
    add: Add, claim: Rows, record: Rows, schedule: Read, reason: str
) -> None:
    database = await add()
    await record(*await claim(), reason=reason, status="unhealthy")
    assert (await schedule(database))["slow"] == (reason in {"timeout", "dns", "unreachable"})


async def test_what_the_worker_calls_slow_is_slow_and_stays_so_for_a_while(
    add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    databases = [await add() for _ in range(60)]
    await record(*await claim(), slow=True)
    assert all([(await schedule(each))["slow"] for each in databases])
    await record(*await claim(horizon=1000), slow=False)
    still_slow = sum([(await schedule(each))["slow"] for each in databases])
    assert 20 < still_slow < 60, "three quarters of them, give or take"


async def test_a_change_is_a_row_and_no_change_is_none(
    owner: Any, add: Add, claim: Rows, record: Rows, due: Due
) -> None:
    database = await add()
    found = []
    for status, reason in (("healthy", "ok"), ("healthy", "ok"), ("unhealthy", "refused")):
        await due(database, 1)
        (recorded,) = await record(*await claim(), status=status, reason=reason)
        found.append((recorded["previous"], recorded["change_id"] is not None))
    assert found == [("unknown", True), ("healthy", False), ("healthy", True)]
    assert await changes(owner, database) == [
        ("unknown", "healthy", "ok"),
        ("healthy", "unhealthy", "refused"),
    ]


async def test_trouble_of_our_own_keeps_the_status_and_is_no_change(
    owner: Any, add: Add, claim: Rows, record: Rows, due: Due, *, schedule: Read
) -> None:
    database = await add()
    await record(*await claim())
    await due(database, 1)
    (recorded,) = await record(*await claim(), status=None, reason="internal", error="internal: x")
    assert (recorded["outcome"], recorded["change_id"]) == ("recorded", None)
    found = await schedule(database)
    assert (found["status"], found["last_reason"]) == ("healthy", "internal")
    assert await changes(owner, database) == [("unknown", "healthy", "ok")]


async def test_a_result_older_than_the_stored_one_changes_nothing_and_hears_what_is_kept(
    owner: Any, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    database = await add()
    (row,) = await claim()
    await record(row)
    for checked_at in (row["claimed_at"], row["claimed_at"] + timedelta(microseconds=1)):
        (late,) = await record(row, status="unhealthy", reason="timeout", checked_at=checked_at)
        assert (late["outcome"], late["change_id"]) == ("kept", None)
        assert (late["previous"], late["kept_status"]) == ("healthy", "healthy")
        assert late["kept_error"] is None
    found = await schedule(database)
    assert (found["status"], found["last_reason"], found["slow"]) == ("healthy", "ok", False)
    assert await changes(owner, database) == [("unknown", "healthy", "ok")]


async def test_a_result_that_is_older_than_a_failure_hears_its_error(
    add: Add, claim: Rows, record: Rows
) -> None:
    await add()
    (row,) = await claim()
    await record(row, status="unhealthy", reason="refused", error="refused: nobody there")
    (late,) = await record(row)
    assert (late["kept_status"], late["kept_error"]) == ("unhealthy", "refused: nobody there")


async def test_a_change_whose_answer_was_lost_is_told_again_until_it_is_announced(
    worker: Any, add: Add, claim: Rows, record: Rows
) -> None:
    await add()
    (row,) = await claim()
    down: dict[str, object] = {"status": "unhealthy", "reason": "refused"}
    (unheard,) = await record(row, **down)
    await record(row, checked_at=row["claimed_at"] + timedelta(microseconds=2))
    (again,) = await record(row, **down)
    assert (again["outcome"], again["change_id"]) == ("kept", unheard["change_id"])
    assert (again["previous"], again["kept_status"]) == ("unknown", "healthy")
    await worker.execute("select platform.mark_changes_announced($1)", [unheard["change_id"]])
    (last,) = await record(row, **down)
    assert (last["outcome"], last["change_id"]) == ("kept", None)


async def test_a_result_of_the_row_before_one_made_anew_under_its_id_is_dropped(
    owner: Any, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    database = await add()
    rows = await claim()
    made = await owner.fetchval("delete from platform.databases returning created_at")
    await add(id=database, created_at=made)
    (late,) = await record(*rows, status="unhealthy", reason="timeout")
    assert late["outcome"] == "edited"
    assert (await schedule(database))["status"] == "unknown"
    assert [row["id"] for row in await claim()] == [database]


async def test_a_worker_of_an_earlier_build_records_all_the_same(
    owner: Any, add: Add, claim: Rows, record: Rows
) -> None:
    database = await add()
    (recorded,) = await record(*await claim(), function="record_database_health")
    assert (recorded["outcome"], recorded["previous"]) == ("recorded", "unknown")
    assert await changes(owner, database) == [("unknown", "healthy", "ok")]


async def test_a_result_of_an_older_revision_is_dropped(
    owner: Any, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    database = await add(connection_string="redis://:old@h")
    (row,) = await claim()
    await owner.execute("update platform.databases set connection_string = 'redis://:new@h'")
    before = await schedule(database)
    (recorded,) = await record(row)
    assert (recorded["outcome"], recorded["next_due"]) == ("edited", None)
    after = await schedule(database)
    assert after["status"] == "unknown"
    assert after["due_at"] == before["due_at"]
    assert await changes(owner, database) == []


async def test_results_of_rows_that_are_gone_or_inactive_are_settled_without_a_trace(
    owner: Any, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    deleted, inactive = await add(), await add()
    rows = await claim()
    await owner.execute("delete from platform.databases where id = $1", deleted)
    await owner.execute("update platform.databases set status = 'inactive'")
    recorded = await record(*rows)
    assert {row["database_id"]: row["outcome"] for row in recorded} == {
        deleted: "gone",
        inactive: "gone",
    }
    assert (await schedule(inactive))["status"] == "unknown"
    (never,) = await record({**rows[0], "id": uuid4()})
    assert never["outcome"] == "gone"


async def test_a_result_that_lost_its_lease_is_written_but_leaves_the_newer_lease(
    add: Add, claim: Rows, record: Rows, due: Due, schedule: Read
) -> None:
    database = await add()
    (lost,) = await claim()
    await due(database, 1)
    (held,) = await claim()
    (recorded,) = await record(lost)
    assert recorded["outcome"] == "recorded"
    found = await schedule(database)
    assert found["status"] == "healthy"
    assert found["leased_until"] == held["leased_until"]
    assert await claim() == []


async def test_a_row_without_a_schedule_is_recorded(
    owner: Any, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    database = await add()
    rows = await claim()
    await owner.execute("delete from platform.database_schedules")
    (recorded,) = await record(*rows)
    assert (recorded["outcome"], recorded["next_due"]) == ("recorded", None)
    assert (await schedule(database))["status"] == "healthy"


async def test_of_two_results_of_a_row_in_one_batch_the_last_counts(
    owner: Any, add: Add, claim: Rows, record: Rows
) -> None:
    database = await add()
    (row,) = await claim()
    recorded = await record(row, row)
    assert len(recorded) == 1
    assert await changes(owner, database) == [("unknown", "healthy", "ok")]


@pytest.mark.parametrize(
    "poison", [{"status": "bogus"}, {"error": "a\0b"}, {"error": "\ud800"}, {"revision": "x"}]
)
async def test_a_batch_that_is_refused_for_its_data_writes_nothing(
    add: Add, claim: Rows, record: Rows, schedule: Read, poison: dict[str, object]
) -> None:
    database = await add()
    rows = await claim()
    with pytest.raises(asyncpg.PostgresError):
        await record(*rows, **poison)
    assert (await schedule(database))["status"] == "unknown"
    assert len(await record(*rows)) == 1


async def unannounced(worker: Any, seconds: float) -> list[Any]:
    return list(
        await worker.fetch(
            "select * from platform.claim_unannounced_changes($1, 99)", timedelta(seconds=seconds)
        )
    )


async def test_what_stays_unannounced_for_30_s_any_worker_takes_once_and_again_later(
    owner: Any, add: Add, claim: Rows, record: Rows, worker: Any
) -> None:
    database = await add(name="n")
    (recorded,) = await record(*await claim(), status="unhealthy", reason="auth", error="auth: x")
    assert await unannounced(worker, 30) == []
    wait = "update platform.database_health_changes set announce_after = now() - interval '31 s'"
    await owner.execute(wait)
    (change,) = await unannounced(worker, 30)
    assert change["change_id"] == recorded["change_id"]
    assert (change["database_id"], change["name"], change["engine"]) == (database, "n", "redis")
    assert (change["previous"], change["status"]) == ("unknown", "unhealthy")
    assert (change["reason"], change["error"]) == ("auth", "auth: x")
    assert await unannounced(worker, 30) == []
    await owner.execute(wait)
    assert len(await unannounced(worker, 30)) == 1
    mark = "select platform.mark_changes_announced($1)"
    assert await worker.fetchval(mark, [change["change_id"]]) == 1
    assert await worker.fetchval(mark, [change["change_id"]]) == 0
    await owner.execute(wait)
    assert await unannounced(worker, 30) == []


async def test_a_change_that_is_found_unannounced_behind_a_later_one_is_superseded(
    owner: Any, add: Add, claim: Rows, record: Rows, worker: Any
) -> None:
    await add()
    (row,) = await claim()
    later: dict[str, object] = {"checked_at": row["claimed_at"] + timedelta(microseconds=2)}
    (first,) = await record(row, status="unhealthy", reason="auth")
    (second,) = await record(row, **later)
    wait = "update platform.database_health_changes set announce_after = now() - interval '31 s'"
    await owner.execute(wait)
    found = await unannounced(worker, 30)
    assert [(change["change_id"], change["is_superseded"]) for change in found] == [
        (first["change_id"], False),
        (second["change_id"], False),
    ], "both are told in their order"
    await worker.execute("select platform.mark_changes_announced($1)", [second["change_id"]])
    await owner.execute(wait)
    (change,) = await unannounced(worker, 30)
    assert (change["change_id"], change["is_superseded"]) == (first["change_id"], True)


async def test_the_snapshot_shows_the_active_fleet_and_the_counts_go_through_all_of_it(
    add: Add, claim: Rows, record: Rows, due: Due, *, worker: Any
) -> None:
    checked, late = await add(), await add()
    await add(status="inactive")
    await due(late, 100)
    await record(*[row for row in await claim() if row["id"] == checked])
    await due(late, 100)
    snapshot = "select * from platform.database_health_snapshot($1, 1)"
    first, second = sorted((checked, late))
    whole = [*await worker.fetch(snapshot, None), *await worker.fetch(snapshot, first)]
    assert await worker.fetch(snapshot, second) == []
    assert {row["database_id"]: (row["status"], row["reason"]) for row in whole} == {
        checked: ("healthy", "ok"),
        late: ("unknown", None),
    }
    larger = "select platform.has_more_databases_than($1)"
    assert [await worker.fetchval(larger, number) for number in (1, 2)] == [True, False]
    counts: Counter[tuple[str, str | None]] = Counter()
    after = None
    while slice_ := await worker.fetch(
        "select * from platform.count_slice_of_databases($1, 2)", after
    ):
        after = slice_[0]["last_id"]
        counts.update({(row["engine"], row["status"]): row["databases"] for row in slice_})
    assert counts == {("redis", "healthy"): 1, ("redis", "unknown"): 1, ("redis", None): 1}
    overdue = "select platform.count_overdue_databases($1)"
    assert await worker.fetchval(overdue, timedelta(seconds=90)) == 1
    assert await worker.fetchval(overdue, timedelta(seconds=110)) == 0


@pytest.mark.parametrize(
    ("table", "key", "recorded"),
    [("databases", "id", 3), ("database_schedules", "database_id", 2)],
)
async def test_a_row_that_a_trigger_refuses_keeps_no_other_result_out(
    owner: Any, add: Add, registry: Registry, *, table: str, key: str, recorded: int
) -> None:
    databases = [await add() for _ in range(3)]
    rows = await registry.claim(99, 99)
    await owner.execute(
        "create function pg_temp.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'this row is held'; end $$"
    )
    await owner.execute(
        f"create trigger refuse before update on platform.{table} for each row"
        f" when (new.{key} = '{databases[1]}') execute function pg_temp.refuse()"
    )
    try:
        results = [make_result(row, interval=60) for row in rows]
        refused: list[CheckResult] = []
        told = await outbox.record(registry, results, refused.append)
    finally:
        await owner.execute(f"drop trigger refuse on platform.{table}")
    assert len(told) == recorded
    assert [result.identity.database_id for result in refused] == [databases[1]]
    found = await owner.fetch("select id, health_check_status from platform.databases")
    assert {row["id"] for row in found if row["health_check_status"] == "healthy"} == {
        databases[0],
        databases[2],
    }
