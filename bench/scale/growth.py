"""What a check and a database cost as the fleet grows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import cycle, islice

from bench.costs import resident_megabytes
from bench.metering import Spent, cheapest, measure_windows, starting
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from worker.app import REFRESH_SECONDS
from worker.words import Engine

SIZES = (100, 1_000, 10_000)
CHECKS_A_SECOND = 110
TICK_SECONDS = 0.5
"""With the usual ticks of a second, a hundred rows cannot be checked so often."""
STEP_SECONDS = 0.1
WARM_UP_SECONDS = 6.0
WINDOWS = 4
WINDOW_SECONDS = REFRESH_SECONDS
"""Each window has its refresh. The cheapest counts: whatever else runs on the machine only adds."""
ONCE_A_DAY = {"healthCheck": {"intervalSeconds": 86_400}}


def measure(servers: Fleet, registry: Registry, report: Report) -> None:
    """Check so many a second in fleets of every size: only the size differs."""
    found = [_measure(servers, registry, count) for count in SIZES]
    costs, sizes = [spent.worker_us for spent, _ in found], [megabytes for _, megabytes in found]
    for count, (spent, megabytes) in zip(SIZES, found, strict=True):
        note = f"{spent.rate:,.0f} checks a second, {megabytes:.0f} MB"
        report.add(Row(f"growth, {count:,} databases", spent.worker_us, "us CPU", note=note))
    kilobytes = (sizes[-1] - sizes[0]) * 1024 / (SIZES[-1] - SIZES[0])
    report.add(
        Row("growth: the dearest check, of the cheapest", max(costs) / min(costs), "x", 1.2),
        Row("growth: memory a database", kilobytes, "KB", 5.0),
    )


def _measure(servers: Fleet, registry: Registry, count: int) -> tuple[Spent, float]:
    row = {
        "type": Engine.REDIS,
        "url": servers.urls[Engine.REDIS],
        "config": ONCE_A_DAY,
        "copies": count,
    }
    asyncio.run(registry.empty())
    asyncio.run(registry.fill([row]))
    with starting(registry.worker_url, TICK_SECONDS=str(TICK_SECONDS)) as start:
        worker = start()
        asyncio.run(registry.wait_for_round(count))
        asyncio.run(_keep_due(registry, WARM_UP_SECONDS))
        windows = measure_windows(
            [worker], registry, WINDOWS, lambda: asyncio.run(_keep_due(registry, WINDOW_SECONDS))
        )
        return cheapest(windows), resident_megabytes(worker.process.pid)


async def _keep_due(registry: Registry, seconds: float) -> None:
    """Make one row after the other due, at the rate that all sizes share."""
    async with registry.connected() as connection:
        ids = cycle(await connection.fetchval("select array_agg(id) from platform.databases"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for step in range(round(seconds / STEP_SECONDS)):
            await asyncio.sleep(began + step * STEP_SECONDS - loop.time())
            few: Sequence[object] = list(islice(ids, round(CHECKS_A_SECOND * STEP_SECONDS)))
            await connection.execute(
                "update platform.database_schedules set due_at = now()"
                " where database_id = any ($1) and leased_until is null",
                few,
            )
