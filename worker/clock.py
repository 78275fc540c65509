"""Time to ticks; the only place that knows APScheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

Job = Callable[[], Awaitable[None]]
_LOG = logging.getLogger("apscheduler")


class Clock:
    """Runs jobs at intervals, each at most once at a time; no wall clock can stop it.

    APScheduler plans by the wall clock: set back by an hour it would sleep for that hour. A guard
    on the loop's monotonic clock brings a job that was planned too far ahead back to now.
    """

    def __init__(self) -> None:
        # A firing that is skipped because the last one still runs is meant to be.
        _LOG.setLevel(logging.ERROR)
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._intervals: dict[str, float] = {}
        self._guard: asyncio.TimerHandle | None = None

    def every(
        self, seconds: float, job: Job, name: str, *, gap: Callable[[], float] | None = None
    ) -> None:
        """Run a job now and then every so many seconds; a missed firing is made up for once.

        Where there is a `gap`, it tells after each run how many seconds from its start the next
        one comes; they are asked for when the job has ended, which may have learned something.
        """
        self._intervals[name] = seconds

        async def fire() -> None:  # APScheduler awaits only what it knows for a coroutine function
            began = time.monotonic()
            with contextlib.suppress(asyncio.CancelledError):  # only `stop` cancels a job
                await job()
                if gap is not None:
                    # Once this run is over, for APScheduler skips what is due during one.
                    left = gap() - (time.monotonic() - began)
                    asyncio.get_running_loop().call_soon(self._plan, name, left)

        self._scheduler.add_job(
            fire,
            IntervalTrigger(seconds=seconds, timezone=UTC),
            id=name,
            name=name,
            next_run_time=datetime.now(UTC),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    def start(self) -> None:
        """Start firing; needs a running loop."""
        self._scheduler.start()
        self._look()

    def stop(self) -> None:
        """Fire no more; a job that is running is cancelled."""
        if self._guard is not None:
            self._guard.cancel()
        if self._scheduler.running:
            # A job that is cancelled before its first step cannot help being told as an error.
            _LOG.setLevel(logging.CRITICAL)
            self._scheduler.shutdown(wait=False)

    def _plan(self, name: str, seconds: float) -> None:
        """Fire a job next in so many seconds, at once where they have passed."""
        if self._scheduler.running:
            soon = datetime.now(UTC) + timedelta(seconds=max(0.0, seconds))
            self._scheduler.modify_job(name, next_run_time=soon)

    def _look(self) -> None:
        now = datetime.now(UTC)
        for name, seconds in self._intervals.items():
            job = self._scheduler.get_job(name)
            ahead = (job.next_run_time - now).total_seconds() if job else 0.0
            if ahead > 2 * seconds:
                self._plan(name, 0.0)
        delay = min(self._intervals.values(), default=1.0)
        self._guard = asyncio.get_running_loop().call_later(delay, self._look)
