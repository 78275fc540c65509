"""Hands results to everybody, those together that have ended within a moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

from worker.capacity import Capacity
from worker.deliver import Sinks
from worker.model import CheckResult, RawRow
from worker.outbox import Outbox

GATHER_SECONDS = 0.05
"""How long a result waits for others, see docs/adr/0013."""


class Handover:
    """Owns the results that nobody has been given yet."""

    def __init__(self, capacity: Capacity, outbox: Outbox, sinks: Sinks) -> None:
        self._capacity = capacity
        self._outbox = outbox
        self._sinks = sinks
        self._results: list[tuple[RawRow, CheckResult]] = []
        self._places: dict[UUID, int] = {}
        """By database, where among them its newest is."""

    def __contains__(self, database_id: UUID) -> bool:
        return database_id in self._places

    def add(self, row: RawRow, result: CheckResult) -> None:
        """Take a result, to be handed over with those that end soon after it."""
        if not self._results:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self.hand_over)
        self._places[row.identity.database_id] = len(self._results)
        self._results.append((row, result))

    def renew(self, claimed: RawRow) -> bool:
        """Give a claim's lease to the result that it crossed; tell whether there is one."""
        place = self._places.get(claimed.identity.database_id)
        if place is not None:
            row, result = self._results[place]
            if result.is_newer_than(claimed.lease):
                self._results[place] = row, replace(result, lease=claimed.lease)
                return True
        return self._outbox.renew(claimed.identity.database_id, claimed.lease)

    def hand_over(self) -> None:
        """Give everybody, in the loop's next turn, the results that have come together."""
        loop = asyncio.get_running_loop()
        for row, result in self._results:
            loop.call_soon(self._give, row, result)  # one that breaks a sink harms no other
        self._results.clear()
        self._places.clear()

    def _give(self, row: RawRow, result: CheckResult) -> None:
        self._capacity.checked(result)
        if self._outbox.put(row, result):
            self._sinks.take(row, result)
