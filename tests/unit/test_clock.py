"""Jobs fire at their interval, one at a time, whatever they do."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

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


async def test_a_gap_counts_from_the_start_of_a_run_and_is_asked_for_after_it() -> None:
    clock, moments, asked, done = Clock(), list[float](), list[int](), asyncio.Event()

    async def job() -> None:
        moments.append(time.monotonic())
        await asyncio.sleep(1.5 * EVERY_SECONDS)
        if len(moments) == 3:
            done.set()

    def gap() -> float:
        asked.append(len(moments))
        return 2 * EVERY_SECONDS

    clock.every(600 * EVERY_SECONDS, job, "tick", gap=gap)
    clock.start()
    async with asyncio.timeout(100 * EVERY_SECONDS):
        await done.wait()
    clock.stop()
    assert asked[:2] == [1, 2]
    gaps = [after - before for before, after in pairwise(moments)]
    assert 1.9 * EVERY_SECONDS < min(gaps) < 3.2 * EVERY_SECONDS


async def test_a_run_that_outlasts_its_gap_is_followed_at_once() -> None:
    clock, runs, again = Clock(), 0, asyncio.Event()

    async def job() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            again.set()
        await asyncio.sleep(2 * EVERY_SECONDS)

    clock.every(600 * EVERY_SECONDS, job, "tick", gap=lambda: EVERY_SECONDS)
    clock.start()
    async with asyncio.timeout(100 * EVERY_SECONDS):
        await again.wait()
    clock.stop()


async def test_stopping_is_no_error_even_for_a_job_that_has_not_begun(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def job() -> None:
        return

    for _ in range(3):
        clock = Clock()
        clock.every(EVERY_SECONDS, job, "tick")
        clock.start()
        await asyncio.sleep(0)
        clock.stop()
        clock = Clock()
        clock.every(EVERY_SECONDS, job, "tick")
        clock.start()
        clock.stop()
        await asyncio.sleep(EVERY_SECONDS)
    assert not caplog.records


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
