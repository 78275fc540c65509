"""Results reach the registry however long it takes; changes are told once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from testbed.fakes import FakeMeter, FakeRegistry, Lines, make_result, make_row, renewed
from worker import fleet_series
from worker.announce import Announcer
from worker.errors import BadResultsError
from worker.fleet import Fleet
from worker.model import Change, CheckResult, RawRow
from worker.outbox import REFUSED, Outbox
from worker.ports import Kept, Recorded
from worker.words import Event, Reason, Status


class Bench:
    def __init__(self, registry: FakeRegistry | None = None) -> None:
        self.registry = registry or FakeRegistry()
        self.log = Lines()
        self.meter = FakeMeter()
        self.announcer = Announcer(self.registry, self.log)
        self.causes: list[str] = []
        self.fleet = Fleet(fleet_series.write)
        self.outbox = Outbox(
            self.registry, self.announcer, self.fleet, self.meter, self.causes.append
        )

    def healthy_row(self) -> RawRow:
        """Make a row that the registry knows for healthy."""
        row = make_row(status=Status.HEALTHY)
        self.registry.statuses[row.identity.database_id] = Status.HEALTHY
        return row

    def make_due(self, row: RawRow) -> None:
        self.outbox._memory.schedule(row.identity.database_id, time.monotonic())

    def due_rows(self) -> list[RawRow]:
        return list(self.outbox.due_rows(lambda _: True, lambda: False))

    async def record_in_vain(self, first: RawRow, newer: RawRow) -> None:
        """Bring a failure, and a healthy result while that is on its way to nobody."""
        self.registry.silence = asyncio.Event()
        self.outbox.put(first, make_result(first, Reason.REFUSED))
        flush = asyncio.create_task(self.outbox.flush())
        await asyncio.sleep(0)
        self.outbox.put(newer, make_result(newer))
        self.registry.is_away = True
        self.registry.silence.set()
        assert not await flush

    def told(self) -> list[tuple[object, object]]:
        lines = self.log.of(Event.DATABASE_HEALTH_CHANGED)
        return [(line.facts["status"], line.facts["recorded"]) for line in lines]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_change_is_told_after_its_commit_and_marked(bench: Bench) -> None:
    row = make_row()
    bench.outbox.put(row, make_result(row))
    assert bench.told() == []
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.HEALTHY, True)]
    assert bench.registry.announced == [1]


async def test_in_an_outage_a_change_is_told_at_once_and_not_again_when_it_is_recorded(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    bench.registry.is_away = True
    bench.outbox.put(row, make_result(row, Reason.REFUSED))
    for _ in range(3):
        assert not await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False)]
    bench.registry.is_away = False
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False)]
    assert bench.registry.announced == [1]


async def test_a_change_and_back_again_in_one_outage_is_told_twice_and_recorded_as_none(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    bench.registry.is_away = True
    for reason in (Reason.REFUSED, Reason.OK):
        bench.outbox.put(row, make_result(row, reason))
        await bench.outbox.flush()
        (row,) = bench.due_rows()
    bench.registry.is_away = False
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False), (Status.HEALTHY, False)]
    assert bench.registry.changes == []


async def test_a_change_told_in_an_outage_is_taken_back_by_what_another_replica_found_later(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    bench.registry.is_away = True
    bench.outbox.put(row, make_result(row, Reason.TIMEOUT))
    assert not await bench.outbox.flush()
    bench.registry.is_away = False
    bench.registry.later[row.identity.database_id] = Kept(Status.HEALTHY, Reason.OK, None)
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False), (Status.HEALTHY, False)]
    taken_back = bench.log.of(Event.DATABASE_HEALTH_CHANGED)[-1].facts
    assert (taken_back["previous"], taken_back["reason"]) == (Status.UNHEALTHY, Reason.OK)
    bench.make_due(row)
    (remembered,) = bench.due_rows()
    assert remembered.status is Status.HEALTHY


async def test_an_answer_that_waits_is_not_replaced_by_a_result_that_blames_us(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    bench.registry.is_away = True
    for reason in (Reason.REFUSED, Reason.INTERNAL):
        bench.outbox.put(row, make_result(row, reason))
        assert not await bench.outbox.flush()
    bench.registry.is_away = False
    assert await bench.outbox.flush()
    assert [result.reason for result in bench.registry.recorded] == [Reason.REFUSED]
    assert bench.told() == [(Status.UNHEALTHY, False)]
    assert bench.registry.announced == [1]


async def test_a_change_that_cannot_be_recorded_is_told_once_though_its_row_is_claimed_again(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    bench.registry.is_away = True
    for _ in range(3):
        row = replace(row, lease=replace(row.lease, claimed_monotonic=time.monotonic()))
        bench.outbox.put(row, make_result(row, Reason.REFUSED))
        assert not await bench.outbox.flush()
    bench.registry.is_away = False
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False)]
    assert bench.registry.announced == [1]


async def test_only_the_newest_result_of_a_row_waits(bench: Bench) -> None:
    row = make_row()
    newest = make_result(row, Reason.REFUSED)
    bench.outbox.put(row, make_result(row))
    bench.outbox.put(row, newest)
    assert bench.outbox.pending == 1
    await bench.outbox.flush()
    assert bench.registry.recorded == [newest]


@pytest.mark.parametrize("is_recorded", [False, True], ids=["waits", "is recorded"])
async def test_the_result_of_an_edited_row_is_not_replaced_by_one_from_before_the_edit(
    bench: Bench, *, is_recorded: bool
) -> None:
    old = make_row()
    edited = replace(old, lease=replace(old.lease, revision=2))
    newest = make_result(edited)
    bench.outbox.put(edited, newest)
    if is_recorded:
        await bench.outbox.flush()
    bench.outbox.put(old, make_result(old, Reason.REFUSED))
    await bench.outbox.flush()
    assert bench.registry.recorded == [newest]
    bench.make_due(edited)
    assert [row.lease.revision for row in bench.due_rows()] == [2]


async def test_a_row_that_was_made_anew_and_begins_at_its_first_revision_is_recorded(
    bench: Bench,
) -> None:
    edited = make_row()
    edited = replace(edited, lease=replace(edited.lease, revision=2))
    bench.outbox.put(edited, make_result(edited))
    lease = replace(edited.lease, revision=1, claimed_monotonic=time.monotonic())
    anew = replace(edited, lease=lease)
    newest = make_result(anew, Reason.REFUSED)
    assert bench.outbox.put(anew, newest)
    await bench.outbox.flush()
    assert bench.registry.recorded == [newest]


async def test_a_result_from_before_an_edit_is_shown_no_more_once_the_registry_knows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make_row()
    made = make_result(row)

    async def refuse(_: FakeRegistry, results: Sequence[CheckResult]) -> Sequence[Recorded]:
        return [Recorded(result.identity.database_id, None, None) for result in results]

    monkeypatch.setattr(FakeRegistry, "record", refuse)
    bench.outbox.put(row, made)
    bench.fleet.lay(made)
    await bench.outbox.flush()
    assert not bench.fleet.states()


async def test_a_row_is_remembered_as_edited_though_a_result_from_before_the_edit_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_row()
    edited = replace(old, lease=replace(old.lease, revision=2))

    async def refuse(results: Sequence[CheckResult]) -> Sequence[Recorded]:
        bench.outbox.put(edited, make_result(edited))
        return [Recorded(result.identity.database_id, None, None) for result in results]

    bench.outbox.put(old, make_result(old))
    with monkeypatch.context() as patch:
        patch.setattr(FakeRegistry, "record", lambda _, results: refuse(results))
        await bench.outbox.flush()
    assert [row.lease.revision for row in bench.due_rows()] == [2]


class Refusing(FakeRegistry):
    """Takes no status."""

    is_mended = False

    async def record(self, results: Sequence[CheckResult]) -> Sequence[Recorded]:
        if not self.is_mended and any(result.status is not None for result in results):
            raise BadResultsError("a trigger refuses it")
        return await super().record(results)


async def test_results_that_the_registry_refuses_are_recorded_as_internal_and_said() -> None:
    bench = Bench(Refusing())
    for row in (make_row(), make_row()):
        bench.outbox.put(row, make_result(row))
    assert await bench.outbox.flush()
    assert [result.reason for result in bench.registry.recorded] == [Reason.INTERNAL] * 2
    assert bench.causes == [REFUSED] * 2


async def test_a_change_that_the_registry_refuses_is_told_once_and_taken_back() -> None:
    registry = Refusing()
    bench = Bench(registry)
    row = bench.healthy_row()
    for _ in range(3):
        bench.outbox.put(renewed(row), make_result(row, Reason.REFUSED))
        assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False)]
    assert bench.meter.failed == ["record"] * 3
    registry.is_mended = True
    for reason in (Reason.INTERNAL, Reason.OK):
        bench.outbox.put(renewed(row), make_result(row, reason))
        assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False), (Status.HEALTHY, False)]


async def test_a_change_is_told_again_once_the_registry_takes_it_of_a_later_check() -> None:
    registry = Refusing()
    bench = Bench(registry)
    row = bench.healthy_row()
    bench.outbox.put(row, make_result(row, Reason.REFUSED))
    assert await bench.outbox.flush()
    registry.is_mended = True
    later = replace(row, lease=replace(row.lease, claimed_monotonic=time.monotonic()))
    bench.outbox.put(later, make_result(later, Reason.REFUSED))
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False), (Status.UNHEALTHY, True)]


async def test_while_the_registry_refuses_a_row_it_is_told_down_and_up_again() -> None:
    registry = Refusing()
    bench = Bench(registry)
    row = bench.healthy_row()
    for reason in (Reason.REFUSED, Reason.OK, Reason.OK, Reason.REFUSED, Reason.OK):
        bench.outbox.put(renewed(row), make_result(row, reason))
        assert await bench.outbox.flush()
    expected = [Status.UNHEALTHY, Status.HEALTHY, Status.UNHEALTHY, Status.HEALTHY]
    assert bench.told() == [(status, False) for status in expected]


class Particular(FakeRegistry):
    """Takes nothing of some rows; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[UUID] = set()
        self.calls = 0

    async def record(self, results: Sequence[CheckResult]) -> Sequence[Recorded]:
        self.calls += 1
        if any(result.identity.database_id in self.refused for result in results):
            raise BadResultsError("a trigger refuses it")
        return await super().record(results)


