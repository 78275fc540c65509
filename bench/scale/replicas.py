"""Several processes on one registry: shares, cost, and what happens when some come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from bench.metering import cheapest, checks_of, measure_windows, starting
from bench.scale.fleets import healthy
from bench.scale.journal import Journal, missed, twice
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from testbed.worker import Worker

DATABASES = 3_000
INTERVAL_SECONDS = 15
COUNTS = (1, 2, 4)
"""How many processes."""
ROUNDS = 4
"""Windows of an interval each, as many for every number of processes. The cheapest counts."""
SETTLED_SECONDS = 2.5 * INTERVAL_SECONDS
DEADLINE_SECONDS = 5
LEASE_SECONDS = DEADLINE_SECONDS + 15


def measure(servers: Fleet, registry: Registry, report: Report) -> None:
    """Measure every number of processes, then let some of them come and go."""
    journal = Journal(registry)
    asyncio.run(registry.empty())
    asyncio.run(registry.fill(healthy(servers, DATABASES, INTERVAL_SECONDS)))
    asyncio.run(journal.open())
    costs: dict[int, float] = {}
    for count in COUNTS:
        with starting(registry.worker_url, CHECK_DEADLINE_SECONDS=str(DEADLINE_SECONDS)) as start:
            running = [start() for _ in range(count)]
            costs[count] = _measure(running, registry, journal, report)
            if count > 1:
                of_one = costs[count] / costs[1]
                report.add(Row(f"{count} replicas: CPU a check, of one's", of_one, "x", 1.1))
            if count == max(COUNTS):
                _churn(running, start, journal, report)
    asyncio.run(journal.close())


def _measure(running: list[Worker], registry: Registry, journal: Journal, report: Report) -> float:
    asyncio.run(registry.make_due())
    time.sleep(SETTLED_SECONDS)
    before, since = list(map(checks_of, running)), time.time()
    spent = cheapest(
        measure_windows(running, registry, ROUNDS, partial(time.sleep, INTERVAL_SECONDS))
    )
    until = time.time()
    shares = [now - then for now, then in zip(map(checks_of, running), before, strict=True)]
    checks = asyncio.run(journal.read())
    left_out = missed(checks, INTERVAL_SECONDS, since, until)
    doubled = twice(checks, INTERVAL_SECONDS, since, until)
    uneven = max(abs(share * len(shares) / sum(shares) - 1) for share in shares) * 100
    what = f"{len(running)} replicas" if len(running) > 1 else "1 replica"
    report.add(
        Row(f"{what}: CPU a check", spent.worker_us, "us CPU", note=f"{spent.rate:,.0f} a second"),
        Row(f"{what}: missed in an interval", left_out, "", 0),
        Row(f"{what}: checked twice in an interval", doubled, "", 0),
    )
    if len(running) > 1:
        report.add(Row(f"{what}: a share differs from the fair one by", uneven, "%", 20.0))
    return spent.worker_us


def _churn(
    running: list[Worker], start: Callable[[], Worker], journal: Journal, report: Report
) -> None:
    """Kill one, stop one, start one; the registry's journal tells who suffered."""
    since = time.time()
    running[0].kill()
    time.sleep(INTERVAL_SECONDS / 3)
    running[1].stop()
    start()
    time.sleep(LEASE_SECONDS + 2 * INTERVAL_SECONDS)
    checks, until = asyncio.run(journal.read()), time.time()
    doubled = twice(checks, INTERVAL_SECONDS, since, until)
    left_alone = missed(checks, LEASE_SECONDS + 1.5 * INTERVAL_SECONDS, since, until)
    report.add(
        Row("replicas killed, stopped, started: checked twice in an interval", doubled, "", 0),
        Row("the same: left alone for longer than a lease", left_alone, "", 0),
    )
