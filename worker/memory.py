"""Rows remembered for an outage: what this replica then goes on checking by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from heapq import heapify, heappop, heappush
from uuid import UUID

from worker.model import RawRow
from worker.words import Status

MAX_STALE = 4
"""Entries of the queue for each row, from which on it is made anew: a check makes two."""
SPARE = 1000
"""Entries that a small fleet may have beyond that."""
_Entry = tuple[float, UUID]


class Memory:
    """The newest rows by id, each with its due time in monotonic seconds; holds clear secrets."""

    def __init__(self) -> None:
        self._rows: dict[UUID, RawRow] = {}
        # Apart, because the garbage collection looks at every object, and at no float.
        self._due: dict[UUID, float] = {}
        self._queue: list[_Entry] = []
        """A heap of due times, so that no look at what is due goes through all rows. One that is
        not its row's any more is passed over."""

    def keep(self, row: RawRow, due: float) -> None:
        """Remember a row instead of what is known of it."""
        database_id = row.identity.database_id
        self._rows.pop(database_id, None)  # or the older row's id, an equal one, would be kept
        self._due.pop(database_id, None)
        self._rows[database_id] = row
        self.schedule(database_id, due)

    def get(self, database_id: UUID) -> RawRow | None:
        """Look a row up."""
        return self._rows.get(database_id)

    def schedule(self, database_id: UUID, due: float) -> None:
        """Set when a remembered row is due."""
        self._due[database_id] = due
        if len(self._queue) > MAX_STALE * len(self._due) + SPARE:
            self._queue = [(moment, key) for key, moment in self._due.items()]
            heapify(self._queue)
        else:
            heappush(self._queue, (due, database_id))

    def note(self, row: RawRow, status: Status) -> None:
        """Set the status of a remembered row, as it was told last."""
        if row.status is not status:
            self._rows[row.identity.database_id] = replace(row, status=status)

    def due_by(self, monotonic: float) -> Sequence[RawRow]:
        """Tell which rows are due by these monotonic seconds, the most overdue first."""
        with self._taking(monotonic) as (due, put_back):
            put_back.extend(due)
            return [self._rows[key] for _, key in put_back]

    def forget(self, database_id: UUID) -> None:
        """Drop a row."""
        self._rows.pop(database_id, None)
        self._due.pop(database_id, None)

    def forget_due(self, by: float, but: Container[UUID]) -> None:
        """Drop the rows that are due by these monotonic seconds, except some."""
        with self._taking(by) as (due, put_back):
            for entry in due:
                if entry[1] in but:
                    put_back.append(entry)
                else:
                    self.forget(entry[1])

    def take_due(
        self, is_wanted: Callable[[RawRow], bool], is_full: Callable[[], bool]
    ) -> Iterator[RawRow]:
        """Yield the rows that are due, the most overdue first, each once until it is due again.

        One that is not wanted now stays due since when it was; none is looked at when it is full.
        """
        with self._taking(time.monotonic()) as (entries, put_back):
            while not is_full() and (entry := next(entries, None)):
                due, key = entry
                row = self._rows[key]
                if not is_wanted(row):
                    put_back.append(entry)
                    continue
                self._due[key] = float("inf")
                late = timedelta(seconds=due - row.lease.claimed_monotonic)
                slot = row.lease.claimed_at + late
                yield replace(row, lease=replace(row.lease, slot=slot))

    @contextmanager
    def _taking(self, by: float) -> Iterator[tuple[Iterator[_Entry], list[_Entry]]]:
        """Take entries off the queue, and put back afterwards those that are given back."""
        put_back: list[_Entry] = []
        try:
            yield self._entries(by), put_back
        finally:
            for entry in put_back:
                heappush(self._queue, entry)

    def _entries(self, by: float) -> Iterator[_Entry]:
        """Take those off the queue that are due by these monotonic seconds; drop stale ones."""
        while self._queue and self._queue[0][0] <= by:
            due, key = heappop(self._queue)
            if self._due.get(key) == due:
                yield due, key
