"""The statements by which rows are tended, claimed, recorded, given back and announced."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from worker.errors import BadResultsError
from worker.model import Change, CheckResult, Lease, RawRow
from worker.ports import Recorded
from worker.registry_connection import RegistryConnection
from worker.registry_rows import read_change, read_recorded, read_row, write_result
from worker.rhythm import LONGEST

TEND_BATCH = 500
"""Rows whose schedule a tick looks at."""
ANNOUNCE_AFTER = timedelta(seconds=30)
CHANGES_BATCH = 500
"""Changes that are taken over at once."""
LEASE_MARGIN_SECONDS = 15.0
CLOCK_TOLERANCE = timedelta(seconds=10)
"""The same as in platform.tend_database_schedules."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How far ahead rows are claimed, which is the longest tick, and how long they are leased."""

    horizon: timedelta
    lease: timedelta

    @classmethod
    def of(cls, tick_seconds: float, deadline_seconds: float) -> Pace:
        """Derive it from the settings, in seconds."""
        horizon = LONGEST * tick_seconds
        # A check may start a horizon after its claim: long ticks need more than the usual margin.
        margin = max(LEASE_MARGIN_SECONDS, horizon + LEASE_MARGIN_SECONDS / 2)
        return cls(timedelta(seconds=horizon), timedelta(seconds=deadline_seconds + margin))


class _Reading(NamedTuple):
    """The registry's time, and between which monotonic seconds it was read."""

    now: datetime
    asked: float
    answered: float


class Registry:
    """The registry's functions as methods; all raise as RegistryConnection.fetch does."""

    def __init__(self, connection: RegistryConnection, pace: Pace) -> None:
        self._connection = connection
        self._pace = pace
        self._tended: UUID | None = None
        self._clock: _Reading | None = None

    @property
    def horizon(self) -> float:
        """How many seconds before their due time rows are claimed."""
        return self._pace.horizon.total_seconds()

    async def tend(self) -> None:
        """Heal a part of the schedule, and all of it where the registry's clock was set."""
        reading = await self._tend(None)
        if (expected := self._expected(reading)) is not None:
            reading = await self._tend(expected)
        self._clock = reading

    async def _tend(self, expected: datetime | None) -> _Reading:
        asked = time.monotonic()
        self._tended, now = await self._connection.read(
            lambda rows: (rows[0]["next_after"], rows[0]["registry_now"]),
            "tend",
            "select next_after, registry_now from platform.tend_database_schedules($1, $2, $3, $4)",
            self._tended,
            TEND_BATCH,
            self._pace.lease,
            expected,
        )
        return _Reading(now, asked, time.monotonic())

    async def claim(self, slots: int, slow_slots: int) -> Sequence[RawRow]:
        """Lease rows that are due within the coming tick."""
        return await self._rows(
            "claim",
            "select * from platform.claim_databases($1, $2, $3, $4)",
            slots,
            slow_slots,
            self._pace.horizon,
            self._pace.lease,
        )

    async def claim_known(self, ids: Sequence[UUID]) -> Sequence[RawRow]:
        """Lease those of these rows that are due within the coming tick and not leased."""
        return await self._rows(
            "claim",
            "select * from platform.claim_known_databases($1, $2, $3)",
            ids,
            self._pace.horizon,
            self._pace.lease,
        )

    async def claim_by_id(self, ids: Sequence[UUID] | None) -> Sequence[RawRow]:
        """Lease these rows (None: all active ones), due or not, but none that is leased."""
        return await self._rows(
            "claim",
            "select * from platform.claim_databases_by_id($1, $2)",
            ids,
            self._pace.lease,
        )

    async def read(self, ids: Sequence[UUID] | None) -> Sequence[RawRow]:
        """Read these rows (None: all active ones) without claiming them."""
        return await self._rows("read", "select * from platform.read_databases($1)", ids)

    async def record(self, results: Sequence[CheckResult]) -> Sequence[Recorded]:
        """Write results; those not returned are locked elsewhere and stay pending.

        Raises:
            BadResultsError: the batch was refused for its data; nothing of it was written.
        """
        by_id = {result.identity.database_id: result for result in results}
        return await self._connection.read(
            lambda rows: [read_recorded(row, by_id[row["database_id"]]) for row in rows],
            "record",
            "select * from platform.record_check_results($1)",
            json.dumps([write_result(result) for result in results]),
            on_bad_data=BadResultsError,
        )

    async def give_back(self, leases: Mapping[UUID, Lease]) -> None:
        """Make rows due again whose check was cut."""
        if not leases:
            return
        cut = [
            {
                "database_id": str(database_id),
                "leased_until": lease.leased_until.isoformat(),
                "slot": lease.slot.isoformat(),
            }
            for database_id, lease in leases.items()
        ]
        await self._connection.fetch(
            "give_back", "select platform.give_back_databases($1)", json.dumps(cut)
        )

    async def unannounced(self) -> Sequence[Change]:
        """Take the changes that a killed worker left unannounced."""
        return await self._connection.read(
            lambda rows: [read_change(row) for row in rows],
            "announce",
            "select * from platform.claim_unannounced_changes($1, $2)",
            ANNOUNCE_AFTER,
            CHANGES_BATCH,
        )

    async def mark_announced(self, change_ids: Sequence[int]) -> None:
        """Note that these changes are in the log."""
        await self._connection.fetch(
            "announce", "select platform.mark_changes_announced($1)", list(change_ids)
        )

    def _expected(self, reading: _Reading) -> datetime | None:
        """Tell what the registry's clock would have shown if it had not been set meanwhile.

        None where it was not: a call may have waited for long before the registry read its clock.
        """
        last = self._clock
        if last is None:
            return None
        earliest = last.now + timedelta(seconds=reading.asked - last.answered)
        latest = last.now + timedelta(seconds=reading.answered - last.asked)
        if reading.now < earliest - CLOCK_TOLERANCE:
            return earliest
        return latest if reading.now > latest + CLOCK_TOLERANCE else None

    async def _rows(self, operation: str, statement: str, *arguments: object) -> list[RawRow]:
        asked = time.monotonic()
        return await self._connection.read(
            lambda rows: [read_row(row, asked) for row in rows], operation, statement, *arguments
        )
