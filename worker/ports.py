"""The Protocols through which the lower floors use the upper ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

from worker.connection import ConnectionString
from worker.model import Answer, Change, CheckResult, Lease, RawRow
from worker.plan import Config, Plan
from worker.words import Event, Reason, Status

P = TypeVar("P", bound=Plan)
Level = Literal["debug", "info", "warn", "error"]


class Probe(Protocol[P]):
    """Everything that the worker knows of one engine."""

    def plan(self, connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> P:
        """Make of a row's data what `ask` needs; contacts nobody.

        Raises:
            ProbeError: `misconfigured`, naming the scheme, option or key, never a value.
        """
        ...

    async def ask(self, plan: P) -> Answer:
        """Connect, authenticate, ping, close; the caller owns deadline and latency.

        Raises:
            ProbeError: why no application could use the server now.
        """
        ...


class Log(Protocol):
    """Where events go."""

    def __call__(self, event: Event, level: Level, message: str, **facts: object) -> None:
        """Write one event."""
        ...


class Meter(Protocol):
    """Where figures of the worker's own doing go."""

    def checked(self, result: CheckResult) -> None:
        """Count one finished check."""
        ...

    def ticked(self, seconds: float) -> None:
        """Note that a tick has ended, well or by a registry error."""
        ...

    def registry_failed(self, operation: str) -> None:
        """Count a failed call to the registry."""
        ...

    def registry_usable(self, *, usable: bool) -> None:
        """Set whether the registry can be used."""
        ...


class Kept(NamedTuple):
    """What the registry knows of a later check, by another replica or after an outage."""

    status: Status
    reason: Reason
    error: str | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the registry says of one result that it took."""

    database_id: UUID
    change: Change | None
    next_due: datetime | None
    """The registry's time of the next check; None where the result was dropped."""
    kept: Kept | None = None
    """What stands in the registry instead of a result that is older."""
    is_gone: bool = False
    """Whether it was dropped because the row is gone or inactive, and not for an edit."""


class Registry(Protocol):
    """The registry's functions, as the floors below see them.

    Every call raises RegistryUnavailableError when the registry cannot be used just now.
    """

    @property
    def horizon(self) -> float:
        """How many seconds before their due time rows are claimed."""
        ...

    async def tend(self) -> None:
        """Heal a part of the schedule and note the registry's time."""
        ...

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        """Lease rows that are due within the coming tick."""
        ...

    async def claim_known(self, ids: Sequence[UUID]) -> Sequence[RawRow]:
        """Lease those of these rows that are due within the coming tick and not leased."""
        ...

    async def record(self, results: Sequence[CheckResult]) -> Sequence[Recorded]:
        """Write results; those not returned are locked elsewhere and stay pending.

        Raises:
            BadResultsError: the batch was refused for its data; nothing of it was written.
        """
        ...

    async def give_back(self, leases: Mapping[UUID, Lease]) -> None:
        """Make rows due again whose check was cut."""
        ...

    async def unannounced(self) -> Sequence[Change]:
        """Take the changes that a killed worker left unannounced."""
        ...

    async def mark_announced(self, change_ids: Sequence[int]) -> None:
        """Note that these changes are in the log."""
        ...
