"""Keeps the fleet's states true to the registry: what changed each time, all of it now and then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from worker.census import Census, Group
from worker.fleet import Fleet
from worker.registry_fleet import Facts, RegistryFleet

COUNT_BATCH = 20_000
"""Rows counted at a time in a fleet without states: about 20 ms of the registry's every 15 s."""
CHANGES_BEFORE_ALL = 20
"""How often only the changes are read: another server may have taken the registry's place, whose
transactions have numbers of their own."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of the fleet as a whole."""

    is_shown: bool
    """Whether its states are; false where it is larger than may be."""
    counts: Mapping[Group, int] | None
    """Active databases; None while a large fleet has not been counted to its end."""
    overdue: int


class Refresh:
    """Remembers how far the states were read."""

    def __init__(
        self, registry: RegistryFleet, fleet: Fleet, max_databases: int, overdue_after: float
    ) -> None:
        """Take how many databases are shown at most, and after how many seconds one is overdue."""
        self._registry = registry
        self._fleet = fleet
        self._max_databases = max_databases
        self._overdue_after = overdue_after
        self._census = Census(COUNT_BATCH)
        self._read: Facts | None = None
        """Up to where the states are known; None: not at all."""
        self._changes_left = 0

    async def run(self) -> Survey:
        """Read what is new; raises as the registry does, and reads all after a fault."""
        read, self._read = self._read, None
        self._fleet.trust_registry()
        facts = await self._registry.facts(self._max_databases, self._overdue_after)
        if facts.is_large:
            self._fleet.close()
            await self._registry.count_slice(self._census)
            return Survey(is_shown=False, counts=self._census.counts, overdue=facts.overdue)
        self._census = Census(COUNT_BATCH)  # half a walk of now would be of another day later
        counts = await self._registry.count()
        if not await self._take_changes(read, facts, sum(counts.values())):
            self._fleet.drop_all_but(await self._take(None, facts), facts.taken_at)
            self._changes_left = CHANGES_BEFORE_ALL
        self._read = facts
        return Survey(is_shown=True, counts=counts, overdue=facts.overdue)

    async def _take_changes(self, read: Facts | None, facts: Facts, databases: int) -> bool:
        """Take what changed, if that leads to as many databases as there are."""
        if read is None or not facts.go_on_from(read) or not self._changes_left:
            return False
        self._changes_left -= 1
        await self._take(read.transaction, facts)
        return len(self._fleet) == databases

    async def _take(self, since: int | None, facts: Facts) -> set[UUID]:
        """Take all states or what changed, and tell of which databases."""
        taken: set[UUID] = set()
        async for states in self._registry.states(self._fleet.states(), since):
            self._fleet.take(states, facts.taken_at)
            taken.update(state.identity.database_id for state in states)
        return taken
