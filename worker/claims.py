"""Claims what is due; for a while after an outage only what is known here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from worker.model import RawRow
from worker.outbox import Outbox
from worker.ports import Registry
from worker.rhythm import Rhythm
from worker.slots import Slots

LAGGARD_SECONDS = 4.0
"""How much later than this replica another one may come back from an outage: by the longest
back-off, and the wait for its next try. Until then it checks rows from memory."""


class Claims:
    """Knows since when the registry was away, and for how long others are waited for."""

    def __init__(self, registry: Registry, outbox: Outbox, slots: Slots, rhythm: Rhythm) -> None:
        self._registry = registry
        self._rhythm = rhythm
        self._outbox = outbox
        self._slots = slots
        self._away_since: float | None = None
        """Monotonic seconds; None once a claim has succeeded."""
        self._among_known_until: float | None = None
        """Monotonic seconds until when only rows are claimed that no other replica remembers; None
        once all were claimed from, so that a registry that comes and goes keeps none waiting."""

    def note_outage(self) -> None:
        """Note that the registry is away, or keeps a tick waiting."""
        if self._away_since is None:
            self._away_since = time.monotonic()

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        """Lease rows that are due within the coming tick; raises as the registry does.

        After an outage those in hand, too, which may be checked without a lease.
        """
        if self._is_among_known():
            known = self._known_due(slots, slow_slots)
            rows = await self._registry.claim_known(known)
            self._among_known_until = self._among_known_until or self._end_of_wait()
        else:
            rows = await self._registry.claim(slots, slow_slots)
            self._among_known_until = None
            if len(rows) < slots:
                self._rhythm.note_claim(rows)
        self._away_since = None
        return rows

    def forget_claimed(self, asked: float) -> None:
        """Forget the remembered rows that were due at a claim asked for at these monotonic seconds.

        Those that are not in hand now are another replica's, unless slots were short.
        """
        if self._away_since is None and self._among_known_until is None:
            ahead = 0.0 if self._slots.are_short else self._registry.horizon
            self._outbox.forget_due(asked + ahead)

    def _is_among_known(self) -> bool:
        if self._among_known_until is None:
            return self._away_since is not None
        return time.monotonic() < self._among_known_until

    def _end_of_wait(self) -> float:
        now = time.monotonic()
        return now + min(LAGGARD_SECONDS, now - (self._away_since or now))

    def _known_due(self, slots: int, slow_slots: int) -> Sequence[UUID]:
        """Tell which rows no other replica checks from memory: those in hand and remembered."""
        in_hand = self._slots.by_id()
        quick: list[UUID] = []
        slow: list[UUID] = []
        for row in self._outbox.due_by(time.monotonic() + self._registry.horizon):
            if row.identity.database_id not in in_hand:
                (slow if row.is_slow else quick).append(row.identity.database_id)
        return [*in_hand, *quick[:slots], *slow[:slow_slots]]
