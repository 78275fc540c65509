"""No statement of the steady state reads a large table from end to end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from testbed.explained import explaining, nodes, read_whole

TABLES = frozenset({"databases", "database_schedules", "database_health_changes"})
LEASE = timedelta(seconds=45)
AHEAD = timedelta(minutes=2)
BATCH = 500


async def claim(connection: Any) -> list[Any]:
    rows: list[Any] = await connection.fetch(
        "select * from platform.claim_databases($1, $1, $2, $3)", BATCH, AHEAD, LEASE
    )
    return rows


def results(rows: Sequence[Mapping[str, Any]], status: str = "healthy") -> str:
    return json.dumps(
        [
            {
                "database_id": str(row["id"]),
                "revision": row["revision"],
                "slot": row["slot"].isoformat(),
                "leased_until": row["leased_until"].isoformat(),
                "started_at": row["claimed_at"].isoformat(),
                "checked_at": row["claimed_at"].isoformat(),
                "status": status,
                "reason": "ok" if status == "healthy" else "refused",
                "error": None,
                "latency_seconds": 0.001,
                "interval_seconds": 3600,
            }
            for row in rows
        ]
    )


async def record(connection: Any, given: str) -> list[Any]:
    rows: list[Any] = await connection.fetch(
        "select * from platform.record_check_results($1)", given
    )
    return rows


async def test_a_claim_goes_by_what_is_due(large_registry: Any) -> None:
    async with explaining(large_registry) as plans:
        rows = await claim(large_registry)
    assert len(rows) == BATCH
    assert read_whole(plans, TABLES) == []
    indexes = {node.get("Index Name") for plan in plans for node in nodes(plan)}
    assert "idx_database_schedules_slow_due_at" in indexes


async def test_a_claim_among_known_rows_goes_by_id(large_registry: Any) -> None:
    rows = await large_registry.fetch(
        "select database_id from platform.database_schedules order by due_at limit $1", BATCH
    )
    async with explaining(large_registry) as plans:
        claimed = await large_registry.fetch(
            "select * from platform.claim_known_databases($1, $2, $3)",
            [row["database_id"] for row in rows],
            AHEAD,
            LEASE,
        )
    assert len(claimed) == BATCH
    assert read_whole(plans, TABLES) == []


@pytest.mark.parametrize("status", ["healthy", "unhealthy"])
async def test_a_record_goes_by_id_and_compares_no_row_with_every_other(
    large_registry: Any, status: str
) -> None:
    given = results(await claim(large_registry), status)
    async with explaining(large_registry) as plans:
        assert len(await record(large_registry, given)) == BATCH
    assert read_whole(plans, TABLES) == []
    worst = max(
        node.get("Rows Removed by Join Filter", 0) for plan in plans for node in nodes(plan)
    )
    assert worst < BATCH


async def test_a_result_of_a_row_that_is_gone_makes_no_other_plan(
    large_registry: Any,
) -> None:
    rows = [dict(row) for row in await claim(large_registry)]
    rows[0]["id"] = uuid4()
    async with explaining(large_registry) as plans:
        recorded = await record(large_registry, results(rows))
    outcomes = {row["database_id"]: row["outcome"] for row in recorded}
    assert outcomes[rows[0]["id"]] == "gone"
    assert read_whole(plans, TABLES) == []


@pytest.mark.parametrize("after", [None, UUID(int=2**127)])
async def test_tending_the_schedule_looks_at_its_part_alone(
    large_registry: Any, after: UUID | None
) -> None:
    async with explaining(large_registry) as plans:
        await large_registry.fetch(
            "select * from platform.tend_database_schedules($1, $2, $3, now())",
            after,
            BATCH,
            LEASE,
        )
    assert read_whole(plans, TABLES) == []


async def test_giving_back_goes_by_id(large_registry: Any) -> None:
    leases = [
        {
            "database_id": str(row["id"]),
            "leased_until": row["leased_until"].isoformat(),
            "slot": row["slot"].isoformat(),
        }
        for row in await claim(large_registry)
    ]
    async with explaining(large_registry) as plans:
        await large_registry.fetch("select platform.give_back_databases($1)", json.dumps(leases))
    assert read_whole(plans, TABLES) == []


@pytest.mark.parametrize(
    "statement",
    [
        "select platform.has_more_databases_than(1000)",
        "select * from platform.count_slice_of_databases(null, 1000)",
        "select * from platform.database_health_snapshot(null, 500)",
        "select * from platform.database_health_snapshot(null, 500, '1')",
        "select platform.count_overdue_databases(interval '5 s')",
        "select * from platform.claim_unannounced_changes(interval '30 s', 500)",
        "select platform.mark_changes_announced(array[1, 2, 3])",
    ],
)
async def test_a_refresh_reads_no_table_whole(large_registry: Any, statement: str) -> None:
    await record(large_registry, results(await claim(large_registry), "unhealthy"))
    await large_registry.execute("analyze platform.database_health_changes")
    async with explaining(large_registry) as plans:
        await large_registry.fetch(statement)
    assert plans
    assert read_whole(plans, TABLES) == []


async def test_a_small_fleet_among_many_inactive_rows_is_found_by_its_index(
    large_registry: Any,
) -> None:
    await large_registry.execute(
        "update platform.databases set status = 'inactive' where name not like '% 1%5'"
    )
    await large_registry.execute("analyze platform.databases")
    active = await large_registry.fetchval(
        "select count(*) from platform.databases where status = 'active'"
    )
    assert active > BATCH
    snapshot = "select * from platform.database_health_snapshot(null, $1, $2)"
    for since in (None, 3):
        async with explaining(large_registry) as plans:
            await large_registry.fetch(snapshot, BATCH, since)
        found = [node for plan in plans for node in nodes(plan)]
        assert "idx_databases_status" in {node.get("Index Name") for node in found}
        assert max(node["Actual Rows"] for node in found) <= active


async def test_only_what_is_active_is_counted_a_slice_at_a_time(large_registry: Any) -> None:
    await large_registry.execute(
        "update platform.databases set status = 'inactive' where name like 'redis 1%'"
    )
    expected = await large_registry.fetchval(
        "select count(*) from platform.databases where status = 'active'"
    )
    found, after = 0, None
    while True:
        rows = await large_registry.fetch(
            "select * from platform.count_slice_of_databases($1, 7000)", after
        )
        found += sum(row["databases"] for row in rows if row["status"] is not None)
        if sum(row["databases"] for row in rows) < 7000:
            break
        after = rows[0]["last_id"]
    assert found == expected
