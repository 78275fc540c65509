"""Several processes on one registry: shares, cost, and what happens when some come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bench.metering import Spent, cheapest, measure_windows, starting
from bench.scale.fleets import healthy
from bench.scale.journal import Journal, missed, twice
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from testbed.worker import Worker

DATABASES = 3_000
INTERVAL_SECONDS = 15
COUNTS = (1, 2, 4)
"""How many processes."""
TURNS = 2
"""Every number of processes has its turn, and again: a machine changes its speed within minutes."""
ROUNDS = 4
"""Windows of an interval each in a turn. The cheapest of all counts."""
SETTLED_SECONDS = 2.5 * INTERVAL_SECONDS
DEADLINE_SECONDS = 5
LEASE_SECONDS = DEADLINE_SECONDS + 15


@dataclass(slots=True)
class _Found:
    """What the turns of one number of processes came to."""

    windows: list[Spent] = field(default_factory=list)
    missed: int = 0
    twice: int = 0
    uneven: float = 1.0
    """How many times the smallest share the largest was, in the more uneven turn."""


def measure(servers: Fleet, registry: Registry, report: Report) -> None:
    """Measure every number of processes, then let some of them come and go."""
    journal = Journal(registry)
    asyncio.run(registry.empty())
    asyncio.run(registry.fill(healthy(servers, DATABASES, INTERVAL_SECONDS)))
    found = {count: _Found() for count in COUNTS}
    for _ in range(TURNS):
        for count in COUNTS:
            asyncio.run(journal.open())
            with _replicas(registry, count) as (running, _):
                _measure(running, registry, journal, found[count])
    for count, turns in found.items():
        _report(count, turns, found[1], report)
    with _replicas(registry, max(COUNTS)) as (running, start):
        time.sleep(SETTLED_SECONDS)
        _churn(running, start, journal, report)
    asyncio.run(journal.close())


@contextmanager
def _replicas(
    registry: Registry, count: int
) -> Iterator[tuple[list[Worker], Callable[[], Worker]]]:
    with starting(registry.worker_url, CHECK_DEADLINE_SECONDS=str(DEADLINE_SECONDS)) as start:
        yield [start() for _ in range(count)], start


def _measure(running: list[Worker], registry: Registry, journal: Journal, found: _Found) -> None:
    asyncio.run(registry.make_due())
    time.sleep(SETTLED_SECONDS)
    before, since = [worker.checks() for worker in running], time.time()
    wait = partial(time.sleep, INTERVAL_SECONDS)
    found.windows += measure_windows(running, registry, ROUNDS, wait)
    until = time.time()
    shares = [worker.checks() - then for worker, then in zip(running, before, strict=True)]
    checks = asyncio.run(journal.read())
    found.missed += missed(checks, INTERVAL_SECONDS, since, until)
    found.twice += twice(checks, INTERVAL_SECONDS, since, until)
    found.uneven = max(found.uneven, max(shares) / max(1, min(shares)))


def _report(count: int, found: _Found, of_one: _Found, report: Report) -> None:
    what = f"{count} replicas" if count > 1 else "1 replica"
    spent = cheapest(found.windows)
    report.add(
        Row(f"{what}: CPU a check", spent.worker_us, "us CPU", note=f"{spent.rate:,.0f} a second"),
        Row(f"{what}: missed in an interval", found.missed, "", 0),
        Row(f"{what}: checked twice in an interval", found.twice, "", 0),
    )
    if count > 1:
        ratio = spent.worker_us / cheapest(of_one.windows).worker_us
        report.add(
            Row(f"{what}: the largest share, of the smallest", found.uneven, "x", 1.2),
            Row(f"{what}: CPU a check, of one's", ratio, "x", 1.1),
        )


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
