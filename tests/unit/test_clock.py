"""Jobs fire at their interval, one at a time, whatever they do."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from worker.clock import Clock

EVERY_SECONDS = 0.1


async def test_a_job_fires_at_once_and_then_at_its_interval() -> None:
    clock, moments = Clock(), list[float]()

    async def job() -> None:
        moments.append(time.monotonic())

    clock.every(EVERY_SECONDS, job, "tick")
    began = time.monotonic()
    clock.start()
    await asyncio.sleep(12 * EVERY_SECONDS)
    clock.stop()
    assert moments[0] - began < EVERY_SECONDS
    assert 6 <= len(moments) <= 13


async def test_a_job_that_takes_longer_than_its_interval_never_runs_twice_at_once() -> None:
    clock, running, most = Clock(), 0, 0

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(3 * EVERY_SECONDS)
        running -= 1

    clock.every(EVERY_SECONDS, job, "tick")
    clock.start()
    await asyncio.sleep(10 * EVERY_SECONDS)
    clock.stop()
    assert most == 1


async def test_a_job_that_was_planned_an_hour_ahead_is_brought_back() -> None:
    clock, fired = Clock(), asyncio.Event()

    async def job() -> None:
        fired.set()

    clock.every(EVERY_SECONDS, job, "tick")
    clock.start()
    await fired.wait()
    fired.clear()
    later = datetime.now(UTC) + timedelta(hours=1)
    clock._scheduler.modify_job("tick", next_run_time=later)
    async with asyncio.timeout(20 * EVERY_SECONDS):
        await fired.wait()
    clock.stop()
