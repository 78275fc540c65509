"""The registry away for longer than the watchdog's patience, in each way; and a real stuck loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError

from chaos.finding import Finding, Losses, percentile
from chaos.ground import (
    INTERVAL_SECONDS,
    Rows,
    Witness,
    fetch,
    fill,
    longest,
    reached,
    settled,
    watching,
)
from testbed.outage import Outage
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.stuck_worker import BLOCK_AFTER_SECONDS, StuckWorker
from testbed.worker import Worker

RECOVERY_SECONDS = 45.0
"""The longest back-off, then a round of checks."""
ALIVE_SECONDS = 30.0
STUCK_SECONDS = 120.0
BEHIND = (
    "select count(*) from platform.databases where coalesce(last_health_check_at, '-infinity') < $1"
)
UNTOLD = "select count(*) from platform.database_health_changes where announced_at is null"


async def outage(way: str, rows: int, seconds: float, folder: Path) -> Finding:
    """Take the registry away under a load, change half of the fleet meanwhile, give it back."""
    losses = Losses()
    with ExitStack() as stack:
        registry = stack.enter_context(RegistryServer())
        standby = stack.enter_context(registry.standby()) if way == "failed over" else None
        away = Outage(way, registry, standby)
        steady = stack.enter_context(RedisServer())
        falling = stack.enter_context(RedisServer())
        await fill(
            registry.url(),
            Rows("steady", "redis", steady.url(), rows // 2),
            Rows("falling", "redis", falling.url(), rows - rows // 2),
        )
        worker = stack.enter_context(Worker(registry.worker_url, folder))
        async with watching(Witness()) as witness:
            witness.follow(worker)
            await settled(witness, rows)
            began = time.monotonic()
            await asyncio.to_thread(away.begin)
            falling.stop()
            await asyncio.sleep(seconds)
            losses.expect("the worker is alive", holds=worker.process.poll() is None)
            end = time.monotonic()
            await asyncio.to_thread(away.end)
            recovery = await _recovery(away)
            await asyncio.sleep(INTERVAL_SECONDS)
        losses.expect("it recovers without a restart", holds=recovery is not None)
        losses.expect("it ends with 0", holds=worker.stop() == 0)
    figures = _judge(witness, rows, (began, end), losses)
    figures["until all was recorded"] = recovery or RECOVERY_SECONDS
    return Finding(f"registry {way} for {seconds:.0f} s", figures, losses.found)


async def _recovery(away: Outage) -> float | None:
    """Return how long it took until every row was checked again and every change was told."""
    (row,) = await fetch(away.server.url(), "select now() as time")

    async def is_over() -> bool:
        (behind,) = await fetch(away.server.url(), BEHIND, row["time"])
        (untold,) = await fetch(away.server.url(), UNTOLD)
        return not behind[0] and not untold[0]

    return await reached(is_over, RECOVERY_SECONDS)


def _judge(
    witness: Witness, rows: int, span: tuple[float, float], losses: Losses
) -> dict[str, float]:
    gaps = witness.gaps(*span)
    losses.expect(f"every row is checked on ({len(gaps)})", holds=len(gaps) == rows)
    starved = 1.5 * INTERVAL_SECONDS + ALIVE_SECONDS / 2
    gap = longest(gaps.values())
    losses.expect(f"no row is left out (one for {gap:.1f} s)", holds=gap <= starved)
    lines = len(witness.events("registry_unreachable"))
    allowed = 1 + (span[1] - span[0]) // 60 + 1
    losses.expect(f"one error line, then one a minute ({lines})", holds=0 < lines <= allowed)
    told = [e["database_id"] for e in witness.events("database_health_changed")]
    fell = rows - rows // 2
    losses.expect(f"every change is told once ({len(told)} lines)", holds=len(told) == rows + fell)
    failed = len(witness.events("tick_failed"))
    losses.expect(f"no tick fails ({failed})", holds=not failed)
    late = [check.lateness for check in witness.checks if span[0] <= check.moment <= span[1]]
    return {"longest gap": gap, "lateness p99": percentile(late, 99), "error lines": lines}


async def stuck(folder: Path) -> Finding:
    """Block the main loop for good; nothing is shortened."""
    losses = Losses()
    with RegistryServer() as registry, StuckWorker(registry.worker_url, folder) as worker:

        async def answers() -> bool:
            return _code(worker) == HTTPStatus.OK

        async def is_unhealthy() -> bool:
            return _code(worker) == HTTPStatus.SERVICE_UNAVAILABLE

        async def has_ended() -> bool:
            return worker.process.poll() is not None

        await reached(answers, ALIVE_SECONDS)
        await asyncio.sleep(BLOCK_AFTER_SECONDS)
        unhealthy = await reached(is_unhealthy, ALIVE_SECONDS + 5)
        losses.expect("/healthz turns 503 after half a minute", holds=unhealthy is not None)
        ended = await reached(has_ended, STUCK_SECONDS - ALIVE_SECONDS + 5)
        losses.expect("it ends itself after two minutes", holds=ended is not None)
        losses.expect("its exit code is 1", holds=worker.process.poll() == 1)
    figures = {"until 503": unhealthy or 0.0, "until its end": (unhealthy or 0) + (ended or 0)}
    return Finding("main loop blocked", figures, losses.found)


def _code(worker: Worker) -> int:
    try:
        worker.page("/healthz")
    except HTTPError as error:
        return error.code
    except OSError:
        return 0
    return 200
