"""No tick has ended for too long: then, and only then, the watchdog gives up."""

from __future__ import annotations

import asyncio

from worker.watchdog import Pulse, watch

STUCK_SECONDS = 0.3


async def test_it_gives_up_when_no_tick_ends_and_says_for_how_long() -> None:
    ages: list[float] = []
    async with asyncio.timeout(10 * STUCK_SECONDS):
        await watch(Pulse(), ages.append, STUCK_SECONDS)
    (age,) = ages
    assert age >= STUCK_SECONDS


async def test_it_never_gives_up_while_ticks_end() -> None:
    pulse, ages = Pulse(), list[float]()
    watching = asyncio.create_task(watch(pulse, ages.append, STUCK_SECONDS))
    for _ in range(20):
        await asyncio.sleep(STUCK_SECONDS / 6)
        pulse.beat()
    watching.cancel()
    assert ages == []
