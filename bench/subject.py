"""One way of asking one server, measured in a process of its own.

Reads its order as JSON from stdin, prints the figures as JSON on stdout.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, NamedTuple, TypedDict

from bench.floor import Floor, Tapped
from bench.rungs import Check, strip
from worker import connection, probes
from worker.addresses import AddressRules
from worker.app import run_loop
from worker.network import Network
from worker.plan import Config
from worker.words import Engine

Ask = Callable[[], Awaitable[object]]
Way = Literal[
    "wire", "floor", "spoken", "addressed", "phased", "check", "drivers", "motor", "client"
]
AT_ONCE = 20
WARM_UP = 50


class Order(TypedDict):
    """What to measure."""

    way: Way
    engine: str
    url: str
    config: dict[str, Any]
    rounds: int
    checks: int
    """In one round."""
    pace: float | None
    """Checks a second, each at a time of its own; None: one after the other, some at once."""


class Figures(NamedTuple):
    """What one round cost."""

    cpu_us: float
    """User and system time of the process, per check."""
    wall_us: float


def best(rounds: Iterable[Figures]) -> Figures:
    """Take the cheapest round: whatever else runs on the machine only adds."""
    return min(rounds, key=lambda figures: figures.cpu_us)


async def ask_way(order: Order) -> Ask:
    """Make the way of asking that the order names."""
    engine = Engine(order["engine"])
    if order["way"] == "client":
        return lambda: _redis_client(order["url"])
    network = Tapped() if order["way"] == "floor" else Network(AddressRules.allow_everything())
    kind: Literal["wire", "drivers"] = "drivers" if order["way"] in {"drivers", "motor"} else "wire"
    driver: Literal["pymongo", "motor"] = "motor" if order["way"] == "motor" else "pymongo"
    probe = probes.table(kind, driver, network)[engine]
    plan = probe.plan(connection.split(order["url"]), Config(order["config"]), ssl_enabled=False)
    await probe.ask(plan)
    if order["way"] == "check":
        return Check(engine, order["url"], probe).ask
    if order["way"] in {"spoken", "addressed", "phased"}:
        strip(order["way"])
    if isinstance(network, Tapped):
        return Floor(plan, tuple(network.writes)).ask
    return lambda: probe.ask(plan)


async def _redis_client(url: str) -> None:
    import redis.asyncio  # noqa: PLC0415 -- the others must not pay for it

    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()


async def measure(order: Order) -> list[Figures]:
    """Warm up, then measure round after round."""
    ask = await ask_way(order)
    await _in_a_row(ask, WARM_UP)
    return [await _round(ask, order["checks"], order["pace"]) for _ in range(order["rounds"])]


async def _round(ask: Ask, checks: int, pace: float | None) -> Figures:
    cpu, wall = time.process_time(), time.perf_counter()
    await (_in_a_row(ask, checks) if pace is None else _paced(ask, checks, pace))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Figures(cpu / checks * 1e6, wall / checks * 1e6)


async def _in_a_row(ask: Ask, checks: int) -> None:
    left = iter(range(checks))

    async def one_after_the_other() -> None:
        for _ in left:
            await ask()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())


async def _paced(ask: Ask, checks: int, pace: float) -> None:
    """Start each at its due time, as a fleet's are that have drifted apart."""

    async def wait_and_ask(due_in: float) -> None:
        await asyncio.sleep(due_in)
        await ask()

    async with asyncio.TaskGroup() as group:
        for _ in range(checks):
            due_in = random.uniform(0, checks / pace)  # noqa: S311 -- no secret
            group.create_task(wait_and_ask(due_in))


if __name__ == "__main__":
    print(json.dumps(run_loop(measure(json.load(sys.stdin)))))
