"""Very many checks of a mixed and failing fleet, and what they leave behind in the process."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaos.finding import Finding, Losses
from chaos.ground import ONE_ATTEMPT, START_SECONDS, Rows, fill, reached
from testbed.counting_worker import CountingWorker
from testbed.misbehaving import MisbehavingServer, babbling, hang_up, mute, reset, saying
from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.ports import free_port
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer
from testbed.registry import RegistryServer

WARM_CHECKS = 5_000
WINDOW_SECONDS = 10.0
GROWTH_BOUND = 0.05
FEW = 3
"""A difference of so many descriptors or tasks is what is just on its way."""
QUICK = {**ONE_ATTEMPT, "connectTimeout": 300, "commandTimeout": 300}
_IDLE = "\ndatabase_health_checks_in_flight 0.0"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds at rest: the least or the usual of a window."""

    descriptors: float
    threads: float
    tasks: float
    memory: float
    """MB."""


async def endurance(checks: int, rows: int, folder: Path) -> Finding:
    """Make so many checks as fast as the shortest interval lets them go."""
    losses = Losses()
    with ExitStack() as stack:
        registry = stack.enter_context(RegistryServer())
        await fill(registry.url(), *stack.enter_context(_mixed(rows)))
        environment = {"LOG_LEVEL": "warn", "MAX_CONCURRENT_CHECKS": "400"}
        worker = stack.enter_context(CountingWorker(registry.worker_url, folder, **environment))
        began = time.monotonic()
        await _until(worker, WARM_CHECKS // 2)
        await _at_rest(worker, registry)  # so that waking the whole fleet at once is not new later
        await _until(worker, WARM_CHECKS)
        early = await _at_rest(worker, registry)
        await _until(worker, checks)
        late = await _at_rest(worker, registry)
        seconds = time.monotonic() - began
        losses.expect("the worker ends with 0", holds=worker.stop() == 0)
        crashes = worker.events("check_crashed") + worker.events("tick_failed")
        said = [crash["message"] for crash in crashes]
        losses.expect(f"nothing of ours crashes ({len(said)}: {said[:1]})", holds=not said)
    figures = {"checks": checks, "seconds": seconds}
    for name in ("descriptors", "threads", "tasks", "memory"):
        before, after = getattr(early, name), getattr(late, name)
        allowed = max(before * GROWTH_BOUND, 0 if name == "memory" else FEW)
        losses.expect(
            f"{name} do not grow ({before:.0f} to {after:.0f})", holds=after - before <= allowed
        )
        figures[f"{name} after {WARM_CHECKS}"] = before
        figures[f"{name} at the end"] = after
    return Finding(f"{checks} checks of a mixed and failing fleet", figures, losses.found)


@contextmanager
def _mixed(rows: int) -> Iterator[list[Rows]]:
    """Half of the rows answer, the others fail in every quick way."""
    many = PostgreSQLOptions(settings={"max_connections": "300"})
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(RedisOptions(password="secret")))
        mongodb = stack.enter_context(MongoDBServer(MongoDBOptions(password="secret")))
        postgresql = stack.enter_context(PostgreSQLServer(many))
        odd = [
            stack.enter_context(MisbehavingServer(conversation)).port
            for conversation in (
                mute,
                hang_up,
                reset,
                babbling(b"+"),
                saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            )
        ]
        urls = [
            *(
                (engine, f"{engine}://user:word@127.0.0.1:{port}")
                for engine in ("redis", "mongodb", "postgresql")
                for port in (*odd, free_port())
            ),
            ("redis", redis.url(password="wrong")),
            ("redis", redis.url().replace("redis:", "rediss:")),
            ("postgresql", postgresql.url(database="nowhere")),
            ("mongodb", "no url at all"),
        ]
        few = rows // 2 // len(urls) + 1
        yield [
            Rows("redis", "redis", redis.url(), rows * 3 // 10),
            Rows("mongodb", "mongodb", mongodb.url(), rows // 10),
            Rows("postgresql", "postgresql", postgresql.url(), rows // 10),
            *(Rows(f"odd {n}", engine, url, few, QUICK) for n, (engine, url) in enumerate(urls)),
        ]


async def _until(worker: CountingWorker, checks: int) -> None:
    while True:
        try:
            finished = await asyncio.to_thread(worker.checks)
        except OSError:
            finished = 0.0  # it has just been started
        if finished >= checks:
            return
        await asyncio.sleep(0.5)


async def _at_rest(worker: CountingWorker, registry: RegistryServer) -> Footprint:
    """Let the fleet sleep, so that running checks do not count; wake it again."""
    registry.execute("update platform.databases set status = 'inactive'")

    async def is_idle() -> bool:
        return _IDLE in await asyncio.to_thread(worker.page, "/metrics")

    await reached(is_idle, START_SECONDS)
    footprint = await _footprint(worker)
    registry.execute("update platform.databases set status = 'active'")
    return footprint


async def _footprint(worker: CountingWorker) -> Footprint:
    process = psutil.Process(worker.process.pid)
    seen: list[tuple[int, int, int, float]] = []
    end = time.monotonic() + WINDOW_SECONDS
    while time.monotonic() < end:
        memory = process.memory_info().rss / 2**20
        seen.append((process.num_fds(), process.num_threads(), worker.tasks, memory))
        await asyncio.sleep(0.1)
    descriptors, threads, tasks, memories = zip(*seen, strict=True)
    return Footprint(min(descriptors), min(threads), min(tasks), statistics.median(memories))
