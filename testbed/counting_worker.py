"""A worker that counts its tasks, run as `python -m testbed.counting_worker`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from testbed.worker import Worker
from worker import app, settings
from worker.compose import Parts

LOOK_SECONDS = 0.25


class CountingWorker(Worker):
    """The real process, which writes the number of its tasks into a file beside its log."""

    arguments = ("-m", "testbed.counting_worker")

    def __init__(self, url: str, folder: Path, **environment: str) -> None:
        """Start it."""
        self._count = folder / "tasks"
        self._count.write_text("0")
        super().__init__(url, folder, COUNT_FILE=str(self._count), **environment)

    @property
    def tasks(self) -> int:
        """How many tasks there were a moment ago."""
        return int(self._count.read_text() or 0)


class _CountingApp(app.App):
    async def _work(self, parts: Parts) -> None:
        counting = asyncio.create_task(_count(Path(os.environ["COUNT_FILE"])))
        await super()._work(parts)
        counting.cancel()


async def _count(path: Path) -> None:
    while True:
        fresh = path.with_suffix(".new")
        fresh.write_text(str(len(asyncio.all_tasks())))
        fresh.replace(path)
        await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    read = settings.read(settings.Settings, os.environ)
    sys.exit(app.run_loop(_CountingApp(read).run()))
