"""Threads for jobs of every cost: the cheap do not wait for the dear, nor the dear for ever."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from math import frexp, ldexp
from typing import Generic, TypeVar

_LEAST_SECONDS = 0.0001
T = TypeVar("T")


@dataclass(slots=True)
class _Class:
    """Jobs whose expected costs differ by less than a factor of two."""

    cost: float
    """Seconds that a job is charged."""
    turns: deque[asyncio.Future[None]] = field(default_factory=deque)
    served: float = 0.0
    """Seconds that its jobs were charged, and what they took beyond."""


class _Timed(Generic[T]):
    """A job that knows what CPU time it took."""

    def __init__(self, function: Callable[..., T], *arguments: object) -> None:
        self.seconds = 0.0
        self._function, self._arguments = function, arguments

    def __call__(self) -> T:
        began = time.thread_time()
        try:
            return self._function(*self._arguments)
        finally:
            self.seconds = time.thread_time() - began


class Lane:
    """Threads whose time is shared alike by all classes of cost that wait; each goes in turn.

    So start-time fair queueing (Goyal, Vin, Cheng 1996) does it with packets of a network. What a
    job took beyond what was expected its class pays afterwards: so no class gains by jobs that
    look cheap.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._free = threads
        self._classes: dict[int, _Class] = {}
        self._served = 0.0
        """What the class had been charged whose turn was the last."""

    async def run(
        self, expected: float, function: Callable[..., T], *arguments: object
    ) -> tuple[T, float]:
        """Run a job of so many expected CPU seconds when its turn has come; tell what it took.

        A thread is free again when it really is, however long ago the caller was cancelled.
        """
        loop = asyncio.get_running_loop()
        mine = self._class(max(expected, _LEAST_SECONDS))
        await self._turn(mine)
        timed = _Timed(function, *arguments)
        job = self._threads.submit(timed)

        def settle() -> None:
            mine.served += max(0.0, timed.seconds - mine.cost)
            self._pass_on()

        def end(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(settle)

        try:
            return await asyncio.wrap_future(job), timed.seconds
        finally:
            if job.done():
                settle()
            else:  # nobody waits any more, but the thread goes on
                job.add_done_callback(end)

    async def _turn(self, mine: _Class) -> None:
        if self._free:
            self._free -= 1
            return
        if not mine.turns:  # what was not asked for in time is nobody's due later
            mine.served = max(mine.served, self._served)
        turn = asyncio.get_running_loop().create_future()
        mine.turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._pass_on()
            raise

    def _class(self, expected: float) -> _Class:
        _, exponent = frexp(expected)
        return self._classes.setdefault(exponent, _Class(ldexp(1, exponent)))

    def _pass_on(self) -> None:
        while waiting := [jobs for jobs in self._classes.values() if jobs.turns]:
            jobs = min(waiting, key=lambda jobs: jobs.served)
            turn = jobs.turns.popleft()
            if not turn.done():
                self._served = jobs.served
                jobs.served += jobs.cost
                turn.set_result(None)
                return
        self._free += 1
