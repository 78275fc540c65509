"""The nouns that the floors hand to each other; standard library only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from worker.words import Phase, Reason, Status

SLOW_SHARE = 0.05
"""Of its interval that a row may hold a slot for: it takes 4,000 such rows to fill 200 slots."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database: what a log line or a metric may say of it."""

    database_id: UUID
    project_id: UUID
    name: str
    engine: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to check one row until `leased_until`; all times are the registry's."""

    revision: int
    slot: datetime
    """When the row was due."""
    leased_until: datetime
    claimed_at: datetime
    claimed_monotonic: float
    """Monotonic seconds at which `claimed_at` was read."""

    def registry_time(self, monotonic: float) -> float:
        """The registry's time at the given monotonic seconds, as a POSIX timestamp."""
        return self.claimed_at.timestamp() + monotonic - self.claimed_monotonic

    def has_run_out(self, monotonic: float) -> bool:
        """Whether another replica may have claimed the row by the given monotonic seconds."""
        return self.registry_time(monotonic) >= self.leased_until.timestamp()


@dataclass(frozen=True, slots=True)
class RawRow:
    """A claimed row as the registry gave it, nothing in it believed yet; holds a clear secret."""

    identity: Identity
    connection_string: str | None = field(repr=False)
    """None where the row has none, or where it does not decrypt."""
    is_decrypted: bool
    config: str = field(repr=False)
    """JSON text."""
    ssl_enabled: bool
    lease: Lease
    status: Status
    last_reason: Reason | None
    is_slow: bool = False
    """Whether it shares half of the slots with its like; see `CheckResult.is_slow`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server that answered told: where the time went."""

    phases: Mapping[Phase, float] = field(default_factory=dict)
    """Seconds a phase."""
    at: float = field(default_factory=time.monotonic)
    """Monotonic seconds; made before the connection closes, so closing is no latency."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The immutable record of a check; holds no connection string."""

    identity: Identity
    lease: Lease
    reason: Reason
    status: Status | None
    """None: the last known status stays."""
    error: str | None
    """None, or `<reason>: <text>`: cleaned and scrubbed."""
    latency: float | None
    """Seconds of the attempt that answered; None where none did."""
    phases: Mapping[Phase, float]
    attempts: int
    started: float
    """Monotonic seconds of the first attempt."""
    finished: float
    """Monotonic seconds."""
    interval: float
    """Seconds until the next check."""
    address: str = ""
    """Host and port for people; empty where none is known."""

    @property
    def lateness(self) -> float:
        """Seconds from the due time to the start of the first attempt; never negative."""
        return max(0.0, self.lease.registry_time(self.started) - self.lease.slot.timestamp())

    @property
    def duration(self) -> float:
        """Seconds from the first attempt to the end, retries included."""
        return self.finished - self.started

    def is_newer_than(self, claim: Lease) -> bool:
        """Whether a claim of the same edit was asked for before this check ended."""
        is_same_edit = self.lease.revision == claim.revision
        return is_same_edit and self.finished > claim.claimed_monotonic

    @property
    def is_slow(self) -> bool:
        """Whether it held its slot for long: such rows get half of the slots."""
        return self.reason.is_slow_to_find or self.duration > self.interval * SLOW_SHARE


@dataclass(frozen=True, slots=True)
class Change:
    """A status that differs from the one before."""

    change_id: int | None
    """None where the registry does not know of it yet."""
    identity: Identity
    previous: Status
    status: Status
    reason: str
    """A `Reason`, or the word of one that only a newer worker knows."""
    error: str | None
    latency: float | None = None
    attempts: int | None = None
    at: datetime | None = None
    """The registry's time of the check that found it; None where this worker made the check."""
    is_superseded: bool = False
    """Whether it is told after a later one of the same database."""


Lines = tuple[str, ...]
"""The text that shows a database's state, a line for each series."""


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What the registry last knew of one active row."""

    identity: Identity
    status: Status
    reason: Reason | None
    latency: float | None
    checked_at: float | None
    """POSIX timestamp."""
