"""Logs every change at least once, hardly ever twice; recorded ones with their change_id."""

from __future__ import annotations

import time
from typing import NamedTuple
from uuid import UUID

from worker.model import Change, CheckResult
from worker.ports import Kept, Level, Log, Registry
from worker.words import Event, Status

KEPT_SECONDS = 600.0
"""How long is known what an outage has logged; the registry asks half a minute after it."""
GRAIN_SECONDS = 0.001
"""By how much a moment may differ that went to the registry and back."""
AHEAD_SECONDS = 5.0
"""How far our account of the registry's time may be ahead: by what a claim has waited. It puts no
check later than its own now."""
MAX_OUTAGES = 10
"""Of one database, the last ones, that are known apart."""
_LEVELS: dict[Status, Level] = {
    Status.HEALTHY: "info",
    Status.DEGRADED: "warn",
    Status.UNKNOWN: "warn",
    Status.UNHEALTHY: "error",
}


class _Told(NamedTuple):
    """A status that is in the log, and when the last check that found it ended, monotonic."""

    status: Status
    finished: float

    def is_of(self, change: Change, result: CheckResult) -> bool:
        """Tell whether it is this change; of a row claimed since then, it is another one."""
        is_from_then = result.lease.claimed_monotonic <= self.finished
        return change.status is self.status and is_from_then


class _Logged(NamedTuple):
    """The statuses of a database that one outage has logged, and when their checks ended."""

    statuses: frozenset[Status]
    since: float
    """The registry's time, a POSIX timestamp, as `until` is."""
    until: float
    finished: float
    """The last of those checks, in monotonic seconds."""

    def holds(self, change: Change) -> bool:
        """Tell whether this change is from one of those checks: a record's answer may be lost."""
        if change.at is None or change.status not in self.statuses:
            return False
        at = change.at.timestamp()
        return self.since - AHEAD_SECONDS <= at <= self.until + GRAIN_SECONDS


class Announcer:
    """Writes `database_health_changed` and tells the registry which changes are in the log."""

    def __init__(self, registry: Registry, log: Log) -> None:
        self._registry = registry
        self._log = log
        self._to_mark: set[int] = set()
        """What is in the log, and the registry has not heard of."""
        self._told: dict[UUID, _Told] = {}
        """What was logged in an outage, and the registry does not know of yet."""
        self._logged: dict[UUID, tuple[_Logged, ...]] = {}
        """What was logged in outages, and the registry may yet ask to have logged."""

    def recorded(self, change: Change, result: CheckResult) -> None:
        """Log a change that the registry has committed, unless an outage has told of it."""
        told = self._told.pop(change.identity.database_id, None)
        if told is None or not told.is_of(change, result):
            self._write(change, result)
        if change.change_id is not None:
            self._to_mark.add(change.change_id)

    def unrecorded(self, result: CheckResult, previous: Status) -> None:
        """Log a change against what was told last that the registry cannot be told now."""
        told = self._told.get(result.identity.database_id)
        before = told.status if told else previous
        if result.status is None or (told is None and result.status is before):
            return
        self._told[result.identity.database_id] = _Told(result.status, result.finished)
        self._note_logged(result, result.status, goes_on=told is not None)
        if result.status is not before:
            self._write(_change(result, result.status, before), result)

    def unchanged(self, result: CheckResult, kept: Kept | None = None) -> None:
        """Log what takes back a change that was told, and of which the registry never heard.

        What stands there is the result, or what was `kept` instead.
        """
        status = kept.status if kept else result.status
        if status is None:
            return
        told = self._told.pop(result.identity.database_id, None)
        if told is None or told.status is status:
            return
        if kept:
            change = Change(None, result.identity, told.status, *kept)
            self._write(change, None)
        else:
            self._write(_change(result, status, told.status), result)

    def forget(self, database_id: UUID) -> None:
        """Take back nothing of a row that is gone, inactive or edited."""
        self._told.pop(database_id, None)

    async def mark(self) -> None:
        """Note in the registry what is in the log; raises RegistryUnavailableError."""
        if not self._to_mark:
            return
        marked = frozenset(self._to_mark)
        await self._registry.mark_announced(sorted(marked))
        self._to_mark -= marked

    async def adopt(self) -> None:
        """Log what a killed worker left unannounced; raises RegistryUnavailableError."""
        marked = set(self._to_mark)  # the answer may be from before they were marked
        unannounced = await self._registry.unannounced()
        marked |= self._to_mark
        for change in unannounced:
            if change.change_id is None or change.change_id in marked:
                continue
            logged = self._logged.get(change.identity.database_id, ())
            if not any(outage.holds(change) for outage in logged):
                self._write(change, None)
            self._to_mark.add(change.change_id)
        await self.mark()
        self._forget_logged()

    def _note_logged(self, result: CheckResult, status: Status, *, goes_on: bool) -> None:
        """Note what an outage has logged, of one that goes on or of another one."""
        database_id = result.identity.database_id
        at = result.lease.registry_time(result.finished)
        outages = self._logged.get(database_id, ())
        statuses, since = frozenset({status}), at
        if goes_on and outages:
            statuses, since = statuses | outages[-1].statuses, outages[-1].since
            outages = outages[:-1]
        outage = _Logged(statuses, since, at, result.finished)
        self._logged[database_id] = (*outages[1 - MAX_OUTAGES :], outage)

    def _forget_logged(self) -> None:
        """Drop what the registry, were it to ask, would have asked for by now."""
        oldest = time.monotonic() - KEPT_SECONDS
        stale = [key for key, logged in self._logged.items() if logged[-1].finished < oldest]
        for database_id in stale:
            del self._logged[database_id]

    def _write(self, change: Change, result: CheckResult | None) -> None:
        where = f" ({result.address})" if result is not None and result.address else ""
        why = "" if change.status is Status.HEALTHY else f": {change.reason}{where}"
        latency = None if change.latency is None else round(change.latency * 1000, 1)
        level, verb, late = _LEVELS[change.status], "is", {}
        if change.is_superseded:  # nobody shall be woken for it, nor take it for the last word
            level, verb, late = "info", "was", {"superseded": True}
        self._log(
            Event.DATABASE_HEALTH_CHANGED,
            level,
            f"{change.identity.name} {verb} {change.status}{why}",
            change_id=change.change_id,
            database_id=str(change.identity.database_id),
            project_id=str(change.identity.project_id),
            name=change.identity.name,
            engine=change.identity.engine,
            previous=change.previous,
            status=change.status,
            reason=change.reason,
            error=change.error,
            latency_ms=latency,
            attempts=change.attempts,
            recorded=change.change_id is not None,
            **late,
        )


def _change(result: CheckResult, status: Status, previous: Status) -> Change:
    return Change(
        change_id=None,
        identity=result.identity,
        previous=previous,
        status=status,
        reason=result.reason,
        error=result.error,
        latency=result.latency,
        attempts=result.attempts,
    )
