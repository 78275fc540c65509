"""Results waiting for the registry, however long it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from uuid import UUID

from worker.announce import Announcer
from worker.errors import BadResultsError, RegistryUnavailableError
from worker.fleet import Fleet
from worker.memory import Memory
from worker.model import CheckResult, Lease, RawRow
from worker.ports import Meter, Recorded, Registry
from worker.words import Reason

BATCH = 500
"""Results that are recorded by one statement."""
LINGER_SECONDS = 0.5
"""How long a result waits for company."""
RETRY_SECONDS = 1.0
REFUSED = f"{Reason.INTERNAL}: the registry refused the result of this check"


class Outbox:
    """Brings every result to the registry, the newest of each row, however long it takes."""

    def __init__(
        self,
        registry: Registry,
        announcer: Announcer,
        fleet: Fleet,
        meter: Meter,
        complain: Callable[[str], None],
    ) -> None:
        """Take whom to tell what, and who hears of a result that the registry refuses."""
        self._registry = registry
        self._announcer = announcer
        self._fleet = fleet
        self._meter = meter
        self._complain = complain
        self._pending: dict[UUID, CheckResult] = {}
        self._memory = Memory()
        self._flushing = asyncio.Lock()
        self._wake = asyncio.Event()

    @property
    def pending(self) -> int:
        """How many results wait for the registry."""
        return len(self._pending)

    def put(self, row: RawRow, result: CheckResult) -> bool:
        """Take a result, unless it is from before an edit that is known of; tell whether.

        Of the same row's only the newest one waits; one that blames us takes no other's place.
        """
        if self._is_of_an_older_edit(result):
            return False
        due = result.started + result.interval
        if row.last_reason is not result.reason or row.is_slow is not result.is_slow:
            row = replace(row, last_reason=result.reason, is_slow=result.is_slow)
        self._memory.keep(row, due)
        if not self._would_lose(result):
            self._pending[row.identity.database_id] = result
        self._wake.set()
        return True

    def renew(self, database_id: UUID, claim: Lease) -> bool:
        """Give a result that waits, and is newer than a claim, the claim's lease; tell whether.

        The claim that crossed it asks for no other check.
        """
        result = self._pending.get(database_id)
        if result is None or not result.is_newer_than(claim):
            return False
        self._pending[database_id] = replace(result, lease=claim)
        return True

    def _would_lose(self, result: CheckResult) -> bool:
        """Tell whether an answer of the same edit waits in whose place this would stand without."""
        waiting = self._pending.get(result.identity.database_id)
        return (
            waiting is not None
            and waiting.status is not None
            and result.status is None
            and waiting.lease.revision == result.lease.revision
        )

    def _is_of_an_older_edit(self, result: CheckResult) -> bool:
        """Tell whether a row was edited since this claim; a row made anew has another number."""
        database_id = result.identity.database_id
        known = self._pending.get(database_id) or self._memory.get(database_id)
        return (
            known is not None
            and result.lease.revision < known.lease.revision
            and result.lease.claimed_monotonic <= known.lease.claimed_monotonic
        )

    async def run(self) -> None:
        """Record what comes in, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(LINGER_SECONDS)
            self._wake.clear()
            if not await self.flush():
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    async def flush(self) -> bool:
        """Record all that waits; False when some of it has to wait longer."""
        async with self._flushing:
            waiting = tuple(self._pending)
            batch: Sequence[CheckResult] = ()
            try:
                for start in range(0, len(waiting), BATCH):
                    ids = islice(waiting, start, start + BATCH)
                    batch = [self._pending[key] for key in ids if key in self._pending]
                    refused: set[UUID] = set()
                    complain = partial(self._refused, refused)
                    recorded = await record(self._registry, batch, complain)
                    self._settle(batch, recorded, refused)
                    batch = ()
                await self._announcer.mark()
            except RegistryUnavailableError:
                for result in (*self._replaced(batch), *self._pending.values()):
                    self._announce_unrecorded(result)
                return False
            return not any(key in self._pending for key in waiting)

    def _replaced(self, batch: Sequence[CheckResult]) -> Sequence[CheckResult]:
        """Tell which results of a batch on its way have a newer one of the same edit behind them.

        What they found is told, too: nobody knows whether the registry has heard of it.
        """
        return [
            result
            for result in batch
            for newer in [self._pending.get(result.identity.database_id, result)]
            if newer is not result and newer.lease.revision == result.lease.revision
        ]

    def _refused(self, refused: set[UUID], result: CheckResult) -> None:
        """Say and note what the registry will not know, and let what waits go before it."""
        self._complain(REFUSED)
        self._meter.registry_failed("record")
        self._announce_unrecorded(result)
        database_id = result.identity.database_id
        refused.add(database_id)
        if self._pending.get(database_id) is result:
            self._pending[database_id] = self._pending.pop(database_id)

    def due_rows(
        self, is_wanted: Callable[[RawRow], bool], is_full: Callable[[], bool]
    ) -> Iterable[RawRow]:
        """Take the remembered rows that are due: in an outage nobody else checks them."""
        return self._memory.take_due(is_wanted, is_full)

    def due_by(self, monotonic: float) -> Sequence[RawRow]:
        """Tell which remembered rows are due by these monotonic seconds, the most overdue first."""
        return self._memory.due_by(monotonic)

    def forget_due(self, by: float) -> None:
        """Drop the remembered rows that are due by these monotonic seconds: any replica's now."""
        self._memory.forget_due(by, but=self._pending)

    def _settle(
        self, batch: Sequence[CheckResult], recorded: Sequence[Recorded], refused: Container[UUID]
    ) -> None:
        by_id = {result.identity.database_id: result for result in batch}
        for outcome in recorded:
            result = by_id[outcome.database_id]
            if self._pending.get(outcome.database_id) is result:
                del self._pending[outcome.database_id]
            self._remember(result, outcome)
            if outcome.change is not None:
                change = replace(outcome.change, latency=result.latency, attempts=result.attempts)
                self._announcer.recorded(change, result)
            elif outcome.next_due is None:
                self._announcer.forget(outcome.database_id)
            elif outcome.database_id not in refused:
                self._announcer.unchanged(result, outcome.kept)
            if outcome.database_id not in refused:
                self._show(result, outcome)

    def _show(self, result: CheckResult, outcome: Recorded) -> None:
        if outcome.is_gone:
            self._fleet.forget(result.identity)
        elif outcome.next_due is None:
            self._fleet.take_back(result)
        else:
            self._fleet.note_recorded(result)

    def _remember(self, result: CheckResult, outcome: Recorded) -> None:
        known = self._memory.get(outcome.database_id)
        if outcome.is_gone:
            self._memory.forget(outcome.database_id)
        elif known is None or known.lease.revision != result.lease.revision:
            return  # what is remembered is of another edit than this result
        elif outcome.next_due is None:
            self._memory.forget(outcome.database_id)
        else:
            wait = outcome.next_due.timestamp() - result.lease.registry_time(time.monotonic())
            self._memory.schedule(outcome.database_id, time.monotonic() + wait)
            status = outcome.kept.status if outcome.kept else result.status
            self._memory.note(known, status or known.status)

    def _announce_unrecorded(self, result: CheckResult) -> None:
        known = self._memory.get(result.identity.database_id)
        if known is None or result.status is None:
            return
        self._announcer.unrecorded(result, known.status)
        self._memory.note(known, result.status)


async def record(
    registry: Registry, batch: Sequence[CheckResult], refused: Callable[[CheckResult], None]
) -> Sequence[Recorded]:
    """Record a batch; one that fails for its data is halved until the culprit is alone.

    That one is recorded in ASCII, which every registry's encoding holds. Else it is `refused`, and
    recorded as `internal`; where even that is refused it waits.
    """
    if not batch:
        return ()
    try:
        return await registry.record(batch)
    except BadResultsError:
        if len(batch) > 1:
            half = len(batch) // 2
            first = await record(registry, batch[:half], refused)
            return (*first, *await record(registry, batch[half:], refused))
    with suppress(BadResultsError):
        return await registry.record([_in_ascii(batch[0])])
    refused(batch[0])
    with suppress(BadResultsError):
        return await registry.record([_blameless(batch[0])])
    return ()


def _in_ascii(result: CheckResult) -> CheckResult:
    text = None if result.error is None else result.error.encode("ascii", "replace").decode()
    return replace(result, error=text)


def _blameless(result: CheckResult) -> CheckResult:
    return replace(
        result,
        reason=Reason.INTERNAL,
        status=None,
        error=REFUSED,
    )
