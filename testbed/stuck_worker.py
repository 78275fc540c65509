"""A worker whose main loop blocks, run as `python -m testbed.stuck_worker`."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from testbed.worker import Worker
from worker import app, settings
from worker.compose import Parts
from worker.exposition import Bounds

BLOCK_AFTER_SECONDS = 1.0
BLOCKED_SECONDS = 3600.0


class StuckWorker(Worker):
    """The real process, its main loop blocked for good a second after its start."""

    arguments = ("-m", "testbed.stuck_worker")


class _StuckApp(app.App):
    async def _work(self, parts: Parts) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(BLOCK_AFTER_SECONDS, time.sleep, BLOCKED_SECONDS)
        await super()._work(parts)


def main() -> int:
    """Run it; STUCK_SECONDS and ALIVE_SECONDS take the place of the watchdog's own bounds."""
    usual = Bounds()
    bounds = Bounds(
        alive_seconds=float(os.environ.get("ALIVE_SECONDS", usual.alive_seconds)),
        stuck_seconds=float(os.environ.get("STUCK_SECONDS", usual.stuck_seconds)),
    )
    read = settings.read(settings.Settings, os.environ)
    return app.run_loop(_StuckApp(read, bounds).run())


if __name__ == "__main__":
    sys.exit(main())
