"""Ten thousand databases in one process: all due at once, then at their own pace, scraped."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from bench import aims, single
from bench.costs import peak_megabytes
from bench.metering import QUIET, Spent, cheapest, measure_windows, wait_for_start
from bench.scale.fleets import SHARES, mixed
from bench.scale.journal import Journal, busiest_second, missed, twice
from bench.scale.scraping import Lateness, scraped
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from testbed.worker import Worker

DATABASES = 10_000
INTERVAL_SECONDS = 30
SETTLED_SECONDS = 2.5 * INTERVAL_SECONDS
"""After the first round and the longest gap that a spread gives."""
CROWD_SECONDS = 3.0
"""How much longer a check may take while all are due at once; it is noted when it ends."""
ROUNDS = 3
"""Windows of an interval each: whole rounds of the fleet. The cheapest counts."""
WATCHED_SECONDS = 30.0
STORMED_SECONDS = 10.0
CPU_AIM = 25.0
"""Percent of a core."""
WHAT = f"{DATABASES:,} databases, one process"


def measure(servers: Fleet, registry: Registry, report: Report) -> None:
    """Run one worker on the fleet for some minutes."""
    single.measure_floors(servers, report)
    journal = Journal(registry)
    asyncio.run(registry.empty())
    asyncio.run(journal.open())
    with (
        mixed(servers, DATABASES, INTERVAL_SECONDS) as rows,
        TemporaryDirectory(prefix="bench-") as folder,
    ):
        asyncio.run(registry.fill(rows))
        asyncio.run(registry.make_due("1 hour"))
        worker = _Watched(registry.worker_url, Path(folder))
        try:
            _measure(worker, registry, journal, report)
        finally:
            worker.stop()
        delays = worker.delays()
        p99 = quantiles(delays, n=100)[-1]
        report.add(
            Row(f"{WHAT}: a stall of the main loop, p99", p99 * 1e3, "ms", 20.0),
            Row(f"{WHAT}: the same, the longest", max(delays) * 1e3, "ms"),
        )
    asyncio.run(journal.close())


class _Watched(Worker):
    """A worker that can be told to watch its main loop."""

    def __init__(self, url: str, folder: Path) -> None:
        self._delays = folder / "delays.json"
        self.arguments = ("-m", "bench.scale.watched", str(self._delays))
        super().__init__(url, folder, **QUIET)

    def watch(self, seconds: float) -> None:
        """Watch for so long."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGUSR1)

    def delays(self) -> list[float]:
        """Seconds by which short sleeps were late, or would have been during a longer one."""
        delays: list[float] = json.loads(self._delays.read_text(encoding="utf-8"))
        return delays


def _measure(worker: _Watched, registry: Registry, journal: Journal, report: Report) -> None:
    wait_for_start(worker)
    started = time.time()
    with scraped(worker) as pages:
        while asyncio.run(journal.checked()) < DATABASES and time.time() < started + 60:
            time.sleep(1)
        first_round = time.time() - started
        time.sleep(max(0.0, started + SETTLED_SECONDS - time.time()))
        lateness, since = Lateness(worker), time.time()
        spent = cheapest(
            measure_windows([worker], registry, ROUNDS, partial(time.sleep, INTERVAL_SECONDS))
        )
        late, until = lateness.below(0.99), time.time()
        resident = peak_megabytes(worker.process.pid)
        worker.watch(WATCHED_SECONDS)
    checks = asyncio.run(journal.read())
    uneven = busiest_second(checks, since, since + INTERVAL_SECONDS)
    report.add(
        Row(f"{WHAT}, all due at once: until all are checked", first_round, "s", 30.0),
        Row(
            f"{WHAT}, all due at once: checked twice",
            twice(checks, INTERVAL_SECONDS, started, since, CROWD_SECONDS),
            "",
            0,
        ),
        Row(f"{WHAT}, two rounds later: busiest second", uneven, "x the average", 2.0),
        *_steady(spent, late, resident, aims.of_a_mix(report, SHARES, CPU_AIM)),
        Row(
            f"{WHAT}: missed in an interval",
            missed(checks, INTERVAL_SECONDS, since, until),
            "",
            0,
        ),
        Row(
            f"{WHAT}: checked twice in an interval",
            twice(checks, INTERVAL_SECONDS, since, until),
            "",
            0,
        ),
        Row(f"{WHAT}: a page of metrics, median", median(pages) * 1e3, "ms", 250.0),
        Row(f"{WHAT}: the same, the slowest", max(pages) * 1e3, "ms"),
    )
    storm = Lateness(worker)
    with scraped(worker, every=0.0):
        time.sleep(STORMED_SECONDS)
    report.add(Row(f"{WHAT}, scraped without a pause: lateness, p99", storm.below(0.99), "s", 1.0))


def _steady(spent: Spent, late: float, resident: float, aim_here: str) -> Sequence[Row]:
    share = spent.worker / spent.seconds * 100
    note = f"{spent.rate:,.0f} checks a second, {spent.worker_us:,.0f} us each, {aim_here}"
    return (
        Row(f"{WHAT}: CPU", share, "% of a core", CPU_AIM, note),
        Row(f"{WHAT}: resident memory at its peak", resident, "MB", 200.0),
        Row(f"{WHAT}: lateness, p99 below", late, "s", 1.0),
    )
