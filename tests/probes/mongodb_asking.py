"""How the tests ask a MongoDB: in our own words, through PyMongo, through motor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from worker.connection import split
from worker.errors import ProbeError
from worker.network import AddressRules, Network
from worker.plan import Config
from worker.ports import Probe
from worker.probes.drivers.mongodb import MongoDBDriverProbe
from worker.probes.mongodb import MongoDBProbe
from worker.probes.mongodb_plan import MongoDBPlan
from worker.words import Reason

KINDS = ("wire", "pymongo", "motor")
every_kind = pytest.mark.parametrize("kind", KINDS)
QUICK: Mapping[str, object] = {"serverSelectionTimeoutMS": 700}
"""Drivers use up the whole time where they find no server."""


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


async def ask(kind: str, url: str, config: Mapping[str, object] | None = None) -> Outcome:
    """Ask once, within the plan's time and half a second."""
    probe = make_probe(kind)
    try:
        plan = probe.plan(split(url), Config(config or {}), ssl_enabled=False)
        async with asyncio.timeout(plan.attempt_timeout + 0.5):
            await probe.ask(plan)
    except ProbeError as error:
        return Outcome(error.reason, error.text)
    return Outcome(Reason.OK)
