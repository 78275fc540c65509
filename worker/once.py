"""Checks rows once, now, for the command `check`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from uuid import UUID

from worker import __version__
from worker.check import Checker
from worker.compose import make_checker, make_registry, make_rules
from worker.errors import RegistryUnavailableError, WorkerError
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.model import CheckResult, RawRow
from worker.outbox import record
from worker.ports import Log
from worker.registry import LEASE_MARGIN_SECONDS, Registry
from worker.settings import Settings

AGAIN_SECONDS = 0.5
"""How soon to ask again for a row that a worker is just checking."""


async def check_once(
    settings: Settings, log: Log, ids: Sequence[UUID], *, dry_run: bool
) -> Sequence[CheckResult]:
    """Check all active rows, or these, and record the results; a dry run claims nothing.

    Raises:
        WorkerError: the registry cannot be used, or an id is that of no active row.
    """
    metrics = Metrics(Fleet(), __version__, settings.worker_id)
    rules = make_rules(settings)
    connection, registry = make_registry(settings, rules, _unsaid, metrics)
    checker = make_checker(settings, rules, log)
    slots = asyncio.Semaphore(settings.max_concurrent_checks)
    try:
        rows = await registry.read(ids or None)
        if missing := set(ids) - {row.identity.database_id for row in rows}:
            raise WorkerError(f"no active database has the id {min(map(str, missing))}")
        if not dry_run:
            patience = settings.check_deadline_seconds + LEASE_MARGIN_SECONDS
            rows = await _claim(registry, rows, patience)
        try:
            results = await asyncio.gather(*(_check(checker, slots, row) for row in rows))
            if not dry_run:
                await _record(registry, results)
        except BaseException:
            if not dry_run:
                await registry.give_back({row.identity.database_id: row.lease for row in rows})
            raise
    except RegistryUnavailableError as fault:
        raise WorkerError(f"the registry at {connection.place} cannot be used: {fault}") from None
    finally:
        await connection.close()
    return results


def _unsaid(*_: object, **__: object) -> None:
    """Leave the registry's trouble to the one line with which the command ends."""


async def _claim(registry: Registry, rows: Sequence[RawRow], patience: float) -> list[RawRow]:
    """Lease the rows; one that a worker is just checking is waited for."""
    wanted = {row.identity.database_id for row in rows}
    claimed: list[RawRow] = []
    end = time.monotonic() + patience
    while wanted:
        for row in await registry.claim_by_id(list(wanted)):
            claimed.append(row)
            wanted.discard(row.identity.database_id)
        if wanted:
            if time.monotonic() > end:
                raise WorkerError(f"{len(wanted)} databases are leased by a worker; try again")
            await asyncio.sleep(AGAIN_SECONDS)
    return claimed


async def _record(registry: Registry, results: Sequence[CheckResult]) -> None:
    """Record the results; a row that somebody's open transaction holds is waited for."""
    pending = {result.identity.database_id: result for result in results}
    refused: list[CheckResult] = []
    end = time.monotonic() + LEASE_MARGIN_SECONDS
    while pending:
        for recorded in await record(registry, list(pending.values()), refused.append):
            pending.pop(recorded.database_id, None)
        if pending:
            if time.monotonic() > end:
                names = _names(pending.values())
                raise WorkerError(f"not recorded, for a transaction holds the row: {names}")
            await asyncio.sleep(AGAIN_SECONDS)
    if refused:
        raise WorkerError(f"not recorded, for the registry refuses the result: {_names(refused)}")


def _names(results: Iterable[CheckResult]) -> str:
    return ", ".join(sorted({result.identity.name for result in results}))


async def _check(checker: Checker, slots: asyncio.Semaphore, row: RawRow) -> CheckResult:
    async with slots:
        return await checker.check(row)
