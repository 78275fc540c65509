"""The statements about the fleet as a whole: how many, how late, in what state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from worker.census import Census, Group
from worker.model import DatabaseState
from worker.registry_connection import RegistryConnection
from worker.registry_rows import read_counts, read_state

STATES_AT_ONCE = 500
"""Ten thousand in one go would hold up every check by 50 ms, and the garbage collection more."""
# The time as a number: to read it as a datetime took a third of the whole snapshot's time.
_SNAPSHOT = (
    "select database_id, project_id, name, engine, status, reason, latency_seconds,"
    " extract(epoch from last_health_check_at)::double precision as checked_at"
    " from platform.database_health_snapshot($1, $2, $3)"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the registry tells of its whole fleet without a look at its rows."""

    is_large: bool
    """Whether the fleet is larger than was asked for."""
    overdue: int
    taken_at: float
    """POSIX timestamp of the registry's clock."""
    transaction: int
    """The oldest transaction that may have been under way."""
    server_started_at: datetime

    def go_on_from(self, earlier: Facts) -> bool:
        """Tell whether the same server counts its transactions on."""
        is_same = self.server_started_at == earlier.server_started_at
        return is_same and self.transaction >= earlier.transaction


class RegistryFleet:
    """The functions that concern the whole fleet; all raise as RegistryConnection.fetch does."""

    def __init__(self, connection: RegistryConnection) -> None:
        self._connection = connection

    async def facts(self, max_databases: int, overdue_after: float) -> Facts:
        """Tell whether there are more than `max_databases`, and how many are overdue.

        A database is overdue when it has been due for longer than `overdue_after` seconds.
        """
        (facts,) = await self._connection.fetch(
            "snapshot",
            "select platform.has_more_databases_than($1) as is_large,"
            " platform.count_overdue_databases($2) as overdue, now() as registry_now,"
            " pg_snapshot_xmin(pg_current_snapshot()) as transaction,"
            " pg_postmaster_start_time() as server_started_at",
            max_databases,
            timedelta(seconds=overdue_after),
        )
        return Facts(
            facts["is_large"],
            facts["overdue"],
            facts["registry_now"].timestamp(),
            facts["transaction"],
            facts["server_started_at"],
        )

    async def states(
        self, known: Mapping[UUID, DatabaseState], since: int | None
    ) -> AsyncIterator[Sequence[DatabaseState]]:
        """Walk through the active fleet, or what may have changed in it since a transaction.

        States that hold still are those that are `known`, not equal ones.
        """
        after: UUID | None = None
        while True:
            states = await self._connection.read(
                lambda rows: [read_state(row, known.get(row["database_id"])) for row in rows],
                "snapshot",
                _SNAPSHOT,
                after,
                STATES_AT_ONCE,
                since,
            )
            yield states
            if len(states) < STATES_AT_ONCE:
                return
            after = states[-1].identity.database_id

    async def count(self) -> Mapping[Group, int]:
        """Count the active databases; looks at all of them."""
        return await self._connection.read(
            read_counts,
            "snapshot",
            "select * from platform.count_active_databases()",
        )

    async def count_slice(self, census: Census) -> None:
        """Go on with a census by one slice."""
        await self._connection.read(
            census.add,
            "snapshot",
            "select * from platform.count_slice_of_databases($1, $2)",
            census.after,
            census.batch,
        )
