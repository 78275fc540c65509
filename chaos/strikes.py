"""Workers killed with -9, and their connections cut, at random moments under load."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chaos.finding import Finding, Losses
from chaos.ground import (
    INTERVAL_SECONDS,
    LEASE_MARGIN_SECONDS,
    START_SECONDS,
    Rows,
    Witness,
    fetch,
    fill,
    reached,
    watching,
)
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.worker import Worker

DEADLINE_SECONDS = 2.0
LEASE_SECONDS = DEADLINE_SECONDS + LEASE_MARGIN_SECONDS
ANNOUNCE_SECONDS = 60.0
"""A change that nobody told is adopted after 30 s, by a job that runs every 15 s."""
TURN = 7
"""After so many strikes the server of half of the rows changes its state."""
UNTOLD = "select change_id from platform.database_health_changes where announced_at is null"
WRONG = (
    "select count(*) from platform.databases where health_check_status <>"
    " case when name like 'turning %' then $1 else 'healthy' end"
)
OVERDUE = (
    "select coalesce(max(extract(epoch from now() - due_at)), 0)::float as seconds"
    " from platform.database_schedules where due_at < now()"
)
BEHIND = (
    "select count(*) from platform.databases where coalesce(last_health_check_at, '-infinity') < $1"
)

Way = Literal["kill -9", "connections cut"]


@dataclass(slots=True)
class Crew:
    """Two workers on one registry; one that was killed is replaced."""

    registry: RegistryServer
    folder: Path
    witness: Witness
    way: Way
    workers: list[Worker]

    def hire(self) -> None:
        """Start one more."""
        url = self.registry.worker_url
        worker = Worker(url, self.folder, CHECK_DEADLINE_SECONDS=str(DEADLINE_SECONDS))
        self.workers.append(self.witness.follow(worker))

    async def are_busy(self) -> bool:
        """Tell whether each of them has checked something."""
        return self.witness.busy.issuperset(self.workers)

    def strike(self) -> None:
        """Hit one of them where it is."""
        if self.way == "kill -9":
            victim = random.choice(self.workers)  # noqa: S311 -- no secret
            self.workers.remove(victim)
            victim.kill()
            self.hire()
        else:
            self.registry.cut_workers()


async def strike(way: Way, times: int, rows: int, folder: Path) -> Finding:
    """Strike so many times, then see whether anything was lost."""
    losses = Losses()
    with RegistryServer() as registry, RedisServer() as steady, RedisServer() as turning:
        await fill(
            registry.url(),
            Rows("steady", "redis", steady.url(), rows // 2),
            Rows("turning", "redis", turning.url(), rows - rows // 2),
        )
        async with watching(Witness()) as witness:
            crew = Crew(registry, folder, witness, way, [])
            crew.hire()
            crew.hire()
            try:
                overdue = await _storm(crew, turning, times)
                status = "healthy" if turning.running else "unhealthy"
                figures = await _calm(registry, status, losses)
            finally:
                for worker in crew.workers:
                    worker.stop()
        _compare(witness, await _changes(registry), losses)
    losses.expect(
        f"no row was overdue for a lease ({overdue:.1f} s)", holds=overdue < LEASE_SECONDS
    )
    figures["most overdue while struck"] = overdue
    return Finding(f"{way}, {times} times, {rows} rows", figures, losses.found)


async def _storm(crew: Crew, turning: RedisServer, times: int) -> float:
    """Strike; return how long a row was overdue at most."""
    overdue = 0.0
    await reached(crew.are_busy, START_SECONDS)
    await asyncio.sleep(INTERVAL_SECONDS)
    for number in range(1, times + 1):
        await reached(crew.are_busy, START_SECONDS)
        await asyncio.sleep(random.uniform(0.2, 1.8))  # noqa: S311 -- no secret
        crew.strike()
        if number % TURN == 0:
            (turning.stop if turning.running else turning.start)()
        (row,) = await fetch(crew.registry.url(), OVERDUE)
        overdue = max(overdue, row["seconds"])
    return overdue


async def _calm(registry: RegistryServer, status: str, losses: Losses) -> dict[str, float]:
    """Wait for what was promised, each for as long as promised; return how long it took."""
    (row,) = await fetch(registry.url(), "select now() as time")

    async def none_behind() -> bool:
        return not await _count(registry, BEHIND, row["time"])

    async def none_wrong() -> bool:
        return not await _count(registry, WRONG, status)

    async def all_told() -> bool:
        return not await fetch(registry.url(), UNTOLD)

    began = time.monotonic()
    within = LEASE_SECONDS + 1.5 * INTERVAL_SECONDS + DEADLINE_SECONDS
    seen = await reached(none_behind, within)
    losses.expect("no row waits longer than a lease", holds=seen is not None)
    right = await reached(none_wrong, INTERVAL_SECONDS)
    losses.expect("no status is wrong afterwards", holds=right is not None)
    told = await reached(all_told, ANNOUNCE_SECONDS)
    losses.expect("every change is announced", holds=told is not None)
    return {
        "until every row was checked again": seen or within,
        "until every change was told": time.monotonic() - began,
    }


async def _changes(registry: RegistryServer) -> dict[int, tuple[str, str]]:
    """Read which database every change was of, and to what."""
    rows = await fetch(
        registry.url(),
        "select change_id, database_id, to_status from platform.database_health_changes",
    )
    return {row["change_id"]: (str(row["database_id"]), row["to_status"]) for row in rows}


async def _count(registry: RegistryServer, statement: str, argument: object) -> int:
    (row,) = await fetch(registry.url(), statement, argument)
    return int(row[0])


def _compare(witness: Witness, changes: Mapping[int, tuple[str, str]], losses: Losses) -> None:
    """Every change of the registry is in some log, and what is in a log happened.

    What was told while the registry could not be used has no number, and is not told again.
    """
    lines = witness.events("database_health_changed")
    told = {line["change_id"] for line in lines if line["recorded"]}
    early = Counter((line["database_id"], line["status"]) for line in lines if not line["recorded"])
    missing = Counter(what for number, what in changes.items() if number not in told) - early
    losses.expect(
        f"every change is in a log ({missing.total()} are not)", holds=not missing.total()
    )
    made_up = told - changes.keys()
    losses.expect(f"no log tells of what did not happen ({made_up})", holds=not made_up)