async def test_a_change_that_the_registry_refused_in_every_form_is_taken_back_at_once() -> None:
    registry = Particular()
    bench = Bench(registry)
    row = bench.healthy_row()
    registry.refused.add(row.identity.database_id)
    bench.outbox.put(row, make_result(row, Reason.REFUSED))
    assert not await bench.outbox.flush()
    registry.refused.clear()
    bench.outbox.put(renewed(row), make_result(row))
    assert await bench.outbox.flush()
    assert bench.told() == [(Status.UNHEALTHY, False), (Status.HEALTHY, False)]


async def test_one_refused_row_of_many_is_found_by_halving_and_waits_behind_the_others() -> None:
    registry = Particular()
    bench = Bench(registry)
    rows = [make_row() for _ in range(200)]
    registry.refused.add(rows[0].identity.database_id)
    for row in rows:
        bench.outbox.put(row, make_result(row))
    assert not await bench.outbox.flush()
    assert len(registry.recorded) == len(rows) - 1
    assert registry.calls < 25
    bench.outbox.put(rows[1], make_result(rows[1]))
    rows = [make_row() for _ in range(5)]
    for row in rows:
        bench.outbox.put(row, make_result(row))
    assert not await bench.outbox.flush()
    waiting = list(bench.outbox._pending)
    assert waiting == list(registry.refused)


