"""Gives a result to every sink but the registry: counters, the log, the fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.fleet import Fleet
from worker.model import CheckResult, RawRow
from worker.ports import Log, Meter
from worker.words import Event, Reason

REPEAT_SECONDS = 60.0
"""How long a trouble of ours that was said is not said again."""
MAX_TROUBLES = 32
"""Different ones that are told apart; ours are fewer, so more of them have a part that varies."""
OTHERS = "internal: many things at once"
_REJECTS = frozenset({Reason.MISCONFIGURED, Reason.UNDECRYPTABLE})


@dataclass(slots=True)
class _Trouble:
    said_at: float = float("-inf")
    """Seconds of the sinks' clock."""
    checks: int = 0
    """How many it has kept from an answer since."""


class Sinks:
    """Everybody who hears of a result before the registry does."""

    def __init__(
        self, meter: Meter, log: Log, fleet: Fleet, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Take them, and the clock by which a trouble of ours is said again."""
        self.meter = meter
        self.log = log
        self.fleet = fleet
        self._now = now
        self._troubles: dict[str, _Trouble] = {}

    def take(self, row: RawRow, result: CheckResult) -> None:
        """Count, log and show one result."""
        self.meter.checked(result)
        self.fleet.lay(result)
        self.log(
            Event.CHECK_FINISHED,
            "debug",
            f"{result.identity.name}: {result.reason}",
            lateness_ms=round(result.lateness * 1000, 1),
            **check_facts(result),
        )
        if result.reason in _REJECTS and row.last_reason is not result.reason:
            self.log(
                Event.DATABASE_REJECTED,
                "warn",
                f"{result.identity.name} cannot be checked: {result.error}",
                **check_facts(result),
            )
        if result.reason is Reason.INTERNAL:
            # What stands in brackets names hosts, and would make of one trouble as many.
            self.complain((result.error or "").partition(" (")[0])

    def complain(self, cause: str) -> None:
        """Say at once what is wrong with us, then at most once a minute, however many rows."""
        cause, trouble = self._recall(cause)
        trouble.checks += 1
        if self._now() - trouble.said_at < REPEAT_SECONDS:
            return
        self.log(
            Event.CHECKS_IMPAIRED,
            "warn",
            f"the worker itself keeps checks from an answer, statuses stay: {cause}",
            cause=cause,
            checks=trouble.checks,
        )
        trouble.said_at, trouble.checks = self._now(), 0

    def _recall(self, cause: str) -> tuple[str, _Trouble]:
        """Find what is known of a trouble; of too many different ones they are one."""
        if cause not in self._troubles and len(self._troubles) >= MAX_TROUBLES:
            lately = self._now() - REPEAT_SECONDS
            self._troubles = {
                known: trouble
                for known, trouble in self._troubles.items()
                if trouble.said_at > lately
            }
            if len(self._troubles) >= MAX_TROUBLES:
                cause = OTHERS
        return cause, self._troubles.setdefault(cause, _Trouble())


def check_facts(result: CheckResult) -> dict[str, object]:
    """Say what a log line or a JSON document tells of a result."""
    latency = None if result.latency is None else round(result.latency * 1000, 1)
    return {
        "database_id": str(result.identity.database_id),
        "project_id": str(result.identity.project_id),
        "name": result.identity.name,
        "engine": result.identity.engine,
        "status": result.status,
        "reason": result.reason,
        "error": result.error,
        "latency_ms": latency,
        "attempts": result.attempts,
    }
