"""What a check and a database cost as the fleet grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import cycle, islice

from bench.costs import resident_megabytes
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from bench.whole_path import Meter, starting
from worker.model import Engine

SIZES = (100, 1_000, 10_000)
CHECKS_A_SECOND = 150
STEP_SECONDS = 0.1
WARM_UP_SECONDS = 6.0
MEASURED_SECONDS = 24.0
ONCE_A_DAY = {"healthCheck": {"intervalSeconds": 86_400}}


def measure(servers: Fleet, registry: Registry, report: Report) -> None:
    """Check so many a second in fleets of every size: only the size differs."""
    costs, sizes = zip(*(_measure(servers, registry, count) for count in SIZES), strict=True)
    for count, cost, megabytes in zip(SIZES, costs, sizes, strict=True):
        what = f"growth, {count:,} databases, {CHECKS_A_SECOND} checks a second"
        report.add(Row(what, cost, "us CPU", note=f"{megabytes:.0f} MB"))
    kilobytes = (sizes[-1] - sizes[0]) * 1024 / (SIZES[-1] - SIZES[0])
    report.add(
        Row("growth: the dearest check, of the cheapest", max(costs) / min(costs), "x", 1.2),
        Row("growth: memory a database", kilobytes, "KB", 5.0),
    )


def _measure(servers: Fleet, registry: Registry, count: int) -> tuple[float, float]:
    row = {
        "type": Engine.REDIS,
        "url": servers.urls[Engine.REDIS],
        "config": ONCE_A_DAY,
        "copies": count,
    }
    asyncio.run(registry.empty())
    asyncio.run(registry.fill([row]))
    with starting(registry.worker_url) as start:
        worker = start()
        while asyncio.run(registry.checked()) < count:
            time.sleep(1)
        asyncio.run(_keep_due(registry, WARM_UP_SECONDS))
        meter = Meter([worker], registry)
        asyncio.run(_keep_due(registry, MEASURED_SECONDS))
        spent = meter.spent()
        return spent.worker_us, resident_megabytes(worker.process.pid)


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
