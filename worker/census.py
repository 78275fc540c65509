"""Counts a fleet that is too large for a snapshot, a slice of its ids at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

Group = tuple[str, str]
"""An engine and a status."""


class Census:
    """A walk through all ids, again and again."""

    def __init__(self, batch: int) -> None:
        """Take how many rows a full slice has."""
        self.batch = batch
        self.after: UUID | None = None
        """Where the next slice begins."""
        self.counts: Mapping[Group, int] | None = None
        """Active databases, as the last whole walk found them; None before there was one."""
        self._found: Counter[Group] = Counter()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take a slice, a row for each engine and status; inactive databases have no status."""
        for row in rows:
            if row["status"] is not None:
                self._found[row["engine"], row["status"]] += row["databases"]
        is_last = sum(row["databases"] for row in rows) < self.batch
        self.after = None if is_last else rows[0]["last_id"]
        if is_last:
            self.counts, self._found = self._found, Counter()
