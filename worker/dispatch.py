"""Claims rows, starts each check at its due time, delivers the results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast
from uuid import UUID

from worker.capacity import Capacity
from worker.check import Check, Checker
from worker.deliver import Sinks
from worker.errors import RegistryUnavailableError
from worker.model import CheckResult, Lease, RawRow
from worker.outbox import Outbox
from worker.ports import Registry
from worker.slots import Slots, Task

PATIENCE_SECONDS = 5.0
"""How long a tick waits for the registry before it starts what is remembered."""
CUT_OFF_PATIENCE_SECONDS = 0.5
"""The same once it has waited in vain: what is remembered has to start on time."""
CUT_SECONDS = 0.5
"""How long a check that is cut may take to end."""
LAGGARD_SECONDS = 4.0
"""How much later than this replica another one may come back from an outage: by the longest
back-off, and the wait for its next try. Until then it checks rows from memory."""
GATHER_SECONDS = 0.05
"""How long a result waits for others, see docs/adr/0013."""
AGAIN_SECONDS = 0.1
"""After how long a goodbye that the registry did not hear is tried again."""
GOODBYE_SECONDS = 2.0
"""How much of the drain bound is kept for recording and giving back."""


class Dispatcher:
    """Owns what is claimed, waits for its due time, or is being checked."""

    def __init__(
        self, registry: Registry, checker: Checker, outbox: Outbox, sinks: Sinks, slots: int
    ) -> None:
        self._registry = registry
        self._checker = checker
        self._outbox = outbox
        self._sinks = sinks
        self._slots = Slots(slots)
        self._cut: dict[UUID, Lease] = {}
        self._claiming = asyncio.Lock()
        self._ended_checks: list[tuple[RawRow, CheckResult]] = []
        """Those whose results nobody has been given yet."""
        self._renewed: dict[Task, Lease] = {}
        """Leases of rows that were claimed while their check was running."""
        self._is_cut_off = False
        """Whether the registry cannot be used, or keeps a tick waiting."""
        self._cut_off_at: float | None = None
        """Monotonic seconds since when; None once a claim has succeeded."""
        self._among_known_until: float | None = None
        """Monotonic seconds until when only rows are claimed that no other replica remembers; None
        once all were claimed from, so that a registry that comes and goes keeps none waiting."""
        self._talk: asyncio.Task[None] | None = None
        """The conversation with the registry, which may outlast a tick."""
        self._is_draining = False
        self._capacity = Capacity(slots, sinks.log)

    async def tick(self) -> None:
        """Claim what is due, or in an outage start what is remembered; never waits for a check."""
        began = time.monotonic()
        if not await self._has_talked():
            self._is_cut_off = True
            if self._cut_off_at is None:
                self._cut_off_at = time.monotonic()
            self._start_remembered()
        self._sinks.meter.ticked(time.monotonic() - began)

    async def refill(self) -> None:
        """Claim again as soon as a quarter of the slots is free, few rows wait, and more is due.

        In an outage what is remembered takes the place of what could be claimed.
        """
        while True:
            await self._slots.room()
            if self._is_cut_off:
                self._start_remembered()
                continue
            try:
                await self._claim()
            except RegistryUnavailableError:
                self._slots.forget_claims()

    async def drain(self, grace: float) -> None:
        """Stop claiming, let checks end within `grace` seconds, record them, give back the rest."""
        self._is_draining = True
        end = time.monotonic() + grace
        for task in tuple(self._slots.waiting):
            task.cancel()
        claim = asyncio.create_task(self._await_claim())
        await asyncio.wait({claim, *self._slots.rows}, timeout=max(0.0, grace - GOODBYE_SECONDS))
        claim.cancel()
        for task in tuple(self._slots.rows):
            task.cancel()
        if self._slots.rows:
            await asyncio.wait(self._slots.rows, timeout=CUT_SECONDS)
        self._hand_over()
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(max(GOODBYE_SECONDS, end - time.monotonic())):
                await self._say_goodbye()
        except TimeoutError:
            return
        finally:
            await self.hang_up()

    async def _say_goodbye(self) -> None:
        """Record what waits and give the rest back, until the registry has heard it all."""
        while True:
            is_recorded = await self._outbox.flush()
            with suppress(RegistryUnavailableError):
                await self._registry.give_back(self._cut)
                self._cut.clear()
                if is_recorded:
                    return
            await asyncio.sleep(AGAIN_SECONDS)

    async def hang_up(self) -> None:
        """End the conversation with the registry, whatever it waits for."""
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait({self._talk}, timeout=CUT_SECONDS)

    def note_overdue(self, overdue: int) -> None:
        """Say at most once a minute that the slots do not suffice, and how much is missing."""
        is_short = overdue > 0 and self._slots.are_short
        self._capacity.look(overdue, len(self._slots.rows), is_short=is_short)

    async def _has_talked(self) -> bool:
        """Go on with the conversation for a while; tell whether it came to a good end."""
        patience = CUT_OFF_PATIENCE_SECONDS if self._is_cut_off else PATIENCE_SECONDS
        if self._talk is None:
            self._talk = asyncio.create_task(self._converse(), name="converse")
            self._talk.add_done_callback(_let_go)
        await asyncio.wait({self._talk}, timeout=patience)
        if not self._talk.done():
            return False
        talk, self._talk = self._talk, None
        try:
            talk.result()
        except RegistryUnavailableError:
            return False
        return True

    async def _converse(self) -> None:
        """Bring the registry what waits and take from it what is due."""
        await self._registry.tend()
        if self._is_cut_off:
            await self._outbox.flush()  # before its rows, long due again, can be claimed
            self._is_cut_off = False
        if self._claiming.locked():  # a refill is at it: waiting for it is no silence
            return
        asked = time.monotonic()
        await self._claim()
        if self._cut_off_at is None and self._among_known_until is None:
            # What is due within the horizon has been claimed now, by us or by another replica.
            ahead = 0.0 if self._slots.are_short else self._registry.horizon
            self._outbox.forget_due(asked + ahead)

    async def _claim(self) -> None:
        async with self._claiming:
            while not self._is_draining and self._slots.free > 0:
                free, slow_room = self._slots.free, self._slots.slow_room
                rows = await self._claim_rows(free, slow_room)
                await self._registry.give_back(self._take(rows))
                self._slots.note_claim(rows, free, slow_room)
                if not self._slots.are_worth_a_claim:
                    return

    async def _claim_rows(self, free: int, slow_room: int) -> Sequence[RawRow]:
        """Claim what is due; for a while after an outage only what is known here."""
        is_first = self._cut_off_at is not None and self._among_known_until is None
        if is_first or time.monotonic() < (self._among_known_until or 0.0):
            rows = await self._registry.claim_known(self._known_due())
        else:
            rows = await self._registry.claim(free, slow_room)
            self._among_known_until = None
        if is_first and self._cut_off_at is not None:
            now = time.monotonic()
            self._among_known_until = now + min(LAGGARD_SECONDS, now - self._cut_off_at)
        self._cut_off_at = None
        return rows

    def _known_due(self) -> Sequence[UUID]:
        """Tell which rows no other replica checks from memory: those in hand and remembered."""
        in_hand = self._slots.by_id()
        quick: list[UUID] = []
        slow: list[UUID] = []
        for row in self._outbox.due_by(time.monotonic() + self._registry.horizon):
            if row.identity.database_id not in in_hand:
                (slow if row.is_slow else quick).append(row.identity.database_id)
        return [*in_hand, *quick[: self._slots.free], *slow[: self._slots.slow_room]]

    def _take(self, rows: Iterable[RawRow]) -> dict[UUID, Lease]:
        """Start what was claimed, and return the leases that there is no slot for any more.

        A row that is being checked, or was checked while its claim was under way, only gets its
        new lease.
        """
        surplus: dict[UUID, Lease] = {}
        running = self._slots.by_id()
        ended = {
            row.identity.database_id: number for number, (row, _) in enumerate(self._ended_checks)
        }
        for row in rows:
            task = running.get(row.identity.database_id)
            if task and self._slots.rows[task].lease.revision == row.lease.revision:
                self._renewed[task] = row.lease
            elif self._renew(row, ended.get(row.identity.database_id)):
                continue
            elif self._is_draining:
                self._cut[row.identity.database_id] = row.lease
            elif not self._slots.free:  # what is remembered started meanwhile
                surplus[row.identity.database_id] = row.lease
            else:
                self._start(row)
        return surplus

    def _renew(self, claimed: RawRow, ended: int | None) -> bool:
        """Give a claim's lease to the result that it crossed, if there is one."""
        if ended is not None:
            row, result = self._ended_checks[ended]
            if result.is_newer_than(claimed.lease):
                self._ended_checks[ended] = row, replace(result, lease=claimed.lease)
                return True
        return self._outbox.renew(claimed.identity.database_id, claimed.lease)

    async def _await_claim(self) -> None:
        """Wait for a claim on its way: what it leases has to be given back."""
        async with self._claiming:
            return

    def _start_remembered(self) -> None:
        if self._is_draining:
            return
        checked = {row.identity.database_id for row, _ in self._ended_checks}
        checked |= self._slots.by_id().keys()
        left: list[RawRow] = []

        def has_slot(row: RawRow) -> bool:
            if row.identity.database_id in checked:
                return False
            fits = self._slots.fits(row)
            if not fits:
                left.append(row)
            return fits

        for row in self._outbox.due_rows(has_slot):
            self._start(row)
        self._slots.note_left(left)

    def _start(self, row: RawRow) -> None:
        # Prepared here, for rows come in numbers: see docs/adr/0013.
        task = asyncio.create_task(self._carry(row, self._checker.prepare(row)))
        self._slots.take(task, row)
        task.add_done_callback(self._ended)
        self._sinks.meter.in_flight(len(self._slots.rows))

    async def _carry(self, row: RawRow, check: Check) -> CheckResult | None:
        """Check a row at its due time; None where its lease ran out while it waited."""
        task = cast("Task", asyncio.current_task())
        due_in = row.lease.slot.timestamp() - row.lease.registry_time(time.monotonic())
        if due_in > 0:
            await asyncio.sleep(due_in)
            # This process may have stood still; what is remembered waits for nothing.
            if self._renewed.get(task, row.lease).has_run_out(time.monotonic()):
                return None
        self._slots.start(task)
        return await check()

    def _ended(self, task: Task) -> None:
        row = self._slots.leave(task)
        lease = self._renewed.pop(task, row.lease)
        if task.cancelled():
            self._cut[row.identity.database_id] = lease
            return
        result = task.result()
        if result is None:
            self._sinks.meter.in_flight(len(self._slots.rows))
            return
        if lease is not row.lease:
            result = replace(result, lease=lease)
        if not self._ended_checks:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._hand_over)
        self._ended_checks.append((row, result))

    def _hand_over(self) -> None:
        """Give everybody, in the loop's next turn, the results that have come together."""
        loop = asyncio.get_running_loop()
        for row, result in self._ended_checks:
            loop.call_soon(self._give, row, result)  # one that breaks a sink harms no other
        self._ended_checks.clear()
        self._sinks.meter.in_flight(len(self._slots.rows))

    def _give(self, row: RawRow, result: CheckResult) -> None:
        self._capacity.checked(result)
        if self._outbox.put(row, result):
            self._sinks.take(row, result)


def _let_go(talk: asyncio.Task[None]) -> None:
    """Take a fault that no tick waits for any more: the worker has ended."""
    if not talk.cancelled():
        talk.exception()
