"""What is remembered for an outage comes when it is due, at a cost that does not grow."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from uuid import UUID

from testbed.fakes import make_row
from worker.memory import MAX_STALE, SPARE, Memory
from worker.model import RawRow

RESCHEDULED = 20 * (MAX_STALE + SPARE)
MEGABYTE = 2**20


def remember(memory: Memory, *due_in: float) -> Sequence[RawRow]:
    """Remember rows that are due in so many seconds."""
    rows = [make_row() for _ in due_in]
    for row, seconds in zip(rows, due_in, strict=True):
        memory.keep(row, time.monotonic() + seconds)
    return rows


def due(memory: Memory) -> Sequence[UUID]:
    rows = memory.take_due(lambda _: True, lambda: False)
    return [row.identity.database_id for row in rows]


def ids(*rows: RawRow) -> Sequence[UUID]:
    return [row.identity.database_id for row in rows]


def test_rows_come_by_their_newest_due_time_the_most_overdue_first() -> None:
    memory = Memory()
    moved_forward, late, moved_back, later = remember(memory, 60, -2, -3, -1)
    memory.schedule(moved_forward.identity.database_id, time.monotonic() - 4)
    memory.schedule(moved_back.identity.database_id, time.monotonic() + 60)
    assert due(memory) == ids(moved_forward, late, later)
    assert due(memory) == []


def test_a_row_that_is_not_wanted_now_keeps_its_place() -> None:
    memory = Memory()
    first, second = remember(memory, -2, -1)
    wanted = list(memory.take_due(lambda row: row is not first, lambda: False))
    assert ids(*wanted) == ids(second)
    assert due(memory) == ids(first)


def test_nobody_looks_at_rows_for_which_there_is_no_slot() -> None:
    memory = Memory()
    rows = remember(memory, -3, -2, -1)
    looked_at: list[RawRow] = []

    def look(row: RawRow) -> bool:
        looked_at.append(row)
        return True

    (taken,) = memory.take_due(look, lambda: bool(looked_at))
    assert ids(*looked_at) == ids(taken) == ids(rows[0])
    assert due(memory) == ids(*rows[1:])


def test_to_ask_what_is_due_takes_nothing_away() -> None:
    memory = Memory()
    first, second, _ = remember(memory, -2, -1, 60)
    for _ in range(2):
        assert ids(*memory.due_by(time.monotonic())) == ids(first, second)


def test_rows_that_wait_for_the_registry_are_not_forgotten_with_the_others() -> None:
    memory = Memory()
    kept, forgotten, later = remember(memory, -2, -1, 60)
    memory.forget_due(time.monotonic(), but=ids(kept))
    assert memory.get(forgotten.identity.database_id) is None
    assert memory.get(later.identity.database_id) is later
    assert due(memory) == ids(kept)


def test_a_row_that_is_put_off_for_ever_fills_no_memory() -> None:
    memory = Memory()
    (row,) = remember(memory, 60)
    tracemalloc.start()
    try:
        for _ in range(RESCHEDULED):
            memory.schedule(row.identity.database_id, time.monotonic() + 86_400)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < MEGABYTE / 4
