"""Scrapes a worker as Prometheus does, and reads its histograms."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.worker import Worker

EVERY_SECONDS = 15.0
_BUCKET = re.compile(r'^(\w+)_bucket\{(?:.*,)?le="([^"]+)"\} (\S+)$', re.MULTILINE)


@contextmanager
def scraped(worker: Worker, every: float = EVERY_SECONDS) -> Iterator[list[float]]:
    """Scrape in a thread; fill the list with the seconds that a page took."""
    seconds: list[float] = []
    stopping = threading.Event()

    def scrape() -> None:
        while True:
            began = time.monotonic()
            worker.page("/metrics")
            seconds.append(time.monotonic() - began)
            if stopping.wait(max(0.0, every - seconds[-1])):
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield seconds
    finally:
        stopping.set()
        thread.join()


class Lateness:
    """The lateness of a worker's checks since this was made."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._before = self._read()

    def below(self, share: float) -> float:
        """Seconds that so large a share of the checks stayed below: the bound of a bucket."""
        now = self._read()
        counts = {bound: now[bound] - self._before[bound] for bound in now}
        return min(bound for bound in counts if counts[bound] >= share * counts[math.inf])

    def _read(self) -> dict[float, float]:
        return {
            float(bound): float(count)
            for name, bound, count in _BUCKET.findall(self._worker.page("/metrics"))
            if name == "database_health_check_lateness_seconds"
        }
