"""The worker with a watch in its main loop: how late does a short sleep end?

A long delay stands for all the sleeps that would have begun within it: it counts for each of them.
A first SIGUSR1 begins the watch, a second one ends it.

Takes the name of the file that the seconds of delay go to, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from worker.app import App, run_loop
from worker.settings import Settings, read

SLEEP_SECONDS = 0.005


async def _watch(delays: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        end = loop.time() + SLEEP_SECONDS
        await asyncio.sleep(SLEEP_SECONDS)
        delay = max(0.0, loop.time() - end)
        delays.append(delay)
        while delay > SLEEP_SECONDS:
            delay -= SLEEP_SECONDS
            delays.append(delay)


async def _run(delays: list[float]) -> int:
    watches: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()

    def begin_or_end() -> None:
        if watches:
            watches.pop().cancel()
        else:
            watches.append(loop.create_task(_watch(delays)))

    loop.add_signal_handler(signal.SIGUSR1, begin_or_end)
    return await App(read(Settings, os.environ)).run()


def main() -> int:
    """Run the worker, then write the file; return the worker's exit code."""
    delays: list[float] = []
    code = run_loop(_run(delays))
    Path(sys.argv[1]).write_text(json.dumps(delays), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
