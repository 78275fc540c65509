"""Whether the slots suffice for what is due, and how much is missing."""

from __future__ import annotations

import math
import time

from worker.model import CheckResult, Event
from worker.ports import Log

WARNING_SECONDS = 60.0
SHRINKING = 0.9
"""A backlog that falls below so much of itself between two looks is being caught up with."""


class Capacity:
    """Compares when this worker's checks were due with when they began.

    Too few slots make every row wait alike, for the most overdue goes first: it is checked every
    interval plus lateness in place of every interval. So their ratio is what is missing.
    """

    def __init__(self, slots: int, log: Log) -> None:
        self._slots = slots
        self._log = log
        self._began = self._since = time.monotonic()
        self._warned_at = -math.inf
        self._overdue = math.inf
        self._checks, self._lateness, self._intervals = 0, 0.0, 0.0

    def checked(self, result: CheckResult) -> None:
        """Take a result; a row cannot have waited for this worker before there was one."""
        self._checks += 1
        self._lateness += min(result.lateness, result.started - self._began)
        self._intervals += result.interval

    def look(self, overdue: int, in_flight: int, *, is_short: bool) -> None:
        """Say at most once a minute that the slots do not suffice, and how much is missing."""
        now = time.monotonic()
        rate = self._checks / max(now - self._since, 1e-3)
        missing = self._lateness / self._intervals if self._intervals else 0.0
        is_growing = overdue >= SHRINKING * self._overdue
        self._since, self._overdue = now, overdue or math.inf
        self._checks, self._lateness, self._intervals = 0, 0.0, 0.0
        if not (is_short and is_growing) or now - self._warned_at < WARNING_SECONDS:
            return
        self._warned_at = now
        slots = max(1, math.ceil(self._slots * missing))
        self._log(
            Event.CAPACITY_SHORT,
            "warn",
            f"{overdue} databases are overdue: this worker checks {rate:.1f} a second and lacks "
            f"{rate * missing:.1f}; raise MAX_CONCURRENT_CHECKS by {slots} or run another replica",
            overdue=overdue,
            slots=self._slots,
            in_flight=in_flight,
            checks_per_second=round(rate, 1),
            missing_checks_per_second=round(rate * missing, 1),
            missing_slots=slots,
        )
