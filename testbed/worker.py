"""The worker as a process of its own, and the registry as its users see it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg

from testbed.ports import free_port

PROJECT = "00000000-0000-0000-0000-00000000000a"
WITHIN_SECONDS = 20.0
_CHECKS = re.compile(r"^database_health_checks_total\{.*\} (\S+)$", re.MULTILINE)


class Worker:
    """The worker as a process of its own; its log is read from a file."""

    launcher: Sequence[str] = ()
    """What the command begins with; it must end up in the same process."""
    arguments: Sequence[str] = ("-m", "worker", "run")

    def __init__(self, url: str, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = folder / f"worker-{self.port}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*self.launcher, sys.executable, *self.arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": os.environ["PATH"],
                    "DATABASE_URL": url,
                    "PORT": str(self.port),
                    "METRICS_HOST": "127.0.0.1",
                    "ALLOWED_NETWORKS": "127.0.0.1/32",
                    "LOG_LEVEL": "debug",
                    **environment,
                },
            )

    def kill(self) -> None:
        """End it as the kernel would, without a word."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Read the events of one name from its log."""
        return [event for event in self.all_events() if event["event"] == name]

    def all_events(self) -> list[dict[str, Any]]:
        """Read its whole log; a line that is not yet complete is left out."""
        lines = [line for line in self.log.read_text().splitlines(True) if line.endswith("\n")]
        return [json.loads(line) for line in lines]

    def page(self, path: str) -> str:
        """Read a page of its HTTP server."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    def checks(self) -> float:
        """Count the checks that it has finished, as its metrics say."""
        return sum(map(float, _CHECKS.findall(self.page("/metrics"))))

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=30)


async def register(
    url: str, engine: str, target: str, config: str = "{}", *, name: str = ""
) -> None:
    """Register one database as a user would, under its engine's name where none is given."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "insert into platform.projects (id, name) values ($1, 'test') on conflict do nothing",
        PROJECT,
    )
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " values ($1, $2, $3, $4, $5)",
        PROJECT,
        name or engine,
        engine,
        target,
        config,
    )
    await connection.close()


async def health(url: str) -> dict[str, tuple[str, str | None]]:
    """Read status and error by name."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select name, health_check_status, health_check_error from platform.databases"
    )
    await connection.close()
    return {row["name"]: (row["health_check_status"], row["health_check_error"]) for row in rows}


async def told(worker: Worker, event: str) -> None:
    """Wait until a worker has logged an event."""

    async def is_told() -> bool:
        return bool(worker.events(event))

    await eventually(is_told, f"the worker tells of {event}")


async def eventually(
    promise: Callable[[], Awaitable[object]], what: str, within: float = WITHIN_SECONDS
) -> None:
    """Wait until the promise holds; a bound in seconds makes the failure readable."""
    end = time.monotonic() + within
    while not await promise():
        if time.monotonic() > end:
            raise AssertionError(what)
        await asyncio.sleep(0.1)