async def test_a_locked_row_waits_and_the_others_do_not(bench: Bench) -> None:
    locked, free = make_row(), make_row()
    bench.registry.locked.add(locked.identity.database_id)
    for row in (locked, free):
        bench.outbox.put(row, make_result(row))
    assert not await bench.outbox.flush()
    assert [r.identity for r in bench.registry.recorded] == [free.identity]
    assert bench.outbox.pending == 1
    bench.registry.locked.clear()
    assert await bench.outbox.flush()
    assert bench.outbox.pending == 0


async def test_what_is_remembered_is_due_once_until_its_next_result(bench: Bench) -> None:
    row = make_row()
    bench.outbox.put(row, make_result(row))
    assert [each.identity for each in bench.due_rows()] == [row.identity]
    assert bench.due_rows() == []
    bench.make_due(row)
    assert [each.identity for each in bench.due_rows()] == [row.identity]


async def test_a_row_whose_due_time_passed_while_the_registry_was_readable_is_forgotten(
    bench: Bench,
) -> None:
    row, later = make_row(), make_row()
    bench.registry.next_due = lambda: datetime.now(UTC) - timedelta(seconds=1)
    bench.outbox.put(row, make_result(row))
    await bench.outbox.flush()
    bench.registry.next_due = lambda: datetime.now(UTC) + timedelta(minutes=1)
    bench.outbox.put(later, make_result(later))
    await bench.outbox.flush()
    bench.outbox.forget_due(time.monotonic())
    bench.make_due(later)
    assert [each.identity for each in bench.due_rows()] == [later.identity]


async def test_what_a_killed_worker_left_unannounced_is_told_and_marked(bench: Bench) -> None:
    row = make_row()
    await bench.registry.record([make_result(row, Reason.REFUSED)])
    await bench.announcer.adopt()
    assert bench.told() == [(Status.UNHEALTHY, True)]
    assert bench.registry.announced == [1]


