"""The whole path in the real process: claim, check, record, metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from bench import aims
from bench.metering import Meter, Spent, cheapest, measure_windows, starting
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from testbed.worker import Worker
from worker.app import REFRESH_SECONDS
from worker.words import Engine

AIMS = {Engine.REDIS: 250.0, Engine.MONGODB: 500.0, Engine.POSTGRESQL: 500.0}
REGISTRY_AIM = 100.0
ROWS = 6000
INTERVAL_SECONDS = 20
PACED_SECONDS = REFRESH_SECONDS
"""Each window has its refresh of the fleet's states."""
WINDOWS = 3
"""The cheapest counts: whatever else runs on the machine only adds."""


def measure(servers: Fleet, registry: Registry, engine: Engine, report: Report) -> None:
    """Check copies of one server: for the first time, at their own pace, and all due at once."""
    config = {"healthCheck": {"intervalSeconds": INTERVAL_SECONDS}}
    row = {"type": engine, "url": servers.urls[engine], "config": config, "copies": ROWS}
    asyncio.run(registry.empty())
    asyncio.run(registry.fill([row]))
    with starting(registry.worker_url) as start:
        worker = start()
        hurry = Meter([worker], registry)
        asyncio.run(registry.wait_for_round(ROWS))
        first = hurry.spent()
        time.sleep(INTERVAL_SECONDS / 2)
        paced = measure_windows([worker], registry, WINDOWS, partial(time.sleep, PACED_SECONDS))
        worker.stop()
        at_once = [_hurry(start, registry) for _ in range(WINDOWS)]
    mine, its = (aims.here(report, engine, aim) for aim in (AIMS[engine], REGISTRY_AIM))
    floors = aims.of_the_paced_floor(report, engine, cheapest(paced).worker_us)
    for name, windows, ratio in (("at its pace", paced, floors), ("all due at once", at_once, "")):
        what = f"{engine}: whole path, {name}"
        spent = cheapest(windows)
        note = ", ".join(filter(None, (f"{spent.rate:,.0f} a second", ratio, mine)))
        report.add(
            Row(what, spent.worker_us, "us CPU", AIMS[engine], note),
            Row(f"{what}, the registry", spent.registry_us, "us CPU", REGISTRY_AIM, its),
        )
    what = f"{engine}: whole path, every status changes"
    report.add(
        Row(what, first.worker_us, "us CPU", note=f"{first.rate:,.0f} a second, one round"),
        Row(f"{what}, the registry", first.registry_us, "us CPU"),
    )


def _hurry(start: Callable[[], Worker], registry: Registry) -> Spent:
    """Start a worker to which every row is due."""
    since = time.time()
    asyncio.run(registry.make_due())
    worker = start()
    hurry = Meter([worker], registry)
    asyncio.run(registry.wait_for_round(ROWS, since))
    spent = hurry.spent()
    worker.stop()
    return spent
