"""Rows remembered for an outage: what this replica then goes on checking by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from worker.model import RawRow, Status


class Memory:
    """The newest rows by id, each with its due time in monotonic seconds; holds clear secrets."""

    def __init__(self) -> None:
        self._rows: dict[UUID, RawRow] = {}
        # Apart, because the garbage collection looks at every object, and at no float.
        self._due: dict[UUID, float] = {}

    def keep(self, row: RawRow, due: float) -> None:
        """Remember a row instead of what is known of it."""
        database_id = row.identity.database_id
        self._rows.pop(database_id, None)  # or the older row's id, an equal one, would be kept
        self._due.pop(database_id, None)
        self._rows[database_id] = row
        self._due[database_id] = due

    def get(self, database_id: UUID) -> RawRow | None:
        """Look a row up."""
        return self._rows.get(database_id)

    def schedule(self, database_id: UUID, due: float) -> None:
        """Set when a remembered row is due."""
        self._due[database_id] = due

    def note(self, row: RawRow, status: Status) -> None:
        """Set the status of a remembered row, as it was told last."""
        if row.status is not status:
            self._rows[row.identity.database_id] = replace(row, status=status)

    def due_by(self, monotonic: float) -> Sequence[RawRow]:
        """Tell which rows are due by these monotonic seconds, the most overdue first."""
        return [self._rows[key] for key in self._keys_due_by(monotonic)]

    def forget(self, database_id: UUID) -> None:
        """Drop a row."""
        self._rows.pop(database_id, None)
        self._due.pop(database_id, None)

    def forget_due(self, by: float, but: Container[UUID]) -> None:
        """Drop the rows that are due by these monotonic seconds, except some."""
        for key in [key for key, due in self._due.items() if due <= by]:
            if key not in but:
                self.forget(key)

    def take_due(self, is_wanted: Callable[[RawRow], bool]) -> Iterator[RawRow]:
        """Yield the rows that are due, the most overdue first, each once until it is due again.

        One that is not wanted now stays due since when it was.
        """
        for key in self._keys_due_by(time.monotonic()):
            row, due = self._rows[key], self._due[key]
            if not is_wanted(row):
                continue
            self._due[key] = float("inf")
            late = timedelta(seconds=due - row.lease.claimed_monotonic)
            slot = row.lease.claimed_at + late
            yield replace(row, lease=replace(row.lease, slot=slot))

    def _keys_due_by(self, monotonic: float) -> list[UUID]:
        due = [key for key, moment in self._due.items() if moment <= monotonic]
        return sorted(due, key=self._due.__getitem__)