async def test_a_change_whose_record_was_not_answered_is_marked_and_not_told_again(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    bench.registry.is_away = True
    unanswered, last = make_result(row, Reason.REFUSED), make_result(row)
    for result in (unanswered, last):
        bench.outbox.put(row, result)
        assert not await bench.outbox.flush()
    bench.registry.is_away = False
    assert await bench.outbox.flush()
    told = [(Status.UNHEALTHY, False), (Status.HEALTHY, False)]
    assert bench.told() == told
    for change_id, seconds in ((1, 0), (2, 5), (3, -3600)):
        found = (row.identity, Status.HEALTHY, Status.UNHEALTHY, Reason.REFUSED, None)
        moment = row.lease.registry_time(unanswered.finished + seconds)
        at = datetime.fromtimestamp(moment, UTC)
        bench.registry.changes.append(Change(change_id, *found, at=at))
        await bench.announcer.adopt()
    assert bench.registry.announced == [1, 2, 3]
    assert bench.told() == [*told, *[(Status.UNHEALTHY, True)] * 2], "others found the last two"


async def test_what_others_found_between_two_outages_is_told(bench: Bench) -> None:
    row = bench.healthy_row()

    async def outage() -> None:
        bench.registry.is_away = True
        for reason in (Reason.REFUSED, Reason.OK):
            bench.outbox.put(row, make_result(row, reason))
            assert not await bench.outbox.flush()
        bench.registry.is_away = False
        assert await bench.outbox.flush()

    await outage()
    between = time.monotonic()
    row = renewed(row)
    # As if the outage had ended long ago, and this one began just now.
    (outages,) = bench.announcer._logged.values()
    past = outages[0]._replace(since=outages[0].since - 60, until=outages[0].until - 60)
    bench.announcer._logged[row.identity.database_id] = (past,)
    await outage()
    found = (row.identity, Status.HEALTHY, Status.UNHEALTHY, Reason.REFUSED, None)
    at = datetime.fromtimestamp(row.lease.registry_time(between - 30), UTC)
    bench.registry.changes.append(Change(1, *found, at=at))
    told = bench.told()
    await bench.announcer.adopt()
    assert bench.told() == [*told, (Status.UNHEALTHY, True)]


async def test_what_was_found_while_a_record_was_on_its_way_in_vain_is_told_in_its_order(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    await bench.record_in_vain(row, row)
    assert bench.told() == [(Status.UNHEALTHY, False), (Status.HEALTHY, False)]


async def test_a_result_from_before_an_edit_is_not_told_though_its_record_was_in_vain(
    bench: Bench,
) -> None:
    row = bench.healthy_row()
    edited = replace(row, lease=replace(renewed(row).lease, revision=2))
    await bench.record_in_vain(row, edited)
    assert bench.told() == []


async def test_a_change_that_is_marked_while_others_ask_for_it_is_told_once(bench: Bench) -> None:
    result = make_result(make_row())
    (recorded,) = await bench.registry.record([result])
    assert recorded.change is not None
    bench.announcer.recorded(recorded.change, result)
    bench.registry.distance = asyncio.Event()
    adopting = asyncio.create_task(bench.announcer.adopt())
    await asyncio.sleep(0)
    await bench.announcer.mark()
    bench.registry.distance.set()
    await adopting
    assert len(bench.told()) == 1


async def test_a_change_that_is_told_after_a_later_one_wakes_nobody(bench: Bench) -> None:
    row = make_row()
    (recorded,) = await bench.registry.record([make_result(row, Reason.REFUSED)])
    assert recorded.change is not None
    bench.registry.changes[:] = [replace(recorded.change, is_superseded=True)]
    await bench.announcer.adopt()
    (line,) = bench.log.of(Event.DATABASE_HEALTH_CHANGED)
    assert (line.level, line.facts["superseded"]) == ("info", True)
    assert line.facts["message"] == "a database was unhealthy: refused"


async def test_a_change_that_could_not_be_marked_is_marked_later_and_not_told_again(
    bench: Bench,
) -> None:
    result = make_result(make_row())
    (recorded,) = await bench.registry.record([result])
    assert recorded.change is not None
    bench.announcer.recorded(recorded.change, result)
    bench.registry.is_away = True
    assert not await bench.outbox.flush()
    bench.registry.is_away = False
    await bench.announcer.adopt()
    assert len(bench.told()) == 1
    assert bench.registry.announced == [1]


async def test_marks_that_are_made_at_once_lose_none(bench: Bench) -> None:
    async def change() -> None:
        result = make_result(make_row())
        (recorded,) = await bench.registry.record([result])
        assert recorded.change is not None
        bench.announcer.recorded(recorded.change, result)

    silence = asyncio.Event()
    marks: list[asyncio.Task[None]] = []
    await change()
    for _ in range(2):
        bench.registry.silence = silence
        marks.append(asyncio.create_task(bench.announcer.mark()))
        await asyncio.sleep(0)
        bench.registry.silence = None
        await change()
    silence.set()
    await asyncio.gather(*marks)
    await bench.announcer.mark()
    assert sorted(set(bench.registry.announced)) == [1, 2, 3]
