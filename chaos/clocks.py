"""The clock of the worker's or of the registry's machine is set, an hour forwards or back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from chaos.finding import Finding, Losses
from chaos.ground import INTERVAL_SECONDS, Rows, Witness, fetch, fill, longest, settled, watching
from testbed.faketime import FakeClock
from testbed.postgresql import PostgreSQLOptions
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.worker import Worker

Whose = Literal["worker", "registry"]
HOUR_SECONDS = 3600
ROUNDS = 3
SLACK_SECONDS = 2.0
"""Two ticks."""
FUTURE = (
    "select count(*) from platform.databases where last_health_check_at > now() + interval '1 min'"
)


async def jump(whose: Whose, hours: int, rows: int, folder: Path) -> Finding:
    """Set one clock while rows are checked, and see whether they go on evenly."""
    losses = Losses()
    with ExitStack() as stack:
        clock = FakeClock(Path(stack.enter_context(TemporaryDirectory(prefix="clock-"))))
        settings = {"synchronous_commit": "on"}
        options = PostgreSQLOptions(
            settings=settings, environment=clock.environment if whose == "registry" else {}
        )
        registry = stack.enter_context(RegistryServer(options))
        target = stack.enter_context(RedisServer())
        await fill(registry.url(), Rows("steady", "redis", target.url(), rows))
        worker = stack.enter_context(
            Worker(
                registry.worker_url,
                folder,
                **(clock.environment if whose == "worker" else {}),
            )
        )
        async with watching(Witness()) as witness:
            witness.follow(worker)
            await settled(witness, rows)
            clock.set(hours * HOUR_SECONDS)
            jumped = time.monotonic()
            await asyncio.sleep(ROUNDS * INTERVAL_SECONDS)
            end = time.monotonic()
        figures = _judge(witness, rows, (jumped, end), losses)
        future = await fetch(registry.url(), FUTURE)
        losses.expect("no check lies in the future", holds=future[0][0] == 0)
        code = worker.stop()
        losses.expect("the worker lives and ends with 0", holds=code == 0)
    direction = "forwards" if hours > 0 else "back"
    return Finding(f"the {whose}'s clock {abs(hours)} h {direction}", figures, losses.found)


def _judge(
    witness: Witness, rows: int, span: tuple[float, float], losses: Losses
) -> dict[str, float]:
    """Starved means later than one and a half intervals, stormed twice as often as asked for."""
    gaps = witness.gaps(*span)
    losses.expect(f"every row is checked after the jump ({len(gaps)})", holds=len(gaps) == rows)
    gap = longest(gaps.values())
    starved = 1.5 * INTERVAL_SECONDS + SLACK_SECONDS
    losses.expect(f"no row is starved (one for {gap:.1f} s)", holds=gap <= starved)
    checks = [check for check in witness.checks if span[0] <= check.moment <= span[1]]
    often = max(Counter(check.database_id for check in checks).values(), default=0)
    losses.expect(f"no row is checked too often ({often} times)", holds=often <= ROUNDS + 2)
    peak = max(Counter(int(check.logged) for check in checks).values(), default=0)
    even = rows / INTERVAL_SECONDS
    losses.expect(f"no second sees a storm ({peak} checks)", holds=peak <= 4 * even)
    bad = [check for check in checks if check.reason != "ok"]
    losses.expect(f"no status is wrong ({len(bad)})", holds=not bad)
    errors = [event["message"] for event in witness.told if event["level"] == "error"]
    losses.expect(f"no error is logged: {errors[:1]}", holds=not errors)
    return {
        "longest gap": gap,
        "checks of one row": often,
        "checks in one second": peak,
        "evenly spread": even,
    }
