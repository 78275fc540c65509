"""How the tests ask a MongoDB: in our own words, through PyMongo, through motor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlencode

import psutil
import pytest

from worker.connection import split
from worker.errors import ProbeError
from worker.model import Reason
from worker.network import AddressRules, Network
from worker.ports import Probe
from worker.probes.drivers.mongodb import MongoDBDriverProbe
from worker.probes.mongodb import MongoDBProbe
from worker.probes.mongodb_plan import MongoDBPlan

KINDS = ("wire", "pymongo", "motor")
every_kind = pytest.mark.parametrize("kind", KINDS)
# PyMongo leaves a socket that could not connect to the garbage collection.
leaves_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
QUICK: Mapping[str, object] = {"serverSelectionTimeoutMS": 700}
"""Drivers use up the whole time where they find no server."""
PATIENCE = 2.0
"""Seconds within which nothing of a check may be left."""


class Outcome(NamedTuple):
    """What came of asking."""

    reason: Reason
    text: str = ""


def make_probe(kind: str) -> Probe[MongoDBPlan]:
    match kind:
        case "pymongo":
            return MongoDBDriverProbe("pymongo")
        case "motor":
            return MongoDBDriverProbe("motor")
        case _:
            return MongoDBProbe(Network(AddressRules.allow_everything()))


async def ask(
    kind: str,
    url: str,
    config: Mapping[str, object] | None = None,
    *,
    probe: Probe[MongoDBPlan] | None = None,
) -> Outcome:
    """Ask within the plan's time and half a second, and see that nothing is left of it."""
    probe = probe or make_probe(kind)
    async with nothing_left():
        try:
            plan = probe.plan(split(url), config or {}, ssl_enabled=False)
            async with asyncio.timeout(plan.attempt_timeout + 0.5):
                await probe.ask(plan)
        except ProbeError as error:
            return Outcome(error.reason, error.text)
        return Outcome(Reason.OK)


def with_options(url: str, **options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(options)}"


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fail when tasks, connections or a driver's threads outlive what runs within."""
    before = _belongings()
    yield
    end = asyncio.get_running_loop().time() + PATIENCE
    while left := _belongings() - before:
        assert asyncio.get_running_loop().time() < end, f"left behind: {left}"
        await asyncio.sleep(0.01)


def _belongings() -> set[object]:
    ends = {
        (each.laddr.port, each.raddr.port)
        for each in psutil.Process().net_connections("tcp")
        if each.raddr and each.status not in {"TIME_WAIT", "NONE"}
    }
    # Threads of a pool wait for their next work; those that watch servers belong to a client.
    threads = {each.name for each in threading.enumerate() if "pymongo" in each.name}
    return {*ends, *threads, *asyncio.all_tasks()}
