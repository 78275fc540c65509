"""Stand-ins for the worker's own ports: a registry in memory, a log that remembers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from worker.check import Check, Checker
from worker.errors import RegistryUnavailableError
from worker.model import Change, CheckResult, Identity, Lease, RawRow
from worker.ports import Kept, Level, Recorded
from worker.words import Event, Reason, Status

INTERVAL_SECONDS = 5.0


def make_row(
    due_in: float = 0.0, reason: Reason | None = None, status: Status = Status.HEALTHY
) -> RawRow:
    """Make a row that was claimed just now and is due in so many seconds."""
    now = datetime.now(UTC)
    lease = Lease(
        revision=1,
        slot=now + timedelta(seconds=due_in),
        leased_until=now + timedelta(seconds=45),
        claimed_at=now,
        claimed_monotonic=time.monotonic(),
    )
    return RawRow(
        identity=Identity(uuid4(), uuid4(), "a database", "redis"),
        connection_string="redis://somewhere",
        is_decrypted=True,
        config="{}",
        ssl_enabled=False,
        lease=lease,
        status=status,
        last_reason=reason,
        is_slow=reason is not None and reason.is_slow_to_find,
    )


def make_result(row: RawRow, reason: Reason = Reason.OK, interval: float = 0.0) -> CheckResult:
    """Make the result of a check of this row that ended just now."""
    now = time.monotonic()
    return CheckResult(
        identity=row.identity,
        lease=row.lease,
        reason=reason,
        status=reason.status,
        error=None if reason is Reason.OK else f"{reason}: for a test",
        latency=None,
        phases={},
        attempts=1,
        started=now,
        finished=now,
        interval=interval,
    )


@dataclass(slots=True)
class FakeRegistry:
    """A registry in memory; may be away, hang, refuse data or keep rows locked."""

    due: list[RawRow] = field(default_factory=list)
    statuses: dict[UUID, Status] = field(default_factory=dict)
    recorded: list[CheckResult] = field(default_factory=list)
    given_back: dict[UUID, Lease] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    announced: list[int] = field(default_factory=list)
    locked: set[UUID] = field(default_factory=set)
    later: dict[UUID, Kept] = field(default_factory=dict)
    """What another replica found after every result of these rows."""
    is_away: bool = False
    silence: asyncio.Event | None = None
    """While it is there and not set, no call returns."""
    distance: asyncio.Event | None = None
    """While it is there and not set, what is unannounced is on its way to whoever asked."""
    next_due: Callable[[], datetime] = lambda: datetime.now(UTC) + timedelta(minutes=1)
    horizon: float = 1.0

    async def _answer(self) -> None:
        if self.silence is not None:
            await self.silence.wait()
        if self.is_away:
            raise RegistryUnavailableError("away for a test")

    async def tend(self) -> None:
        """Do nothing."""
        await self._answer()

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        """Hand out what is due, at most so many rows of each kind."""
        await self._answer()
        slow = [row for row in self.due if row.is_slow]
        quick = [row for row in self.due if row not in slow]
        taken = [*quick, *slow[:slow_slots]][:slots]
        self.due = [row for row in self.due if row not in taken]
        return taken

    async def claim_known(self, ids: Sequence[UUID]) -> Sequence[RawRow]:
        """Hand out those of these rows that are due."""
        await self._answer()
        taken = [row for row in self.due if row.identity.database_id in ids]
        self.due = [row for row in self.due if row not in taken]
        return taken

    async def record(self, results: Sequence[CheckResult]) -> Sequence[Recorded]:
        """Take the results of rows that are not locked, and say what changed."""
        await self._answer()
        return [self._record(r) for r in results if r.identity.database_id not in self.locked]

    def _record(self, result: CheckResult) -> Recorded:
        database_id = result.identity.database_id
        if kept := self.later.get(database_id):
            return Recorded(database_id, None, self.next_due(), kept)
        previous = self.statuses.get(database_id, Status.UNKNOWN)
        status = self.statuses[database_id] = result.status or previous
        self.recorded.append(result)
        change = None
        if status is not previous:
            number = len(self.changes) + 1
            change = Change(number, result.identity, previous, status, result.reason, result.error)
            self.changes.append(change)
        return Recorded(database_id, change, self.next_due())

    async def give_back(self, leases: Mapping[UUID, Lease]) -> None:
        """Note the leases."""
        await self._answer()
        self.given_back.update(leases)

    async def unannounced(self) -> Sequence[Change]:
        """Return every change that nobody announced."""
        await self._answer()
        found = [change for change in self.changes if change.change_id not in self.announced]
        if self.distance is not None:
            await self.distance.wait()
        return found

    async def mark_announced(self, change_ids: Sequence[int]) -> None:
        """Note that these were announced."""
        await self._answer()
        self.announced.extend(change_ids)


class FakeChecker(Checker):
    """Ends a check when it is told to, or at once."""

    def __init__(self, reason: Reason = Reason.OK) -> None:
        """Take what every check finds."""
        self.reason = reason
        self.checked: list[RawRow] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def prepare(self, row: RawRow) -> Check:
        """Make every row ready."""
        return partial(self._pass, row)

    async def _pass(self, row: RawRow) -> CheckResult:
        """Wait at the gate, then return the result."""
        self.checked.append(row)
        await self.gate.wait()
        return make_result(row, self.reason, interval=INTERVAL_SECONDS)


@dataclass(frozen=True, slots=True)
class Line:
    """One event that was logged."""

    event: Event
    level: Level
    facts: Mapping[str, Any]


class Lines(list[Line]):
    """A log that remembers."""

    def __call__(self, event: Event, level: Level, message: str, **facts: object) -> None:
        """Keep one event."""
        self.append(Line(event, level, {"message": message, **facts}))

    def of(self, event: Event) -> list[Line]:
        """Return the lines of one event."""
        return [line for line in self if line.event is event]


class FakeMeter:
    """Counts what the tests ask for."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.failed: list[str] = []
        self.is_usable: bool | None = None

    def checked(self, result: CheckResult) -> None:
        """Ignore it."""

    def ticked(self, seconds: float) -> None:
        """Ignore it."""

    def registry_failed(self, operation: str) -> None:
        """Keep what failed."""
        self.failed.append(operation)

    def registry_usable(self, *, usable: bool) -> None:
        """Keep whether it is usable."""
        self.is_usable = usable


def renewed(row: RawRow) -> RawRow:
    """Claim a row again: the same one with another lease."""
    now = datetime.now(UTC)
    lease = replace(row.lease, slot=now, leased_until=now + timedelta(seconds=90), claimed_at=now)
    return replace(row, lease=replace(lease, claimed_monotonic=time.monotonic()))
