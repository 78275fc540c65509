"""Starts servers, registry and worker, shows what the worker finds, takes everything down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.live import Live

from demo import screen
from demo.fleet import Fleet, fleet, worker
from testbed.ports import free_port
from testbed.process import Program

REFRESH_SECONDS = 0.5
STOP_AFTER, START_AFTER = 8.0, 16.0
"""Seconds after which one server goes and comes back, when nobody said how long the demo runs."""
SELECT = """
select d.name, d.type, d.health_check_status, s.last_reason, s.latency_seconds,
  extract(epoch from now() - d.last_health_check_at) as age, d.health_check_error
from platform.databases d join platform.database_schedules s on s.database_id = d.id
order by array_position($1::text[], d.name)
"""


class Story:
    """What happens while one watches."""

    def __init__(self, servers: Fleet, running: Program, console: Console) -> None:
        self._servers = servers
        self._running = running
        self._console = console
        self._told = 0

    async def show(self, port: int, seconds: float) -> None:
        """Show the table until the time is up (0: until Ctrl-C); half-way stop a server."""
        names = [row.name for row in self._servers.rows()]
        connection = await asyncpg.connect(self._servers.registry.url())
        started = time.monotonic()
        stop_at = started + (0.4 * seconds or STOP_AFTER)
        start_at = started + (0.7 * seconds or START_AFTER)
        with Live(console=self._console, auto_refresh=False) as live:
            while not seconds or time.monotonic() - started < seconds:
                await self._stop_and_start(stop_at, start_at)
                self._tell_changes()
                rows = await connection.fetch(SELECT, names)
                live.update(screen.picture(rows, port, self._console.width), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)
        await connection.close()

    async def _stop_and_start(self, stop_at: float, start_at: float) -> None:
        now, redis = time.monotonic(), self._servers.redis
        if redis.running and stop_at <= now < start_at:
            await asyncio.to_thread(redis.stop)
            self._console.print("now we stop the Redis server behind «sessions»", style="bold")
        elif not redis.running and now >= start_at:
            await asyncio.to_thread(redis.start)
            self._console.print("now we start it again", style="bold")

    def _tell_changes(self) -> None:
        for change in screen.changes(self._running.log)[self._told :]:
            self._console.print(screen.sentence(change))
            self._told += 1


def run(seconds: float) -> None:
    """Start servers, registry and worker, show what the worker finds, take everything down."""
    console = screen.console()
    console.print(screen.INTRODUCTION)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-"))
        port = free_port()
        with console.status("starting a registry, a Redis, a MongoDB and a PostgreSQL"):
            servers = stack.enter_context(fleet())
            running = stack.enter_context(worker(servers, port, Path(folder)))
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(Story(servers, running, console).show(port, seconds))
        for change in screen.changes(running.log)[-1:]:
            console.print("\nthe last change, as alerts see it in the log:", style="bold")
            console.print(json.dumps(change), markup=False, soft_wrap=True)
