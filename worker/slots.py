"""How many rows are in hand, how many of them slow ones, and when more are worth a claim."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

from worker.model import CheckResult, RawRow

Task = asyncio.Task[CheckResult | None]


class Slots:
    """The rows that are claimed, wait for their due time, or are being checked."""

    def __init__(self, most: int) -> None:
        """Take how many there may be at once; slow ones may have half of that."""
        self._most = most
        self.rows: dict[Task, RawRow] = {}
        self.waiting: set[Task] = set()
        """Those whose due time has not come yet."""
        self._slow = 0
        """How many of the rows are slow: counted, for an outage asks for each row that is due."""
        self._is_hungry = False
        """Whether the last claim filled the slots, so that more may be due."""
        self._is_hungry_for_slow = False
        """The same of the slots that slow rows may have."""
        self._room = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more rows there may be."""
        return self._most - len(self.rows)

    @property
    def slow_room(self) -> int:
        """How many more slow ones."""
        return max(0, max(1, self._most // 2) - self._slow)

    @property
    def are_short(self) -> bool:
        """Whether more rows may be due than there are slots for."""
        return self._is_hungry or self._is_hungry_for_slow or not self.slow_room

    @property
    def are_worth_a_claim(self) -> bool:
        """Whether more may be due, many slots are free, and few rows wait ahead."""
        quarter = self._most / 4
        return self.free >= quarter >= len(self.waiting) and (
            self._is_hungry or (self._is_hungry_for_slow and self.slow_room * 2 >= quarter)
        )

    def by_id(self) -> Mapping[UUID, Task]:
        """Tell which task has which database in hand."""
        return {row.identity.database_id: task for task, row in self.rows.items()}

    def fits(self, row: RawRow) -> bool:
        """Tell whether there is a slot for a row of its kind."""
        return self.free > 0 and (not row.is_slow or self.slow_room > 0)

    def take(self, task: Task, row: RawRow) -> None:
        """Give a slot to a row that waits for its due time."""
        self.rows[task] = row
        self._slow += row.is_slow
        self.waiting.add(task)

    def start(self, task: Task) -> None:
        """Note that a row's due time has come."""
        self.waiting.discard(task)
        self._look_for_room()

    def leave(self, task: Task) -> RawRow:
        """Free a slot."""
        row = self.rows.pop(task)
        self._slow -= row.is_slow
        self.waiting.discard(task)
        self._look_for_room()
        return row

    def note_claim(self, rows: Sequence[RawRow], free: int, slow_room: int) -> None:
        """Note what came of a claim for so many rows, so many of them slow."""
        self._is_hungry = len(rows) >= free
        if slow_room:
            self._is_hungry_for_slow = sum(row.is_slow for row in rows) >= slow_room

    def note_left(self, rows: Sequence[RawRow]) -> None:
        """Note which rows that are due have found no slot; once all are taken nobody looks."""
        self._is_hungry = not self.free or not all(row.is_slow for row in rows)
        self._is_hungry_for_slow = any(row.is_slow for row in rows)

    def forget_claims(self) -> None:
        """Wait for the next claim before asking for more: the last one failed."""
        self._is_hungry = self._is_hungry_for_slow = False

    async def room(self) -> None:
        """Wait until a claim is worth its while."""
        await self._room.wait()
        self._room.clear()

    def _look_for_room(self) -> None:
        if self.are_worth_a_claim:
            self._room.set()
