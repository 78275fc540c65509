"""The fleet's states follow the registry, and only what changed is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from testbed.fakes import make_result
from testbed.postgresql import PostgreSQLServer
from worker import fleet_series
from worker.errors import RegistryUnavailableError
from worker.fleet import Fleet
from worker.model import CheckResult, DatabaseState
from worker.refresh import CHANGES_BEFORE_ALL, Refresh
from worker.registry import Registry
from worker.registry_fleet import Facts, RegistryFleet
from worker.words import Status

Add = Callable[..., Awaitable[UUID]]
Rows = Callable[..., Awaitable[list[Any]]]
LIMIT = 5
OVERDUE_SECONDS = 60.0
ALL = None


@pytest.fixture(autouse=True, scope="module")
def _nobody_else_writes(cluster: PostgreSQLServer) -> Iterator[None]:
    """Keep autovacuum away: what it has under way, a refresh must read again."""
    cluster.execute("alter system set autovacuum = off")
    cluster.execute("select pg_reload_conf()")
    yield
    cluster.execute("alter system reset autovacuum")
    cluster.execute("select pg_reload_conf()")


class Watched:
    """A refresh, and what it read at each walk: since when, and how many rows."""

    def __init__(self, registry: RegistryFleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = Fleet(fleet_series.write)
        self.refresh = Refresh(registry, self.fleet, LIMIT, OVERDUE_SECONDS)
        self.run = self.refresh.run
        self.walks: list[tuple[bool, int]] = []
        states = registry.states

        async def watch(
            known: Mapping[UUID, DatabaseState], since: int | None
        ) -> AsyncIterator[Sequence[DatabaseState]]:
            rows = 0
            async for found in states(known, since):
                rows += len(found)
                yield found
            self.walks.append((since is ALL, rows))

        monkeypatch.setattr(registry, "states", watch)

    async def walked(self) -> list[tuple[bool, int]]:
        """Refresh, and tell of each walk whether it was of all, and how many rows came."""
        self.walks.clear()
        await self.run()
        return list(self.walks)

    def statuses(self) -> dict[UUID, Status]:
        return {key: state.status for key, state in self.fleet.states().items()}


@pytest.fixture
def watched(registry_fleet: RegistryFleet, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(registry_fleet, monkeypatch)


async def test_after_the_first_walk_only_rows_that_were_written_are_read(
    watched: Watched, add: Add, claim: Rows, record: Rows
) -> None:
    databases = [await add() for _ in range(3)]
    assert await watched.walked() == [(True, 3)]
    assert await watched.walked() == [(False, 0)]
    row, *_ = await claim(1)
    await record(row)
    new = await add()
    assert await watched.walked() == [(False, 2)]
    assert watched.statuses() == {
        **dict.fromkeys([*databases, new], Status.UNKNOWN),
        row["id"]: Status.HEALTHY,
    }
    assert await watched.walked() == [(False, 0)]


@pytest.mark.parametrize(
    "end", ["delete from platform.databases", "update platform.databases set status = 'inactive'"]
)
async def test_a_database_that_is_gone_or_inactive_is_shown_no_more_after_the_next_refresh(
    watched: Watched, add: Add, owner: Any, end: str
) -> None:
    kept, gone = await add(), await add()
    await watched.run()
    await owner.execute(f"{end} where id = $1", gone)
    assert await watched.walked() == [(False, 0), (True, 1)]
    assert set(watched.statuses()) == {kept}
    assert await watched.walked() == [(False, 0)]


async def test_one_that_came_while_another_went_is_shown_in_its_place(
    watched: Watched, add: Add, owner: Any
) -> None:
    gone = await add()
    await watched.run()
    await owner.execute("delete from platform.databases where id = $1", gone)
    new = await add()
    await watched.run()
    assert set(watched.statuses()) == {new}


async def test_what_was_under_way_at_the_last_refresh_is_read_once_it_is_committed(
    watched: Watched, add: Add, registry_url: str
) -> None:
    database = await add()
    somebody = await asyncpg.connect(registry_url)
    try:
        async with somebody.transaction():
            await somebody.execute("update platform.databases set health_check_status = 'degraded'")
            await add()  # a younger transaction, committed before the older one
            await watched.run()
            assert set(watched.statuses().values()) == {Status.UNKNOWN}
            assert await watched.walked() == [(False, 1)]
        assert await watched.walked() == [(False, 2)]
    finally:
        await somebody.close()
    assert watched.statuses()[database] is Status.DEGRADED


async def test_a_reason_that_only_the_schedule_tells_is_read(
    watched: Watched, add: Add, owner: Any
) -> None:
    await add()
    await watched.run()
    await owner.execute("update platform.database_schedules set latency_seconds = 0.25")
    assert await watched.walked() == [(False, 1)]
    assert [state.latency for state in watched.fleet.states().values()] == [0.25]


async def test_now_and_then_and_after_a_fault_all_is_read(
    watched: Watched, add: Add, registry_fleet: RegistryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add()
    walks = [await watched.walked() for _ in range(CHANGES_BEFORE_ALL + 2)]
    assert walks == [[(True, 1)], *([[(False, 0)]] * CHANGES_BEFORE_ALL), [(True, 1)]]

    async def fail() -> None:
        raise RegistryUnavailableError("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(registry_fleet, "count", fail)
        with pytest.raises(RegistryUnavailableError):
            await watched.run()
    assert await watched.walked() == [(True, 1)]


@pytest.mark.parametrize(
    "other",
    [
        lambda facts: replace(facts, transaction=facts.transaction + 1_000_000),
        lambda facts: replace(
            facts, server_started_at=facts.server_started_at - timedelta(hours=1)
        ),
    ],
    ids=["its transactions have smaller numbers", "it was started at another time"],
)
async def test_a_registry_in_whose_place_there_is_another_server_is_read_anew(
    watched: Watched, add: Add, other: Callable[[Facts], Facts]
) -> None:
    await add()
    await watched.run()
    assert watched.refresh._read is not None
    watched.refresh._read = other(watched.refresh._read)
    assert await watched.walked() == [(True, 1)]
    assert await watched.walked() == [(False, 0)]


async def test_an_edit_that_causes_no_check_shows_though_the_last_result_seemed_to_end_later(
    watched: Watched, add: Add, registry: Registry, owner: Any
) -> None:
    await add()
    await watched.run()
    (row,) = await registry.claim(1, 1)
    result = make_result(row)
    result = replace(result, finished=result.finished + 30)
    watched.fleet.lay(result)
    await watched.run()
    await registry.record([result])
    watched.fleet.note_recorded(result)
    await watched.run()
    await owner.execute("update platform.databases set name = 'renamed'")
    await watched.run()
    assert [state.identity.name for state in watched.fleet.states().values()] == ["renamed"]


async def test_a_row_whose_id_is_nil_is_read_like_any_other(
    watched: Watched, add: Add, worker: Any
) -> None:
    await add(id=UUID(int=0))
    await add()
    assert await watched.walked() == [(True, 2)]
    assert await watched.walked() == [(False, 0)]
    counted = await worker.fetch("select * from platform.count_slice_of_databases(null, 9)")
    assert [row["databases"] for row in counted] == [2]


async def test_a_result_newer_than_the_registrys_own_stays_until_the_registry_has_it(
    watched: Watched, add: Add, registry: Registry
) -> None:
    await add()
    await watched.run()
    (row,) = await registry.claim(1, 1)
    result: CheckResult = make_result(row)
    watched.fleet.lay(result)
    await watched.run()
    assert set(watched.statuses().values()) == {Status.HEALTHY}
    await registry.record([result])
    await watched.run()
    assert set(watched.statuses().values()) == {Status.HEALTHY}
    assert await watched.walked() == [(False, 0)]


async def test_a_fleet_that_grew_too_large_is_not_shown_and_read_from_its_beginning_afterwards(
    watched: Watched, add: Add, owner: Any
) -> None:
    first = [await add() for _ in range(LIMIT)]
    assert (await watched.run()).is_shown
    await add()
    survey = await watched.run()
    assert not survey.is_shown
    assert survey.counts == {("redis", Status.UNKNOWN): LIMIT + 1}
    assert not watched.statuses()
    await owner.execute("delete from platform.databases where id = $1", first[0])
    assert await watched.walked() == [(True, LIMIT)]


async def test_a_fleet_that_was_small_meanwhile_is_counted_from_its_beginning(
    watched: Watched, add: Add, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.refresh.COUNT_BATCH", 2)
    databases = sorted([await add() for _ in range(LIMIT + 1)])
    watched.refresh = Refresh(watched.refresh._registry, watched.fleet, LIMIT, OVERDUE_SECONDS)
    assert (await watched.refresh.run()).counts is None
    gone = databases[:2]
    await owner.execute("delete from platform.databases where id = any ($1)", gone)
    survey = await watched.refresh.run()
    assert survey.counts == {("redis", Status.UNKNOWN): LIMIT - 1}
    for _ in gone:
        await add()
    found = [(await watched.refresh.run()).counts for _ in range(4)]
    assert found == [None, None, None, {("redis", Status.UNKNOWN): LIMIT + 1}]


async def test_what_waits_for_longer_than_it_may_is_overdue(
    watched: Watched, add: Add, owner: Any
) -> None:
    await add()
    late = await add()
    await owner.execute(
        "update platform.database_schedules set due_at = now() - $2::interval"
        " where database_id = $1",
        late,
        timedelta(seconds=OVERDUE_SECONDS + 5),
    )
    assert (await watched.run()).overdue == 1
