"""Bad databases beside good ones: what the good ones notice of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
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
GRAIN_SECONDS = 0.0001
"""The log tells latencies in tenths of a millisecond: of a check that takes two of them, what was
rounded away is half."""
MEMORY_BOUND_MB = 64.0
GOOD = "good"
CHECKED = (
    "select count(*) = 0 as yes from platform.database_schedules s"
    " join platform.databases d on d.id = s.database_id"
    " where s.last_reason is null"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a crowd is, and for how long one looks at it."""

    good: int = 500
    bad: int = 500
    slots: int = 200
    interval: int = 30
    deadline: int = 30
    rounds: int = 2
    percentile: int = 50
    """Whose latencies are compared: on a busy machine only the quick ones tell of the worker."""

    @property
    def config(self) -> dict[str, object]:
        """The reference document's config for Redis, at this interval."""
        return {
            "connectTimeout": 10000,
            "commandTimeout": 5000,
            "retryStrategy": {"maxAttempts": 3, "delay": 1000},
            "healthCheck": {"intervalSeconds": self.interval},
        }


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
            await asyncio.sleep(scale.rounds * scale.interval)
            end = time.monotonic()
    what = servers.__name__.replace("_", " ")
    return _compare(scale, what, *(_good_ones(witness, began, end) for witness in (alone, beside)))


def _good_ones(witness: Witness, began: float, end: float) -> Sequence[Check]:
    return [c for c in witness.checks if c.name == GOOD and began <= c.moment <= end]


def _compare(scale: Scale, what: str, alone: Sequence[Check], beside: Sequence[Check]) -> Finding:
    losses = Losses()
    late = percentile((check.lateness for check in beside), 99)
    losses.expect(f"lateness p99 under 1 s ({late:.2f} s)", holds=late < LATENESS_BOUND_SECONDS)
    latencies = [
        percentile((each.latency or 0.0 for each in seen), scale.percentile)
        for seen in (alone, beside)
    ]
    ratio = latencies[1] / latencies[0]
    most = LATENCY_RATIO_BOUND * latencies[0] + GRAIN_SECONDS
    losses.expect(f"latency as without them (x {ratio:.2f})", holds=latencies[1] < most)
    losses.expect("every good one is healthy", holds=all(check.reason == "ok" for check in beside))
    least = scale.good * scale.rounds * 0.9
    losses.expect(f"every good one is checked ({len(beside)})", holds=len(beside) >= least)
    figures = {
        "lateness p99": late,
        "lateness p99 alone": percentile((check.lateness for check in alone), 99),
        f"latency p{scale.percentile}": latencies[1],
        f"latency p{scale.percentile} alone": latencies[0],
        "ratio": ratio,
    }
    return Finding(f"{scale.bad} of {scale.good + scale.bad} targets {what}", figures, losses.found)


@asynccontextmanager
async def _fleet(scale: Scale, groups: Sequence[Rows], folder: Path) -> AsyncIterator[Witness]:
    """Lend the witness of a worker that has checked each of its rows once."""
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
                yield witness


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
