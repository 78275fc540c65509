"""What workers and their registry spend, and when a worker is ready to be measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.costs import Cost
from bench.servers import Registry
from testbed.worker import Worker

QUIET = {"LOG_LEVEL": "warn"}


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


class Meter:
    """Reads what workers and their registry have spent since it was made.

    It asks for a page of metrics before it reads, at either end: one of them is part of what was
    spent, as scrapes are of a worker's life.
    """

    def __init__(self, workers: Sequence[Worker], registry: Registry) -> None:
        self._workers = workers
        self._registry = registry
        self._checks = self._count()
        self._costs = self._read()

    def spent(self) -> Spent:
        """Read again."""
        checks = self._count() - self._checks
        seconds, worker, registry = (
            now - before for before, now in zip(self._costs, self._read(), strict=True)
        )
        return Spent(checks, seconds, worker, registry)

    def _count(self) -> float:
        return sum(worker.checks() for worker in self._workers)

    def _read(self) -> tuple[float, float, float]:
        return (
            time.monotonic(),
            sum(Cost.of(worker.process.pid).seconds for worker in self._workers),
            Cost.of_family(self._registry.server.pid).seconds,
        )


def measure_windows(
    workers: Sequence[Worker], registry: Registry, windows: int, work: Callable[[], object]
) -> list[Spent]:
    """Measure this work so often."""
    measured: list[Spent] = []
    for _ in range(windows):
        meter = Meter(workers, registry)
        work()
        measured.append(meter.spent())
    return measured


def cheapest(windows: Iterable[Spent]) -> Spent:
    """Take the window whose checks cost the worker least."""
    return min(windows, key=lambda spent: spent.worker_us)


def wait_for_checks(worker: Worker, checks: float, seconds: float = 60.0) -> None:
    """Wait until a worker has finished so many checks."""
    end = time.monotonic() + seconds
    while worker.checks() < checks:
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
