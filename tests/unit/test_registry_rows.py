"""Words that only a newer worker knows: old and new ones work side by side during a deploy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from testbed.fakes import Lines
from testbed.worker import register
from worker.announce import Announcer
from worker.model import DatabaseState
from worker.registry import Registry
from worker.registry_fleet import RegistryFleet
from worker.words import Event, Reason, Status

NEWER = "asleep"


@pytest.fixture(autouse=True)
async def rows(owner: Any, registry_url: str) -> None:
    """Two rows, one of them written by a newer worker."""
    for name, reason in (("plain", "timeout"), ("newer", NEWER)):
        await register(registry_url, "redis", "redis://db.test", name=name)
        await owner.execute(
            "update platform.database_schedules set last_reason = $2 where database_id ="
            " (select id from platform.databases where name = $1)",
            name,
            reason,
        )


async def every_state(
    registry: RegistryFleet, known: Mapping[UUID, DatabaseState]
) -> list[DatabaseState]:
    return [state async for states in registry.states(known, None) for state in states]


async def widen_statuses(owner: Any) -> None:
    """Let a row have a status that a newer schema knows."""
    (constraint,) = [
        row["conname"]
        for row in await owner.fetch(
            "select conname, pg_get_constraintdef(oid) as rule from pg_constraint"
            " where conrelid = 'platform.databases'::regclass and contype = 'c'"
        )
        if "health_check_status" in row["rule"]
    ]
    await owner.execute(f"alter table platform.databases drop constraint {constraint}")
    await owner.execute(
        "update platform.databases set health_check_status = $1 where name = 'newer'", NEWER
    )


async def test_a_row_whose_last_reason_is_a_newer_workers_is_claimed_with_all_others(
    registry: Registry,
) -> None:
    claimed = {row.identity.name: row.last_reason for row in await registry.claim(9, 9)}
    assert claimed == {"plain": Reason.TIMEOUT, "newer": None}


async def test_a_row_whose_status_is_a_newer_workers_counts_as_unknown(
    registry: Registry, registry_fleet: RegistryFleet, owner: Any
) -> None:
    await widen_statuses(owner)
    assert await registry_fleet.count() == {("redis", Status.UNKNOWN): 2}
    states = await every_state(registry_fleet, {})
    assert {state.identity.name: state.reason for state in states} == {
        "plain": Reason.TIMEOUT,
        "newer": None,
    }
    claimed = {row.identity.name: row.status for row in await registry.claim(9, 9)}
    assert claimed == {"plain": Status.UNKNOWN, "newer": Status.UNKNOWN}


async def test_states_that_a_newer_worker_wrote_stay_the_same_objects_while_they_hold_still(
    registry_fleet: RegistryFleet,
) -> None:
    first = await every_state(registry_fleet, {})
    known = {state.identity.database_id: state for state in first}
    second = await every_state(registry_fleet, known)
    assert len(first) == 2
    assert all(known[state.identity.database_id] is state for state in second)


async def test_a_change_that_a_killed_newer_worker_left_is_told_in_its_own_words(
    registry: Registry, owner: Any
) -> None:
    await owner.execute(
        "insert into platform.database_health_changes"
        " (database_id, from_status, to_status, reason, error, at, announce_after)"
        " select id, case name when 'newer' then $1 else 'healthy' end, 'unhealthy',"
        "   case name when 'newer' then $1 else 'timeout' end, 'it is so', now(),"
        "   now() - interval '1 minute'"
        " from platform.databases",
        NEWER,
    )
    log = Lines()
    await Announcer(registry, log).adopt()
    told = {line.facts["name"]: line for line in log.of(Event.DATABASE_HEALTH_CHANGED)}
    assert told["plain"].facts["message"] == "plain is unhealthy: timeout"
    assert told["newer"].facts["message"] == f"newer is unhealthy: {NEWER}"
    assert told["newer"].facts["reason"] == NEWER
    assert told["newer"].facts["previous"] is Status.UNKNOWN
    assert await registry.unannounced() == []
    untold = "select count(*) from platform.database_health_changes where announced_at is null"
    assert await owner.fetchval(untold) == 0
