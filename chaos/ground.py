"""What every scenario stands on: rows, workers, and a witness who reads their logs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from testbed.programs import ProgramError
from testbed.worker import Worker

INTERVAL_SECONDS = 5.0
"""The shortest that a row may ask for."""
START_SECONDS = 60.0
LEASE_MARGIN_SECONDS = 15.0
"""What the worker adds to the deadline."""
ONE_ATTEMPT: Mapping[str, Any] = {
    "healthCheck": {"intervalSeconds": 5},
    "retryStrategy": {"maxAttempts": 1},
}


@dataclass(frozen=True, slots=True)
class Rows:
    """So many rows that name the same server."""

    name: str
    engine: str
    url: str
    copies: int = 1
    config: Mapping[str, Any] = field(default_factory=lambda: ONE_ATTEMPT)


@dataclass(frozen=True, slots=True)
class Check:
    """A check as the witness saw it in a log."""

    moment: float
    """Monotonic seconds of the witness: a worker's own clock may lie."""
    logged: float
    """Seconds of the worker's own clock, which does not wait for the witness."""
    database_id: str
    name: str
    reason: str
    latency: float | None
    """Seconds."""
    lateness: float
    """Seconds."""


class Witness:
    """Follows the logs of any number of workers while they are written."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.told: list[dict[str, Any]] = []
        """Every other event."""
        self.busy: set[Worker] = set()
        """Those who have checked something."""
        self._read: dict[Worker, int] = {}

    def follow(self, worker: Worker) -> Worker:
        """Follow this one, too."""
        self._read[worker] = 0
        return worker

    def look(self) -> None:
        """Read what was written since."""
        for worker, offset in self._read.items():
            with worker.log.open("rb") as log:
                log.seek(offset)
                text = log.read()
            end = text.rfind(b"\n") + 1
            self._read[worker] = offset + end
            for line in text[:end].splitlines():
                self._take(worker, json.loads(line))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one name."""
        return [event for event in self.told if event["event"] == name]

    def gaps(self, after: float, before: float) -> dict[str, list[float]]:
        """Return the gaps between checks by row, those that begin or end outside cut off."""
        moments: dict[str, list[float]] = {}
        for check in self.checks:
            if after <= check.moment <= before:
                moments.setdefault(check.database_id, [after]).append(check.moment)
        return {
            row: [later - earlier for earlier, later in zip(seen, [*seen[1:], before], strict=True)]
            for row, seen in moments.items()
        }

    def _take(self, worker: Worker, event: dict[str, Any]) -> None:
        if event["event"] != "check_finished":
            self.told.append(event)
            return
        self.busy.add(worker)
        latency = event["latency_ms"]
        self.checks.append(
            Check(
                moment=time.monotonic(),
                logged=datetime.fromisoformat(event["timestamp"]).timestamp(),
                database_id=event["database_id"],
                name=event["name"].rpartition(" ")[0],
                reason=event["reason"],
                latency=None if latency is None else latency / 1000,
                lateness=event["lateness_ms"] / 1000,
            )
        )


@asynccontextmanager
async def watching(witness: Witness) -> AsyncIterator[Witness]:
    """Let the witness look ten times a second."""

    async def look() -> None:
        while True:
            witness.look()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(look())
    try:
        yield witness
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        witness.look()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Lend a connection to the registry."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


async def fill(url: str, *groups: Rows) -> None:
    """Register rows as a user would; each is named after its group and a number."""
    async with connected(url) as connection:
        project = await connection.fetchval(
            "insert into platform.projects (name) values ('chaos') returning id"
        )
        for rows in groups:
            await connection.execute(
                "insert into platform.databases (project_id, name, type, connection_string, config)"
                " select $1, $2 || ' ' || i, $3, $4, $5 from generate_series(1, $6::int) i",
                project,
                rows.name,
                rows.engine,
                rows.url,
                json.dumps(rows.config),
                rows.copies,
            )


async def settled(witness: Witness, rows: int) -> None:
    """Wait until every row was checked and the rows have drifted apart."""

    async def all_seen() -> bool:
        return len({check.database_id for check in witness.checks}) >= rows

    if await reached(all_seen, START_SECONDS) is None:
        raise ProgramError(f"not every row was checked within {START_SECONDS:g} s of the start")
    await asyncio.sleep(2 * INTERVAL_SECONDS)


async def fetch(url: str, statement: str, *arguments: object) -> list[Any]:
    """Ask the registry once."""
    async with connected(url) as connection:
        return list(await connection.fetch(statement, *arguments))


async def reached(condition: Callable[[], Awaitable[object]], within: float) -> float | None:
    """Wait for a condition; return the seconds that it took, None when it took too long."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        if await condition():
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    return None


def longest(gaps: Iterable[list[float]]) -> float:
    """Return the longest gap of all rows."""
    return max((max(each) for each in gaps), default=float("inf"))
