"""Starts workers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.worker import Worker


@pytest.fixture
def start(tmp_path: Path, worker_url: str) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def run(**environment: str) -> Worker:
        workers.append(Worker(worker_url, tmp_path, **environment))
        return workers[-1]

    yield run
    for worker in workers:
        worker.stop()
