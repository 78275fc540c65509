"""Bad databases beside good ones: what the good ones notice of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos.finding import Finding, Losses, percentile
from chaos.ground import Check, Rows, Witness, fetch, fill, reached, settled, watching
from testbed.misbehaving import (
    FullBacklog,
    MisbehavingServer,
    babbling,
    dripping,
    leaving_after,
    mute,
)
from testbed.ports import free_port
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.worker import Worker

LATENESS_BOUND_SECONDS = 1.0
LATENCY_RATIO_BOUND = 1.5
MEMORY_BOUND_MB = 64.0
GOOD = "good"
CHECKED = (
    "select count(*) = 0 as yes from platform.database_schedules s"
    " join platform.databases d on d.id = s.database_id"
    " where s.last_reason is null"
)
LATENCIES = (
    "select s.latency_seconds from platform.database_schedules s"
    " join platform.databases d on d.id = s.database_id"
    " where d.name like $1 || ' %' and s.latency_seconds is not null"
)
"""The registry's are not rounded; a check may take less than the log's tenth of a millisecond."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a crowd is, and for how long one looks at it."""

    good: int = 500
    bad: int = 500
    slots: int = 200
    interval: int = 30
    deadline: int = 30
    rounds: int = 2

    @property
    def config(self) -> dict[str, object]:
        """The reference document's config for Redis, at this interval."""
        return {
            "connectTimeout": 10000,
            "commandTimeout": 5000,
            "retryStrategy": {"maxAttempts": 3, "delay": 1000},
            "healthCheck": {"intervalSeconds": self.interval},
        }


@dataclass(slots=True)
class Side:
    """One of the two workers that are compared."""

    witness: Witness
    registry: str
    """Its URL."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, of each good one's last check in every round."""

    async def read(self) -> None:
        """Take the latencies of a round that has passed."""
        found = await fetch(self.registry, LATENCIES, GOOD)
        self.latencies += [row["latency_seconds"] for row in found]

    def good_ones(self, began: float, end: float) -> Sequence[Check]:
        """Tell the checks of good ones between two moments."""
        checks = self.witness.checks
        return [check for check in checks if check.name == GOOD and began <= check.moment <= end]


BadServers = Callable[[Scale], AbstractContextManager[Sequence[Rows]]]


@contextmanager
def silent_and_slow(scale: Scale) -> Iterator[Sequence[Rows]]:
    """Run servers of which the worker hears nothing, or too little, until the time is over."""
    with ExitStack() as stack:
        ports = [
            stack.enter_context(MisbehavingServer(mute)).port,
            stack.enter_context(MisbehavingServer(dripping(b"+OK"))).port,
            stack.enter_context(FullBacklog()).port,
        ]
        yield _share(scale, ports, scale.config)


@contextmanager
def holding_out(scale: Scale) -> Iterator[Sequence[Rows]]:
    """Run servers that answer, and whose rows hold their slots for most of the time all the same.

    They refuse at once, and are asked again by rows that want it so; or they close near the end.
    """
    with MisbehavingServer(leaving_after(0.8 * scale.deadline)) as server:
        retries = {"maxAttempts": 3, "delay": round(450 * scale.deadline)}
        yield _share(scale, [server.port, free_port()], {**scale.config, "retryStrategy": retries})


