"""Checks rows once, now, for the command `check`."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from uuid import UUID

from worker import __version__, fleet_series
from worker.check import Checker
from worker.compose import make_checker, make_registry, make_rules
from worker.errors import RegistryUnavailableError, WorkerError
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.model import CheckResult, Identity, RawRow
from worker.outbox import record
from worker.ports import Log
from worker.quoting import clean
from worker.registry import LEASE_MARGIN_SECONDS, Registry
from worker.registry_troubles import FIRST_BACK_OFF_SECONDS
from worker.settings import Settings

ROUND_SECONDS = 0.25
"""How long checks run on before what has ended is recorded, and more rows are claimed."""
MAX_NAMES = 20
"""How many databases a line names."""
TAKEN = "not checked, for it is leased by a worker or held by a transaction"
GONE = "not checked, for it is no longer active"
HELD = "not recorded, for a transaction holds the row"
REFUSED = "not recorded, for the registry refuses the result"


class IncompleteError(WorkerError):
    """Not every row was checked and recorded; `results` holds what was found all the same."""

    def __init__(self, shortfalls: Iterable[str], results: Sequence[CheckResult]) -> None:
        super().__init__("; ".join(shortfalls))
        self.results = results


async def check_once(
    settings: Settings, log: Log, ids: Sequence[UUID], *, dry_run: bool
) -> Sequence[CheckResult]:
    """Check all active rows, or these, and record the results; a dry run claims nothing.

    Raises:
        WorkerError: the registry cannot be used, or an id is that of no active row.
        IncompleteError: some rows could not be claimed or recorded, or the registry was lost.
    """
    metrics = Metrics(Fleet(fleet_series.write), __version__, settings.worker_id)
    rules = make_rules(settings)
    connection, registry = make_registry(settings, rules, _unsaid, metrics)
    checker = make_checker(settings, rules, log)
    visit = _Visit(registry, checker, settings)
    try:
        rows = await registry.read(ids or None)
        if missing := set(ids) - {row.identity.database_id for row in rows}:
            raise WorkerError(f"no active database has the id {min(map(str, missing))}")
        if dry_run:
            slots = asyncio.Semaphore(settings.max_concurrent_checks)
            return await asyncio.gather(*(_check(checker, slots, row) for row in rows))
        await visit.carry_out(rows)
    except RegistryUnavailableError as fault:
        why = f"the registry at {connection.place} cannot be used: {fault}"
        raise IncompleteError([why, *visit.shortfalls()], visit.results) from None
    finally:
        await connection.close()
    if shortfalls := visit.shortfalls():
        raise IncompleteError(shortfalls, visit.results)
    return visit.results


def _unsaid(*_: object, **__: object) -> None:
    """Leave the registry's trouble to the one line with which the command ends."""


async def _check(checker: Checker, slots: asyncio.Semaphore, row: RawRow) -> CheckResult:
    async with slots:
        return await checker.check(row)


class _Visit:
    """Claims rows as slots come free, checks them, and records each result soon after its end."""

    def __init__(self, registry: Registry, checker: Checker, settings: Settings) -> None:
        self._registry = registry
        self._checker = checker
        self._slots = settings.max_concurrent_checks
        self._patience = settings.check_deadline_seconds + LEASE_MARGIN_SECONDS
        self._wanted: dict[UUID, Identity] = {}
        self._leased: dict[UUID, RawRow] = {}
        """The rows that are being checked, or whose result waits."""
        self._running: set[asyncio.Task[CheckResult]] = set()
        self._waiting: dict[UUID, CheckResult] = {}
        self.results: list[CheckResult] = []
        self._missed: dict[str, list[Identity]] = defaultdict(list)

    def shortfalls(self) -> list[str]:
        """Say why rows were not checked or not recorded, and which."""
        return [f"{why}: {_names(rows)}" for why, rows in self._missed.items() if rows]

    async def carry_out(self, rows: Sequence[RawRow]) -> None:
        """Check and record the rows; one that cannot be had or recorded is tried again meanwhile.

        Raises:
            RegistryUnavailableError: the registry was lost on the way.
        """
        self._wanted = {row.identity.database_id: row.identity for row in rows}
        try:
            await self._go_round()
        except RegistryUnavailableError:
            self._missed["not recorded"] += self._wanted.values()
            self._missed["not recorded"] += (row.identity for row in self._leased.values())
            await asyncio.sleep(FIRST_BACK_OFF_SECONDS)  # sooner, it is not asked again
            raise
        finally:
            await self._let_go()
        self._missed[TAKEN] += self._wanted.values()
        self._missed[HELD] += (row.identity for row in self._leased.values())

    async def _go_round(self) -> None:
        """Go on until all is done, or nothing has moved for as long as a lease may last."""
        before, end = None, 0.0
        while self._wanted or self._leased:
            left = len(self._wanted), len(self._leased)
            if left != before or self._running:
                before, end = left, time.monotonic() + self._patience
            elif time.monotonic() > end:
                return
            await self._claim()
            await self._work()
            await self._record()

    async def _claim(self) -> None:
        """Lease as many rows as there are free slots; the others of those asked for queue anew."""
        asked = list(islice(self._wanted, self._slots - len(self._running)))
        if not asked:
            return
        claimed = await self._registry.claim_by_id(asked)
        for row in claimed:
            del self._wanted[row.identity.database_id]
            self._leased[row.identity.database_id] = row
            self._running.add(asyncio.create_task(self._checker.check(row)))
        if not claimed:
            await self._drop_gone(asked)
        for database_id in asked:
            if identity := self._wanted.pop(database_id, None):
                self._wanted[database_id] = identity

    async def _drop_gone(self, ids: Sequence[UUID]) -> None:
        there = {row.identity.database_id for row in await self._registry.read(ids)}
        self._missed[GONE] += (self._wanted.pop(gone) for gone in ids if gone not in there)

    async def _work(self) -> None:
        """Let the checks run for a round, or until the last one ends."""
        if not self._running:
            await asyncio.sleep(ROUND_SECONDS)
            return
        ended, self._running = await asyncio.wait(self._running, timeout=ROUND_SECONDS)
        for task in ended:
            result = task.result()
            self.results.append(result)
            self._waiting[result.identity.database_id] = result

    async def _record(self) -> None:
        """Record what has ended; a row that somebody's open transaction holds waits.

        One whose result is refused keeps its lease: the next worker's would be refused as well.
        """
        refused: list[CheckResult] = []
        recorded = await record(self._registry, list(self._waiting.values()), refused.append)
        self._missed[REFUSED] += (result.identity for result in refused)
        settled = {outcome.database_id for outcome in recorded}
        settled |= {result.identity.database_id for result in refused}
        for database_id in settled:
            del self._waiting[database_id], self._leased[database_id]

    async def _let_go(self) -> None:
        """Stop what still runs, and give back every lease whose result is not recorded."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        with suppress(RegistryUnavailableError):
            await self._registry.give_back({key: row.lease for key, row in self._leased.items()})


def _names(rows: Iterable[Identity]) -> str:
    names = sorted(clean(row.name) for row in rows)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
