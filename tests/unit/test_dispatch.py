"""Slots, outages and the drain, on a registry in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from testbed.fakes import (
    FakeChecker,
    FakeMeter,
    FakeRegistry,
    Lines,
    make_result,
    make_row,
    renewed,
)
from worker import fleet_series
from worker.announce import Announcer
from worker.deliver import Sinks
from worker.dispatch import CUT_OFF_PATIENCE_SECONDS, PATIENCE_SECONDS, Dispatcher
from worker.errors import RegistryUnavailableError
from worker.fleet import Fleet
from worker.handover import GATHER_SECONDS
from worker.model import CheckResult, RawRow
from worker.outbox import Outbox
from worker.words import Event, Reason


class Bench:
    def __init__(
        self,
        slots: int = 4,
        registry: FakeRegistry | None = None,
        meter: FakeMeter | None = None,
    ) -> None:
        self.registry = registry or FakeRegistry()
        self.checker = FakeChecker()
        self.log = Lines()
        meter, fleet = meter or FakeMeter(), Fleet(fleet_series.write)
        sinks = Sinks(meter, self.log, fleet)
        announcer = Announcer(self.registry, self.log)
        self.outbox = Outbox(self.registry, announcer, fleet, meter, sinks.complain)
        self.dispatcher = Dispatcher(self.registry, self.checker, self.outbox, sinks, slots)

    async def remember(self) -> RawRow:
        """Check a row once."""
        row = make_row()
        self.registry.due = [row]
        await self.dispatcher.tick()
        await self.until(lambda: len(self.log.of(Event.CHECK_FINISHED)) == 1)
        return row

    def make_due(self, row: RawRow) -> None:
        """Let a remembered row be due since its slot."""
        waited = (row.lease.slot - row.lease.claimed_at).total_seconds()
        due = row.lease.claimed_monotonic + waited
        self.outbox._memory.schedule(row.identity.database_id, due)

    async def suffer_an_outage(self, lasting: float) -> None:
        """Take the registry away for a tick that seems to last so many seconds."""
        self.registry.is_away = True
        await self.dispatcher.tick()
        assert self.dispatcher._is_cut_off
        self.dispatcher._claims._away_since = time.monotonic() - lasting
        self.registry.is_away = False

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(500):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("waited five seconds in vain")


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_tick_does_not_wait_for_checks(bench: Bench) -> None:
    bench.checker.gate.clear()
    bench.registry.due = [make_row() for _ in range(3)]
    async with asyncio.timeout(1):
        await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 3)


async def test_a_check_starts_at_its_due_time(bench: Bench) -> None:
    bench.registry.due = [make_row(due_in=0.3)]
    began = time.monotonic()
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 1)
    assert 0.25 < time.monotonic() - began < 2


async def test_rows_that_are_slow_to_find_get_half_of_the_slots(bench: Bench) -> None:
    bench.checker.gate.clear()
    bench.registry.due = [make_row(reason=Reason.TIMEOUT) for _ in range(9)]
    await bench.dispatcher.tick()
    await bench.dispatcher.tick()
    bench.registry.due += [make_row(), make_row()]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 4)
    reasons = [row.last_reason for row in bench.checker.checked]
    assert reasons.count(Reason.TIMEOUT) == 2


async def test_slow_rows_that_are_due_keep_their_half_of_the_slots_busy(bench: Bench) -> None:
    bench.registry.due = [make_row(reason=Reason.TIMEOUT) for _ in range(20)]
    refill = asyncio.create_task(bench.dispatcher.refill())
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 20)
    refill.cancel()


async def test_more_is_claimed_as_soon_as_a_quarter_of_the_slots_is_free(bench: Bench) -> None:
    bench.registry.due = [make_row() for _ in range(40)]
    refill = asyncio.create_task(bench.dispatcher.refill())
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 40)
    refill.cancel()


class Counting(FakeRegistry):
    """Counts its claims."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = 0

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        self.claims += 1
        return await super().claim(slots, slow_slots)


