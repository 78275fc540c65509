"""How soon the first check comes after the start of the process, and what memory it takes."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from statistics import median

from bench.costs import Cost, resident_megabytes
from bench.metering import starting, wait_for_checks
from bench.scale.fleets import healthy
from bench.servers import Fleet, Registry
from bench.table import Report, Row

ROWS = 100
STARTS = 3
SETTLED_SECONDS = 16.0
"""Long enough for a snapshot, and for scrapes."""


def measure(fleet: Fleet, registry: Registry, report: Report) -> None:
    """Start on a hundred rows, some times."""
    asyncio.run(registry.empty())
    asyncio.run(registry.fill(healthy(fleet, ROWS, 5)))
    firsts, cpus, sizes = zip(
        *(_start(registry, settle=i == 0) for i in range(STARTS)), strict=True
    )
    report.add(
        Row(f"start to first check, {ROWS} rows", median(firsts), "s", 1.0),
        Row(f"CPU time of a start and {ROWS} checks", median(cpus), "s"),
        Row(f"resident memory, {ROWS} rows", max(sizes), "MB", 90.0),
    )


def _start(registry: Registry, *, settle: bool) -> tuple[float, float, float]:
    asyncio.run(registry.make_due())
    started = time.time()
    with starting(registry.worker_url, LOG_LEVEL="debug") as start:
        worker = start()
        wait_for_checks(worker, ROWS)
        cpu = Cost.of(worker.process.pid).seconds
        if settle:
            time.sleep(SETTLED_SECONDS)
            worker.page("/metrics")
        finished = worker.events("check_finished")[0]["timestamp"]
        first = datetime.fromisoformat(finished).timestamp() - started
        return first, cpu, resident_megabytes(worker.process.pid)
