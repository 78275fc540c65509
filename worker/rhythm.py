"""How long it is to the next tick, so that replicas of one registry do equal parts of its work."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from worker.model import RawRow

STRAY = 0.4
"""By how much of itself a tick may be longer or shorter."""
LONGEST = 1 + STRAY
"""Ticks that the longest one lasts: rows are claimed for as long ahead."""
STRAY_AMONG_FEW = 0.02
"""The same where ticks are kept apart: two that fall together have to part."""
PULL = STRAY - STRAY_AMONG_FEW
"""How much of a tick it waits longer that claims right behind another replica."""
FEW = 20
"""Among more replicas than these, chance spaces the ticks as well, and sooner."""
REMEMBERED = 8
"""Over about how many claims it is told how many replicas there are."""


class Rhythm:
    """Keeps one replica's ticks away from those of the others, whom it does not know.

    A claim takes all that has come within its horizon since anybody's last one: its first row tells
    how long ago that was, and who comes late gets more. The longer that was, the sooner is the
    next tick. All replicas do so by the same rule, and stand still only where all gaps are equal:
    what each waits besides, all wait, so nobody has to know how many they are. See docs/adr/0016.
    """

    def __init__(
        self, horizon: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        """Take how many seconds ahead rows are claimed, and where chance comes from."""
        self._horizon = horizon
        self._tick = horizon / LONGEST
        self._uniform = uniform
        self._since: float | None = None
        """Seconds from anybody's last claim to this replica's; None where that is not known."""
        self._usual = 0.0
        """The same of the last few claims; some T/N where N replicas tick every T seconds."""
        self._is_between_ticks = False
        self._is_after_own_claim = False

    @contextmanager
    def between_ticks(self) -> Iterator[None]:
        """Claim in here for slots that have become free.

        Such a claim tells nothing, and the next one only how long ago it was.
        """
        self._is_between_ticks = self._is_after_own_claim = True
        try:
            yield
        finally:
            self._is_between_ticks = False

    def note_claim(self, rows: Sequence[RawRow]) -> None:
        """Learn from a claim that took all that was due within the horizon, first rows first.

        Rows that were due before it tell nothing: they were edited, or have waited for a slot.
        """
        if self._is_between_ticks:
            return
        is_after_own_claim, self._is_after_own_claim = self._is_after_own_claim, False
        ahead = ((row.lease.slot - row.lease.claimed_at).total_seconds() for row in rows)
        first = next((seconds for seconds in ahead if seconds > 0), None)
        if is_after_own_claim or (rows and first is None):
            return
        self._since = 0.0 if first is None else max(0.0, self._horizon - first)
        self._usual += (self._since - self._usual) / REMEMBERED

    def gap(self) -> float:
        """Draw how many seconds the next tick comes after the last one."""
        since, self._since = self._since, None
        if since is None or self._usual < self._tick / FEW:
            return self._stray(STRAY) * self._tick
        return (self._stray(STRAY_AMONG_FEW) + PULL) * self._tick - PULL * since

    def _stray(self, most: float) -> float:
        return self._uniform(1 - most, 1 + most)
