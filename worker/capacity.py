"""Whether the slots suffice for what is due, and how much is missing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from worker.model import CheckResult
from worker.ports import Log
from worker.words import Event

WARNING_SECONDS = 60.0
SHRINKING = 0.9
"""A backlog that falls below so much of itself between two looks is being caught up with."""


@dataclass(slots=True)
class _Tally:
    """Checks since the last look, of slow rows or of the others."""

    checks: int = 0
    lateness: float = 0.0
    intervals: float = 0.0
    """Seconds, both summed up."""

    @property
    def missing(self) -> float:
        """How many more checks there would have to be for each that there was."""
        return self.lateness / self.intervals if self.intervals else 0.0


class Capacity:
    """Compares when this worker's checks were due with when they began.

    Too few slots make every row wait alike, for the most overdue goes first: it is checked every
    interval plus lateness in place of every interval. So their ratio is what is missing. Slow rows
    wait for their half of the slots, and the others for what is left: whoever lacks most tells by
    how much the slots have to grow.
    """

    def __init__(self, slots: int, log: Log) -> None:
        self._slots = slots
        self._log = log
        self._began = self._since = time.monotonic()
        self._warned_at = -math.inf
        self._overdue = math.inf
        self._tallies = {False: _Tally(), True: _Tally()}
        """By whether the rows are slow."""

    def checked(self, result: CheckResult) -> None:
        """Take a result; a row cannot have waited for this worker before there was one."""
        tally = self._tallies[result.is_slow]
        tally.checks += 1
        tally.lateness += min(result.lateness, result.started - self._began)
        tally.intervals += result.interval

    def look(self, overdue: int, in_flight: int, *, is_short: bool) -> None:
        """Say at most once a minute that the slots do not suffice, and how much is missing."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-3)
        tallies = self._tallies.values()
        rate = sum(tally.checks for tally in tallies) / seconds
        lacking = sum(tally.checks * tally.missing for tally in tallies) / seconds
        slots = max(1, math.ceil(self._slots * max(tally.missing for tally in tallies)))
        is_growing = overdue >= SHRINKING * self._overdue
        self._since, self._overdue = now, overdue or math.inf
        self._tallies = {False: _Tally(), True: _Tally()}
        if not (is_short and is_growing) or now - self._warned_at < WARNING_SECONDS:
            return
        self._warned_at = now
        self._log(
            Event.CAPACITY_SHORT,
            "warn",
            f"{overdue} databases are overdue: this worker checks {rate:.1f} a second and lacks "
            f"{lacking:.1f}; raise MAX_CONCURRENT_CHECKS by {slots} or run another replica",
            overdue=overdue,
            slots=self._slots,
            in_flight=in_flight,
            checks_per_second=round(rate, 1),
            missing_checks_per_second=round(lacking, 1),
            missing_slots=slots,
        )
