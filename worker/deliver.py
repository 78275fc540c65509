"""Gives a result to every sink that takes it at once: counters, the log, the fleet."""

from __future__ import annotations

from dataclasses import dataclass

from worker.fleet import Fleet
from worker.model import CheckResult, Event, RawRow, Reason
from worker.ports import Log, Meter

_REJECTS = frozenset({Reason.MISCONFIGURED, Reason.UNDECRYPTABLE})


@dataclass(frozen=True, slots=True)
class Sinks:
    """Everybody who hears of a result before the registry does."""

    meter: Meter
    log: Log
    fleet: Fleet

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