async def test_no_more_is_claimed_while_claimed_rows_wait_for_their_time() -> None:
    registry = Counting()
    bench = Bench(8, registry)
    registry.due = [make_row(due_in=number * 0.02) for number in range(40)]
    refill = asyncio.create_task(bench.dispatcher.refill())
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 40)
    refill.cancel()
    assert registry.claims <= 12, "one for every two checks, as slots become free, would be 20"


class Breaking(FakeMeter):
    """Breaks over the first result."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[CheckResult] = []

    def checked(self, result: CheckResult) -> None:
        self.counted.append(result)
        if len(self.counted) == 1:
            raise ValueError("broken")


async def test_a_result_that_breaks_a_sink_takes_no_other_along_and_is_recorded() -> None:
    bench = Bench(meter=Breaking())
    bench.registry.due = [make_row() for _ in range(3)]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.log.of(Event.CHECK_FINISHED)) == 2)
    await bench.outbox.flush()
    assert len(bench.registry.recorded) == 3


async def test_in_an_outage_exactly_what_is_remembered_is_checked_and_on_time(
    bench: Bench,
) -> None:
    row = await bench.remember()
    bench.registry.is_away = True
    bench.registry.due = [make_row()]
    bench.make_due(row)
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    assert bench.checker.checked[1].identity == row.identity


@pytest.mark.parametrize("reason", [Reason.OK, Reason.TIMEOUT])
async def test_in_an_outage_slots_are_filled_as_they_become_free_and_waits_go_on(
    bench: Bench, reason: Reason
) -> None:
    rows = [make_row(due_in=-number, reason=reason) for number in range(20)]
    bench.registry.is_away = True
    for row in rows:
        bench.outbox.put(row, make_result(row, reason))
        bench.make_due(row)
    refill = asyncio.create_task(bench.dispatcher.refill())
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == len(rows))
    refill.cancel()
    slots = [row.lease.slot for row in bench.checker.checked]
    assert slots == pytest.approx(
        sorted(row.lease.slot for row in rows), abs=timedelta(milliseconds=1)
    )


class Unclaimable(FakeRegistry):
    """Does everything but hand out rows, once it is told to."""

    is_unclaimable = False

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        if self.is_unclaimable:
            raise RegistryUnavailableError("permission denied for function claim_databases")
        return await super().claim(slots, slow_slots)

    async def claim_known(self, ids: Sequence[UUID]) -> Sequence[RawRow]:
        if self.is_unclaimable:
            raise RegistryUnavailableError("permission denied for function claim_known_databases")
        return await super().claim_known(ids)


async def test_while_only_the_claim_fails_what_is_remembered_is_checked_and_recorded() -> None:
    registry = Unclaimable()
    bench = Bench(registry=registry)
    row = await bench.remember()
    await bench.outbox.flush()
    registry.is_unclaimable = True
    bench.make_due(row)
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.log.of(Event.CHECK_FINISHED)) == 2)
    assert await bench.outbox.flush()
    bench.make_due(row)
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.log.of(Event.CHECK_FINISHED)) == 3)
    assert await bench.outbox.flush()
    assert [result.identity for result in registry.recorded] == [row.identity] * 3


async def test_a_claim_that_works_forgets_what_is_due_for_any_replica_may_have_it() -> None:
    registry = Unclaimable()
    bench = Bench(registry=registry)
    row = await bench.remember()
    await bench.outbox.flush()
    bench.make_due(row)
    await bench.dispatcher.tick()
    registry.is_unclaimable = True
    await bench.dispatcher.tick()
    assert len(bench.checker.checked) == 1


async def test_a_row_that_another_replica_has_claimed_ahead_of_its_time_is_not_remembered(
    bench: Bench,
) -> None:
    row = await bench.remember()
    await bench.outbox.flush()
    bench.registry.horizon = 60.0
    bench.outbox._memory.schedule(row.identity.database_id, time.monotonic() + 30)
    await bench.dispatcher.tick()
    assert bench.outbox._memory.get(row.identity.database_id) is None


async def test_a_claim_that_leaves_rows_for_want_of_slots_forgets_none_ahead_of_its_time() -> None:
    bench = Bench(slots=1)
    row = await bench.remember()
    await bench.outbox.flush()
    bench.checker.gate.clear()
    bench.registry.due = [make_row(), make_row()]
    bench.registry.horizon = 60.0
    await bench.dispatcher.tick()
    assert bench.outbox._memory.get(row.identity.database_id) is not None


async def test_after_an_outage_only_known_rows_are_claimed_until_other_replicas_are_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.claims.LAGGARD_SECONDS", 0.5)
    row, unknown = await bench.remember(), make_row()
    await bench.outbox.flush()
    await bench.suffer_an_outage(lasting=60)
    bench.make_due(row)
    bench.registry.due = [renewed(row), unknown]
    await bench.dispatcher.tick()
    assert bench.registry.due == [unknown]
    async with asyncio.timeout(5):
        while bench.registry.due:
            await bench.dispatcher.tick()
            await asyncio.sleep(0.01)
    await bench.until(lambda: len(bench.checker.checked) == 3)


async def test_the_wait_for_other_replicas_begins_when_claims_work_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = 0.05
    monkeypatch.setattr("worker.claims.LAGGARD_SECONDS", wait)
    bench.registry.due = [make_row()]
    await bench.suffer_an_outage(lasting=60)

    async def fail(*_: object) -> Sequence[RawRow]:
        raise RegistryUnavailableError("no claim works")

    with monkeypatch.context() as patch:
        for name in ("claim", "claim_known"):
            patch.setattr(FakeRegistry, name, fail)
        end = time.monotonic() + 2 * wait
        while time.monotonic() < end:
            await bench.dispatcher.tick()
    monkeypatch.setattr("worker.claims.LAGGARD_SECONDS", 60)
    for _ in range(2):
        await bench.dispatcher.tick()
    assert len(bench.registry.due) == 1


async def test_a_drain_makes_no_row_due_again_whose_check_a_claim_crossed(bench: Bench) -> None:
    row = await bench.remember()
    bench.checker.gate.clear()
    bench.registry.due = [renewed(row)]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    silence = bench.registry.silence = asyncio.Event()
    again = renewed(row)
    bench.registry.due = [again]
    claim = asyncio.create_task(bench.dispatcher._claim())
    await asyncio.sleep(0)
    drain = asyncio.create_task(bench.dispatcher.drain(5))
    await bench.until(lambda: bench.dispatcher._is_draining)
    silence.set()
    await claim
    bench.checker.gate.set()
    await drain
    assert bench.registry.given_back == {}
    assert bench.registry.recorded[-1].lease == again.lease


async def test_a_registry_that_comes_and_goes_keeps_no_unknown_row_waiting_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.claims.LAGGARD_SECONDS", 0.2)
    bench.registry.due = [make_row()]
    async with asyncio.timeout(5):
        while bench.registry.due:
            await bench.suffer_an_outage(lasting=60)
            await bench.dispatcher.tick()
            await asyncio.sleep(0.01)


async def test_after_an_outage_slow_rows_get_half_of_the_slots_as_ever(bench: Bench) -> None:
    rows = [make_row(reason=Reason.TIMEOUT) for _ in range(9)]
    for row in rows:
        bench.outbox.put(row, make_result(row, Reason.TIMEOUT))
    await bench.outbox.flush()
    await bench.suffer_an_outage(lasting=60)
    for row in rows:
        bench.make_due(row)
    bench.checker.gate.clear()
    bench.registry.due = [renewed(row) for row in rows]
    async with asyncio.timeout(1):
        await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    assert len(bench.registry.due) == len(rows) - 2


async def test_after_a_blip_no_row_waits_for_longer_than_it_lasted(bench: Bench) -> None:
    bench.registry.due = [make_row()]
    await bench.suffer_an_outage(lasting=0.1)
    async with asyncio.timeout(1):
        while bench.registry.due:
            await bench.dispatcher.tick()
            await asyncio.sleep(0.01)


async def test_a_check_that_an_outage_began_without_a_lease_gets_one_when_it_is_over(
    bench: Bench,
) -> None:
    row = await bench.remember()
    bench.checker.gate.clear()
    bench.registry.is_away = True
    bench.make_due(row)
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    await bench.suffer_an_outage(lasting=60)
    again = renewed(row)
    bench.registry.due = [again]
    await bench.dispatcher.tick()
    bench.checker.gate.set()
    await bench.until(lambda: len(bench.log.of(Event.CHECK_FINISHED)) == 2)
    await bench.outbox.flush()
    assert bench.registry.recorded[-1].lease == again.lease


async def test_a_registry_that_falls_silent_keeps_no_tick_and_no_remembered_row_waiting(
    bench: Bench,
) -> None:
    row = await bench.remember()
    bench.registry.silence = asyncio.Event()
    began = time.monotonic()
    await bench.dispatcher.tick()
    assert time.monotonic() - began < PATIENCE_SECONDS + 1
    bench.make_due(row)
    began = time.monotonic()
    await bench.dispatcher.tick()
    assert time.monotonic() - began < CUT_OFF_PATIENCE_SECONDS + 1
    await bench.until(lambda: len(bench.checker.checked) == 2)
    bench.registry.silence.set()
    await bench.dispatcher.tick()
    await bench.dispatcher.tick()
    assert {result.identity for result in bench.registry.recorded} == {row.identity}


async def test_a_replica_that_stood_still_starts_no_row_that_another_one_may_have_claimed(
    bench: Bench,
) -> None:
    lost, again = make_row(due_in=0.1), make_row(due_in=0.1)
    for row in (lost, again):
        lease = replace(row.lease, leased_until=row.lease.claimed_at + timedelta(seconds=0.2))
        bench.registry.due.append(replace(row, lease=lease))
    await bench.dispatcher.tick()
    bench.registry.due = [renewed(again)]
    await bench.dispatcher.tick()
    time.sleep(0.3)  # noqa: ASYNC251 -- it is how it stands still
    await bench.until(lambda: not bench.dispatcher._slots.rows)
    assert [row.identity for row in bench.checker.checked] == [again.identity]


async def test_in_an_outage_what_is_remembered_is_checked_though_its_lease_ran_out(
    bench: Bench,
) -> None:
    row = make_row()
    lease = replace(row.lease, leased_until=row.lease.claimed_at)
    bench.outbox.put(replace(row, lease=lease), make_result(row))
    bench.registry.is_away = True
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 1)


async def test_a_row_that_is_claimed_again_while_it_is_checked_is_not_checked_twice(
    bench: Bench,
) -> None:
    bench.checker.gate.clear()
    row = make_row()
    again = renewed(row)
    for claimed in (row, again):
        bench.registry.due = [claimed]
        await bench.dispatcher.tick()
    bench.checker.gate.set()
    await bench.until(lambda: len(bench.log.of(Event.CHECK_FINISHED)) == 1)
    await bench.outbox.flush()
    assert len(bench.checker.checked) == 1
    assert bench.registry.recorded[0].lease == again.lease


@pytest.mark.parametrize("seconds", [0, 2 * GATHER_SECONDS])
async def test_a_claim_that_crossed_a_result_does_not_check_its_row_again(
    bench: Bench, seconds: float
) -> None:
    row = make_row()
    crossing = renewed(row)
    bench.registry.due = [row]
    await bench.dispatcher.tick()
    await bench.until(lambda: bool(bench.dispatcher._handover._results))
    await asyncio.sleep(seconds)
    bench.registry.due = [crossing]
    await bench.dispatcher.tick()
    await asyncio.sleep(2 * GATHER_SECONDS)
    await bench.outbox.flush()
    assert len(bench.checker.checked) == 1
    assert bench.registry.recorded[-1].lease == crossing.lease


async def test_a_remembered_row_that_is_still_being_checked_is_not_checked_twice_at_once(
    bench: Bench,
) -> None:
    row = await bench.remember()
    bench.checker.gate.clear()
    bench.registry.due = [renewed(row)]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    bench.registry.is_away = True
    bench.make_due(row)
    for _ in range(2):
        await bench.dispatcher.tick()
        await asyncio.sleep(0.05)
    assert len(bench.checker.checked) == 2
    bench.checker.gate.set()
    await bench.until(lambda: len(bench.log.of(Event.CHECK_FINISHED)) == 2)
    bench.make_due(row)
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 3)


async def test_a_remembered_row_whose_result_is_just_on_its_way_is_not_checked_again(
    bench: Bench,
) -> None:
    row = await bench.remember()
    bench.registry.due = [renewed(row)]
    await bench.dispatcher.tick()
    await bench.until(lambda: bool(bench.dispatcher._handover._results))
    bench.registry.is_away = True
    bench.make_due(row)
    await bench.dispatcher.tick()
    await asyncio.sleep(2 * GATHER_SECONDS)
    assert len(bench.checker.checked) == 2


async def test_a_result_from_before_an_edit_is_shown_nowhere_after_the_newer_one(
    bench: Bench,
) -> None:
    old = make_row()
    edited = replace(old, lease=replace(old.lease, revision=2))
    for row in (edited, old):
        bench.registry.due = [row]
        await bench.dispatcher.tick()
        await bench.until(lambda: not bench.dispatcher._slots.rows)
        await asyncio.sleep(2 * GATHER_SECONDS)
    assert len(bench.checker.checked) == 2
    assert len(bench.log.of(Event.CHECK_FINISHED)) == 1


async def test_a_drain_records_what_ends_in_time_and_gives_the_rest_back() -> None:
    bench = Bench(slots=10)
    ending, hanging, waiting = make_row(), make_row(), make_row(due_in=60)
    bench.registry.due = [ending]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 1)
    bench.checker.gate.clear()
    bench.registry.due = [hanging, waiting]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    began = time.monotonic()
    await bench.dispatcher.drain(grace=2.5)
    assert time.monotonic() - began < 2.5
    assert [result.identity for result in bench.registry.recorded] == [ending.identity]
    assert bench.registry.given_back == {
        row.identity.database_id: row.lease for row in (hanging, waiting)
    }
    bench.registry.due = [make_row()]
    await bench.dispatcher.tick()
    assert len(bench.checker.checked) == 2, "nothing is claimed any more"


class SlowToAnswer(FakeRegistry):
    """Leases what is due at once and says so only after a while."""

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        rows = await super().claim(slots, slow_slots)
        await asyncio.sleep(0.3)
        return rows


async def test_what_a_claim_on_its_way_at_sigterm_leases_is_given_back() -> None:
    row = make_row()
    bench = Bench(registry=SlowToAnswer(due=[row]))
    tick = asyncio.create_task(bench.dispatcher.tick())
    await bench.until(lambda: not bench.registry.due)
    await bench.dispatcher.drain(grace=4)
    await tick
    assert bench.checker.checked == []
    assert bench.registry.given_back == {row.identity.database_id: row.lease}


async def test_a_drain_ends_within_its_grace_though_the_registry_is_silent(bench: Bench) -> None:
    bench.registry.due = [make_row(due_in=60)]
    await bench.dispatcher.tick()
    bench.registry.silence = asyncio.Event()
    began = time.monotonic()
    await bench.dispatcher.drain(grace=3)
    assert time.monotonic() - began < 3.5


async def test_too_few_slots_are_said_at_most_once_a_minute(bench: Bench) -> None:
    bench.checker.gate.clear()
    bench.registry.due = [make_row() for _ in range(9)]
    await bench.dispatcher.tick()
    for _ in range(3):
        bench.dispatcher.note_overdue(5)
    (line,) = bench.log.of(Event.CAPACITY_SHORT)
    assert (line.level, line.facts["overdue"]) == ("warn", 5)


async def test_a_claim_that_comes_back_late_never_takes_more_slots_than_there_are() -> None:
    bench = Bench(slots=2)
    known = [make_row(), make_row()]
    bench.registry.due = list(known)
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 2)
    await asyncio.sleep(0)
    bench.checker.gate.clear()
    bench.registry.silence = silence = asyncio.Event()
    await bench.dispatcher.tick()
    for row in known:
        bench.make_due(row)
    await bench.dispatcher.tick()
    late = [make_row(), make_row()]
    bench.registry.due = list(late)
    silence.set()
    await bench.dispatcher.tick()
    await bench.dispatcher.tick()
    assert len(bench.dispatcher._slots.rows) == 2
    assert {row.identity for row in bench.checker.checked} == {row.identity for row in known}


async def test_a_row_that_there_is_no_slot_for_any_more_is_given_back() -> None:
    class Slow(FakeRegistry):
        async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
            rows = await super().claim(slots, slow_slots)
            narrow.dispatcher._start(make_row(due_in=60))
            return rows

    narrow = Bench(slots=1, registry=Slow())
    row = make_row()
    narrow.registry.due = [row]
    await narrow.dispatcher.tick()
    assert narrow.registry.given_back == {row.identity.database_id: row.lease}
    await narrow.dispatcher.drain(grace=0)


def longest_gap_of(bench: Bench) -> float:
    """Let chance draw the longest gap from now on, and tell what it is."""
    bench.dispatcher.rhythm._uniform = lambda _, most: most
    return bench.dispatcher.rhythm.gap()


async def test_the_next_tick_comes_sooner_after_one_that_came_late(bench: Bench) -> None:
    by_chance = longest_gap_of(bench)
    bench.registry.due = [make_row(due_in=0.1)]
    await bench.dispatcher.tick()
    assert bench.dispatcher.rhythm.gap() < 0.8 * by_chance


async def test_a_claim_that_fills_the_slots_tells_nothing_of_other_replicas(bench: Bench) -> None:
    by_chance = longest_gap_of(bench)
    bench.registry.due = [make_row(due_in=0.1) for _ in range(4)]
    await bench.dispatcher.tick()
    assert bench.dispatcher.rhythm.gap() == by_chance


async def test_a_claim_for_freed_slots_is_not_taken_for_another_replicas(bench: Bench) -> None:
    by_chance = longest_gap_of(bench)
    refill = asyncio.create_task(bench.dispatcher.refill())
    bench.registry.due = [*(make_row() for _ in range(4)), make_row(due_in=0.1)]
    await bench.dispatcher.tick()
    await bench.until(lambda: len(bench.checker.checked) == 5)
    refill.cancel()
    bench.registry.due = [make_row(due_in=0.1)]
    await bench.dispatcher.tick()
    assert bench.dispatcher.rhythm.gap() == by_chance


async def test_a_claim_of_known_rows_tells_nothing_of_other_replicas(bench: Bench) -> None:
    by_chance = longest_gap_of(bench)
    row = await bench.remember()
    bench.make_due(row)
    await bench.suffer_an_outage(lasting=10)
    bench.registry.due = [replace(row, lease=make_row(due_in=0.1).lease)]
    await bench.dispatcher.tick()
    assert not bench.registry.due
    assert bench.dispatcher.rhythm.gap() == by_chance
