"""Claims rows, starts each check at its due time, delivers the results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import cast
from uuid import UUID

from worker.capacity import Capacity
from worker.check import Check, Checker
from worker.claims import Claims
from worker.deliver import Sinks
from worker.errors import RegistryUnavailableError
from worker.handover import Handover
from worker.model import CheckResult, Lease, RawRow
from worker.outbox import Outbox
from worker.ports import Registry
from worker.rhythm import Rhythm
from worker.slots import Slots, Task

PATIENCE_SECONDS = 5.0
"""How long a tick waits for the registry before it starts what is remembered."""
CUT_OFF_PATIENCE_SECONDS = 0.5
"""The same once it has waited in vain: what is remembered has to start on time."""
CUT_SECONDS = 0.5
"""How long a check that is cut may take to end."""
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
        self._capacity = Capacity(slots, sinks.log)
        self._handover = Handover(self._capacity, outbox, sinks)
        self.rhythm = Rhythm(registry.horizon)
        """Of the ticks: how long it is to the next one."""
        self._claims = Claims(registry, outbox, self._slots, self.rhythm)
        self._cut: dict[UUID, Lease] = {}
        self._claiming = asyncio.Lock()
        self._renewed: dict[Task, Lease] = {}
        """Leases of rows that were claimed while their check was running."""
        self._is_cut_off = False
        """Whether the registry cannot be used, or keeps a tick waiting."""
        self._talk: asyncio.Task[None] | None = None
        """The conversation with the registry, which may outlast a tick."""
        self._is_draining = False

    @property
    def in_flight(self) -> int:
        """How many slots are in use."""
        return len(self._slots.rows)

    async def tick(self) -> None:
        """Claim what is due, or in an outage start what is remembered; never waits for a check."""
        began = time.monotonic()
        if not await self._has_talked():
            self._is_cut_off = True
            self._claims.note_outage()
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
                with self.rhythm.between_ticks():
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
        self._handover.hand_over()
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
        self._capacity.look(overdue, self.in_flight, is_short=is_short)

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
        self._claims.forget_claimed(asked)

    async def _claim(self) -> None:
        async with self._claiming:
            while not self._is_draining and self._slots.free > 0:
                free, slow_room = self._slots.free, self._slots.slow_room
                rows = await self._claims.claim(free, slow_room)
                await self._registry.give_back(self._take(rows))
                self._slots.note_claim(rows, free, slow_room)
                if not self._slots.are_worth_a_claim:
                    return

    def _take(self, rows: Iterable[RawRow]) -> dict[UUID, Lease]:
        """Start what was claimed, and return the leases that there is no slot for any more.

        A row that is being checked, or was checked while its claim was under way, only gets its
        new lease.
        """
        surplus: dict[UUID, Lease] = {}
        running = self._slots.by_id()
        for row in rows:
            task = running.get(row.identity.database_id)
            if task and self._slots.rows[task].lease.revision == row.lease.revision:
                self._renewed[task] = row.lease
            elif self._handover.renew(row):
                continue
            elif self._is_draining:
                self._cut[row.identity.database_id] = row.lease
            elif not self._slots.free:  # what is remembered started meanwhile
                surplus[row.identity.database_id] = row.lease
            else:
                self._start(row)
        return surplus

    async def _await_claim(self) -> None:
        """Wait for a claim on its way: what it leases has to be given back."""
        async with self._claiming:
            return

    def _start_remembered(self) -> None:
        if self._is_draining:
            return
        in_hand = self._slots.by_id()
        left: list[RawRow] = []

        def has_slot(row: RawRow) -> bool:
            database_id = row.identity.database_id
            if database_id in in_hand or database_id in self._handover:
                return False
            fits = self._slots.fits(row)
            if not fits:
                left.append(row)
            return fits

        for row in self._outbox.due_rows(has_slot, lambda: not self._slots.free):
            self._start(row)
        self._slots.note_left(left)

    def _start(self, row: RawRow) -> None:
        # Prepared here, for rows come in numbers: see docs/adr/0013.
        task = asyncio.create_task(self._carry(row, self._checker.prepare(row)))
        self._slots.take(task, row)
        task.add_done_callback(self._ended)

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
            return
        if lease is not row.lease:
            result = replace(result, lease=lease)
        self._handover.add(row, result)


def _let_go(talk: asyncio.Task[None]) -> None:
    """Take a fault that no tick waits for any more: the worker has ended."""
    if not talk.cancelled():
        talk.exception()
