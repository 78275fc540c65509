"""Claims rows, starts each check at its due time, delivers the results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from worker.capacity import Capacity
from worker.check import Check, Checker
from worker.deliver import Sinks
from worker.errors import RegistryUnavailableError
from worker.model import CheckResult, Lease, RawRow
from worker.outbox import Outbox
from worker.ports import Registry

PATIENCE_SECONDS = 5.0
"""How long a tick waits for the registry before it starts what is remembered."""
CUT_OFF_PATIENCE_SECONDS = 0.5
"""The same once it has waited in vain: what is remembered has to start on time."""
CUT_SECONDS = 0.5
"""How long a check that is cut may take to end."""
GATHER_SECONDS = 0.05
"""How long a result waits for others, see docs/adr/0013."""
AGAIN_SECONDS = 0.1
"""After how long a goodbye that the registry did not hear is tried again."""
GOODBYE_SECONDS = 2.0
"""How much of the drain bound is kept for recording and giving back."""


class Dispatcher:
    """Owns the slots: what is claimed, waits for its due time, or is being checked."""

    def __init__(
        self, registry: Registry, checker: Checker, outbox: Outbox, sinks: Sinks, slots: int
    ) -> None:
        self._registry = registry
        self._checker = checker
        self._outbox = outbox
        self._sinks = sinks
        self._slots = slots
        self._running: dict[asyncio.Task[CheckResult], RawRow] = {}
        self._waiting: set[asyncio.Task[CheckResult]] = set()
        self._cut: dict[UUID, Lease] = {}
        self._claiming = asyncio.Lock()
        self._ended_checks: list[tuple[RawRow, CheckResult]] = []
        """Those whose results nobody has been given yet."""
        self._renewed: dict[asyncio.Task[CheckResult], Lease] = {}
        """Leases of rows that were claimed while their check was running."""
        self._is_hungry = False
        """Whether the last claim filled the slots, so that more may be due."""
        self._has_slow_hunger = False
        """The same of the slots that slow rows may have."""
        self._is_cut_off = False
        """Whether the registry cannot be used, or keeps a tick waiting."""
        self._talk: asyncio.Task[None] | None = None
        """The conversation with the registry, which may outlast a tick."""
        self._is_draining = False
        self._room = asyncio.Event()
        self._capacity = Capacity(slots, sinks.log)

    async def tick(self) -> None:
        """Claim what is due, or in an outage start what is remembered; never waits for a check."""
        began = time.monotonic()
        if not await self._has_talked():
            self._is_cut_off = True
            self._start_remembered()
        self._sinks.meter.ticked(time.monotonic() - began)

    async def refill(self) -> None:
        """Claim again as soon as a quarter of the slots is free, few rows wait, and more is due."""
        while True:
            await self._room.wait()
            self._room.clear()
            try:
                await self._claim()
            except RegistryUnavailableError:
                self._is_hungry = self._has_slow_hunger = False

    async def drain(self, grace: float) -> None:
        """Stop claiming, let checks end within `grace` seconds, record them, give back the rest."""
        self._is_draining = True
        end = time.monotonic() + grace
        for task in tuple(self._waiting):
            task.cancel()
        claim = asyncio.create_task(self._await_claim())
        await asyncio.wait({claim, *self._running}, timeout=max(0.0, grace - GOODBYE_SECONDS))
        claim.cancel()
        for task in tuple(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=CUT_SECONDS)
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
        is_hungry = self._is_hungry or self._has_slow_hunger
        is_short = overdue > 0 and (is_hungry or not self._slow_room())
        self._capacity.look(overdue, len(self._running), is_short=is_short)

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
        if self._is_cut_off:  # record what waits before its rows, long due again, can be claimed
            await self._outbox.flush()
            self._is_cut_off = False
        if self._claiming.locked():  # a refill is at it: waiting for it is no silence
            return
        await self._claim()
        self._outbox.forget_due()

    async def _claim(self) -> None:
        async with self._claiming:
            free = self._slots - len(self._running)
            while not self._is_draining and free > 0:
                slow_room = self._slow_room()
                rows = await self._registry.claim(free, slow_room)
                await self._registry.give_back(self._take(rows))
                self._is_hungry = len(rows) >= free
                if slow_room:
                    self._has_slow_hunger = sum(row.is_slow for row in rows) >= slow_room
                free = self._slots - len(self._running)
                if not self._is_hungry or free * 4 < self._slots:
                    return

    def _take(self, rows: Iterable[RawRow]) -> dict[UUID, Lease]:
        """Start what was claimed, and return the leases that there is no slot for any more.

        A row that is being checked only gets its new lease.
        """
        surplus: dict[UUID, Lease] = {}
        running = {row.identity.database_id: task for task, row in self._running.items()}
        for row in rows:
            task = running.get(row.identity.database_id)
            if self._is_draining:
                self._cut[row.identity.database_id] = row.lease
            elif task and self._running[task].lease.revision == row.lease.revision:
                self._renewed[task] = row.lease
            elif len(self._running) >= self._slots:  # what is remembered started meanwhile
                surplus[row.identity.database_id] = row.lease
            else:
                self._start(row)
        return surplus

    async def _await_claim(self) -> None:
        """Wait for a claim on its way: what it leases has to be given back."""
        async with self._claiming:
            return

    def _look_for_room(self) -> None:
        """Ask for a claim when it is worth its while: few rows wait ahead, many slots are free."""
        quarter = self._slots / 4
        if self._slots - len(self._running) >= quarter >= len(self._waiting) and (
            self._is_hungry or (self._has_slow_hunger and self._slow_room() * 2 >= quarter)
        ):
            self._room.set()

    def _slow_room(self) -> int:
        slow = sum(row.is_slow for row in self._running.values())
        return max(0, max(1, self._slots // 2) - slow)

    def _start_remembered(self) -> None:
        ended = (row for row, _ in self._ended_checks)
        checked = {row.identity.database_id for row in (*self._running.values(), *ended)}
        for row in self._outbox.due_rows():
            is_short = len(self._running) >= self._slots or (row.is_slow and not self._slow_room())
            if self._is_draining or is_short or row.identity.database_id in checked:
                self._outbox.postpone(row)
            else:
                self._start(row)

    def _start(self, row: RawRow) -> None:
        # Prepared here, for rows come in numbers: see docs/adr/0013.
        task = asyncio.create_task(self._carry(row, self._checker.prepare(row)))
        self._running[task] = row
        self._waiting.add(task)
        task.add_done_callback(self._ended)
        self._sinks.meter.in_flight(len(self._running))

    async def _carry(self, row: RawRow, check: Check) -> CheckResult:
        due_in = row.lease.slot.timestamp() - row.lease.registry_time(time.monotonic())
        if due_in > 0:
            await asyncio.sleep(due_in)
        task = asyncio.current_task()
        if task is not None:
            self._waiting.discard(task)
        self._look_for_room()
        return await check()

    def _ended(self, task: asyncio.Task[CheckResult]) -> None:
        row = self._running.pop(task)
        self._waiting.discard(task)
        self._look_for_room()
        lease = self._renewed.pop(task, row.lease)
        if task.cancelled():
            self._cut[row.identity.database_id] = lease
            return
        result = task.result()
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
        self._sinks.meter.in_flight(len(self._running))

    def _give(self, row: RawRow, result: CheckResult) -> None:
        self._outbox.put(row, result)
        self._capacity.checked(result)
        self._sinks.take(row, result)


def _let_go(talk: asyncio.Task[None]) -> None:
    """Take a fault that no tick waits for any more: the worker has ended."""
    if not talk.cancelled():
        talk.exception()
