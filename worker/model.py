"""Nouns, reasons and event names; standard library only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

SLOW_SHARE = 0.05
"""Of its interval that a row may hold a slot for: it takes 4,000 such rows to fill 200 slots."""


class Engine(StrEnum):
    """A kind of database server; the registry's column `type`."""

    MONGODB = "mongodb"
    REDIS = "redis"
    POSTGRESQL = "postgresql"


class Status(StrEnum):
    """The colour of a Studio user's dot; the registry's `health_check_status`."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Reason(StrEnum):
    """Why a check ended as it did: the closed list that metrics, logs and the registry share."""

    OK = "ok"
    SLOW = "slow"
    TIMEOUT = "timeout"
    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CLOSED = "closed"
    TLS = "tls"
    AUTH = "auth"
    MISSING = "missing"
    NOT_READY = "not_ready"
    SATURATED = "saturated"
    PROTOCOL = "protocol"
    MISCONFIGURED = "misconfigured"
    UNDECRYPTABLE = "undecryptable"
    BLOCKED = "blocked"
    INTERNAL = "internal"

    @property
    def status(self) -> Status | None:
        """The status that this reason means; None where the last known one stays."""
        return _STATUS_OF.get(self, Status.UNHEALTHY)

    @property
    def is_retried(self) -> bool:
        """Whether another attempt may answer; authentication never is, it locks accounts."""
        return self in _RETRIED

    @property
    def is_slow_to_find(self) -> bool:
        """Whether finding this out takes its whole time."""
        return self in {Reason.TIMEOUT, Reason.DNS, Reason.UNREACHABLE}

    @property
    def is_failure(self) -> bool:
        """Whether a result with this reason counts in the failure counter."""
        return self not in {Reason.OK, Reason.SLOW}


_STATUS_OF: Mapping[Reason, Status | None] = {
    Reason.OK: Status.HEALTHY,
    Reason.SLOW: Status.DEGRADED,
    Reason.MISCONFIGURED: Status.UNKNOWN,
    Reason.UNDECRYPTABLE: Status.UNKNOWN,
    Reason.BLOCKED: Status.UNKNOWN,
    Reason.INTERNAL: None,
}
_RETRIED = frozenset(
    {
        Reason.TIMEOUT,
        Reason.DNS,
        Reason.REFUSED,
        Reason.UNREACHABLE,
        Reason.CLOSED,
        Reason.NOT_READY,
        Reason.SATURATED,
    }
)


class Phase(StrEnum):
    """A part of the latency of the attempt that answered."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    PING = "ping"


class Event(StrEnum):
    """The name of a log line; alerts are built on it."""

    WORKER_STARTED = "worker_started"
    CHECK_FINISHED = "check_finished"
    DATABASE_HEALTH_CHANGED = "database_health_changed"
    DATABASE_REJECTED = "database_rejected"
    CHECK_CRASHED = "check_crashed"
    CHECKS_IMPAIRED = "checks_impaired"
    CAPACITY_SHORT = "capacity_short"
    DATABASE_SERIES_OFF = "database_series_off"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    REGISTRY_RECOVERED = "registry_recovered"
    TICK_FAILED = "tick_failed"
    WORKER_DRAINING = "worker_draining"
    WORKER_STOPPED = "worker_stopped"


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