def _share(scale: Scale, ports: Sequence[int], config: Mapping[str, object]) -> Sequence[Rows]:
    shares = [scale.bad // len(ports) + (n < scale.bad % len(ports)) for n in range(len(ports))]
    return [
        Rows(f"bad {port}", "redis", f"redis://127.0.0.1:{port}", copies, config)
        for port, copies in zip(ports, shares, strict=True)
    ]


async def crowd(scale: Scale, folder: Path, servers: BadServers = silent_and_slow) -> Finding:
    """Compare good ones beside bad ones with the same ones alone.

    Two workers check them at the same time, so that whatever else runs here slows both alike.
    """
    with RedisServer() as server, servers(scale) as bad:
        good = Rows(GOOD, "redis", server.url(), scale.good, scale.config)
        async with (
            _fleet(scale, [good], folder) as alone,
            _fleet(scale, [good, *bad], folder) as beside,
        ):
            await asyncio.sleep(1.5 * scale.interval)
            began = time.monotonic()
            for _ in range(scale.rounds):
                await asyncio.sleep(scale.interval)
                await asyncio.gather(alone.read(), beside.read())
            return _compare(scale, servers.__name__.replace("_", " "), alone, beside, began)


def _compare(scale: Scale, what: str, alone: Side, beside: Side, began: float) -> Finding:
    losses = Losses()
    end = time.monotonic()
    good_alone, good_beside = (side.good_ones(began, end) for side in (alone, beside))
    late = percentile((check.lateness for check in good_beside), 99)
    losses.expect(f"lateness p99 under 1 s ({late:.2f} s)", holds=late < LATENESS_BOUND_SECONDS)
    before, now = (percentile(side.latencies, 50) for side in (alone, beside))
    ratio = now / before
    losses.expect(f"latency as without them (x {ratio:.2f})", holds=ratio < LATENCY_RATIO_BOUND)
    is_healthy = all(check.reason == "ok" for check in good_beside)
    losses.expect("every good one is healthy", holds=is_healthy)
    least = scale.good * scale.rounds * 0.9
    losses.expect(
        f"every good one is checked ({len(good_beside)})", holds=len(good_beside) >= least
    )
    figures = {
        "lateness p99": late,
        "lateness p99 alone": percentile((check.lateness for check in good_alone), 99),
        "latency p50": now,
        "latency p50 alone": before,
        "ratio": ratio,
    }
    return Finding(f"{scale.bad} of {scale.good + scale.bad} targets {what}", figures, losses.found)


@asynccontextmanager
async def _fleet(scale: Scale, groups: Sequence[Rows], folder: Path) -> AsyncIterator[Side]:
    """Lend a worker that has checked each of its rows once."""
    environment = {
        "MAX_CONCURRENT_CHECKS": str(scale.slots),
        "CHECK_DEADLINE_SECONDS": str(scale.deadline),
    }
    with RegistryServer() as registry:
        await fill(registry.url(), *groups)
        with Worker(registry.worker_url, folder, **environment) as worker:

            async def all_checked() -> bool:
                return bool((await fetch(registry.url(), CHECKED))[0]["yes"])

            async with watching(Witness()) as witness:
                witness.follow(worker)
                waves = 1 + (scale.good + scale.bad) // scale.slots
                await reached(all_checked, 2 * waves * scale.deadline)
                yield Side(witness, registry.url())


async def endless(targets: int, seconds: float, folder: Path) -> Finding:
    """Let targets send without end, and look at the worker's memory while they do."""
    losses = Losses()
    scale = Scale(interval=5)
    floods = {"redis": b"+", "postgresql": b"R\x00\x00\xff\x00", "mongodb": b"\xff"}
    with ExitStack() as stack:
        registry = stack.enter_context(RegistryServer())
        server = stack.enter_context(RedisServer())
        await fill(registry.url(), Rows(GOOD, "redis", server.url(), targets, scale.config))
        worker = stack.enter_context(Worker(registry.worker_url, folder))
        async with watching(Witness()) as witness:
            witness.follow(worker)
            await settled(witness, targets)
            process = psutil.Process(worker.process.pid)
            before = process.memory_info().rss
            for engine, words in floods.items():
                flood = stack.enter_context(MisbehavingServer(babbling(words)))
                url = f"{engine}://user:word@127.0.0.1:{flood.port}"
                copies = targets // len(floods) + 1
                await fill(registry.url(), Rows("endless", engine, url, copies, scale.config))
            began, peak = time.monotonic(), before
            while time.monotonic() - began < seconds:
                peak = max(peak, process.memory_info().rss)
                await asyncio.sleep(0.05)
    growth = (peak - before) / 2**20
    losses.expect(f"memory grows by at most 64 MB ({growth:.0f})", holds=growth <= MEMORY_BOUND_MB)
    seen = [check for check in witness.checks if check.moment > began]
    late = percentile((check.lateness for check in seen if check.name == GOOD), 99)
    losses.expect(f"nobody is delayed ({late:.2f} s)", holds=late < LATENESS_BOUND_SECONDS)
    count = sum(check.name == "endless" for check in seen)
    losses.expect("the endless ones are checked", holds=count >= targets)
    figures = {"memory growth in MB": growth, "lateness p99": late, "endless checks": count}
    return Finding(f"{targets} targets that send without end", figures, losses.found)
