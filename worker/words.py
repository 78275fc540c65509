"""The closed lists of words that metrics, logs and the registry share; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


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
