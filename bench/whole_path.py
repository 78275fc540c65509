"""The whole path in the real process: claim, check, record, metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import aims
from bench.costs import Cost
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from testbed.worker import Worker
from worker.model import Engine

AIMS = {Engine.REDIS: 250.0, Engine.MONGODB: 500.0, Engine.POSTGRESQL: 500.0}
REGISTRY_AIM = 100.0
ROWS = 6000
INTERVAL_SECONDS = 20
PACED_SECONDS = 10.0
WINDOWS = 3
"""The cheapest counts: whatever else runs on the machine only adds."""
POLL_SECONDS = 0.25
QUIET = {"LOG_LEVEL": "warn"}
_CHECKS = re.compile(r"^database_health_checks_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Spent:
    """What checks cost the worker and the registry over some time."""

    checks: float
    seconds: float
    worker: float
    """CPU seconds."""
    registry: float
    """CPU seconds of all of PostgreSQL's processes."""

    @property
    def worker_us(self) -> float:
        """CPU microseconds of the worker per check."""
        return self.worker / self.checks * 1e6

    @property
    def registry_us(self) -> float:
        """CPU microseconds of the registry per check."""
        return self.registry / self.checks * 1e6

    @property
    def rate(self) -> float:
        """Checks a second."""
        return self.checks / self.seconds


@contextmanager
def starting(url: str, **environment: str) -> Iterator[Callable[[], Worker]]:
    """Lend the way to start the real process; what was started ends with this."""
    running: list[Worker] = []
    with TemporaryDirectory(prefix="bench-") as folder:

        def start() -> Worker:
            running.append(Worker(url, Path(folder), **{**QUIET, **environment}))
            wait_for_start(running[-1])
            return running[-1]

        try:
            yield start
        finally:
            for worker in running:
                worker.stop()


def checks_of(worker: Worker) -> float:
    """How many checks a worker has finished, as its metrics say."""
    return sum(map(float, _CHECKS.findall(worker.page("/metrics"))))


class Meter:
    """Reads what workers and their registry have spent since it was made.

    What it asks for itself, a page of metrics that grows with the fleet, is left out.
    """

    def __init__(self, workers: Sequence[Worker], registry: Registry) -> None:
        self._workers = workers
        self._registry = registry
        self._checks = self._count()
        self._costs = self._read()

    def spent(self) -> Spent:
        """Read again."""
        costs = self._read()
        seconds, worker, registry = (
            now - before for before, now in zip(self._costs, costs, strict=True)
        )
        return Spent(self._count() - self._checks, seconds, worker, registry)

    def _count(self) -> float:
        return sum(map(checks_of, self._workers))

    def _read(self) -> tuple[float, float, float]:
        return (
            time.monotonic(),
            sum(Cost.of(worker.process.pid).seconds for worker in self._workers),
            Cost.of_family(self._registry.server.pid).seconds,
        )


def measure_windows(
    workers: Sequence[Worker], registry: Registry, windows: int, seconds: float
) -> list[Spent]:
    """Measure so often, for so long each."""
    measured: list[Spent] = []
    for _ in range(windows):
        meter = Meter(workers, registry)
        time.sleep(seconds)
        measured.append(meter.spent())
    return measured


def cheapest(windows: Iterable[Spent]) -> Spent:
    """Take the window whose checks cost the worker least."""
    return min(windows, key=lambda spent: spent.worker_us)


def wait_for_checks(worker: Worker, checks: float, seconds: float = 60.0) -> None:
    """Wait until a worker has finished so many checks."""
    end = time.monotonic() + seconds
    while checks_of(worker) < checks:
        if time.monotonic() > end:
            raise TimeoutError(f"the worker did not finish {checks:g} checks in {seconds:g} s")
        time.sleep(0.1)


def wait_for_start(worker: Worker, seconds: float = 20.0) -> None:
    """Wait until a worker serves its metrics."""
    end = time.monotonic() + seconds
    while True:
        try:
            worker.page("/metrics")
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def measure(servers: Fleet, registry: Registry, engine: Engine, report: Report) -> None:
    """Check copies of one server: for the first time, at their own pace, and all due at once."""
    config = {"healthCheck": {"intervalSeconds": INTERVAL_SECONDS}}
    row = {"type": engine, "url": servers.urls[engine], "config": config, "copies": ROWS}
    asyncio.run(registry.empty())
    asyncio.run(registry.fill([row]))
    with starting(registry.worker_url) as start:
        worker = start()
        hurry = Meter([worker], registry)
        _wait_for_round(registry, 0)
        first = hurry.spent()
        time.sleep(INTERVAL_SECONDS / 2)
        paced = measure_windows([worker], registry, WINDOWS, PACED_SECONDS)
        worker.stop()
        at_once = [_hurry(start, registry) for _ in range(WINDOWS)]
    mine, its = (aims.here(report, engine, aim) for aim in (AIMS[engine], REGISTRY_AIM))
    for name, windows in (("at its pace", paced), ("all due at once", at_once)):
        what = f"{engine}: whole path, {name}"
        spent, its_us = cheapest(windows), min(window.registry_us for window in windows)
        note = ", ".join(filter(None, (f"{spent.rate:,.0f} a second", mine)))
        report.add(
            Row(what, spent.worker_us, "us CPU", AIMS[engine], note),
            Row(f"{what}, the registry", its_us, "us CPU", REGISTRY_AIM, its),
        )
    what = f"{engine}: whole path, every status changes"
    report.add(
        Row(what, first.worker_us, "us CPU", note=f"{first.rate:,.0f} a second"),
        Row(f"{what}, the registry", first.registry_us, "us CPU"),
    )


def _hurry(start: Callable[[], Worker], registry: Registry) -> Spent:
    """Start a worker to which every row is due."""
    since = time.time()
    asyncio.run(registry.make_due())
    worker = start()
    hurry = Meter([worker], registry)
    _wait_for_round(registry, since)
    spent = hurry.spent()
    worker.stop()
    return spent


def _wait_for_round(registry: Registry, since: float) -> None:
    """Wait until every row was checked after this POSIX time."""
    while asyncio.run(registry.checked(since)) < ROWS:
        time.sleep(POLL_SECONDS)
