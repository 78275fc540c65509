"""The rungs between the floor and a check: the probe without some of what it does.

Only ever used in a process of its own: it takes parts of the worker's away.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Literal, Self
from uuid import UUID

from worker.check import Checker
from worker.model import Identity, Lease, RawRow
from worker.network import Network
from worker.plan import Host
from worker.ports import Probe
from worker.stopwatch import Stopwatch
from worker.words import Engine, Status

Rung = Literal["spoken", "addressed", "phased"]
"""Bare words; with address rules; and with phases. Bounds in time make it whole."""
_NOTHING = nullcontext()


class _Forever:
    """A bound in time that is none."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def reschedule(self, _: float | None) -> None:
        """Do nothing."""


_FOREVER = _Forever()


def strip(rung: Rung) -> None:
    """Take away all that lies above this rung."""
    parts: Any = asyncio
    parts.timeout = lambda _: _FOREVER
    if rung == "phased":
        return
    parts = Stopwatch
    parts.__call__ = lambda _, __: _NOTHING
    if rung == "spoken":
        parts = Network
        parts._addresses = _addresses  # noqa: SLF001 -- it has no seam there


async def _addresses(_: Network, host: Host) -> tuple[Any, ...]:
    return (ip_address(host.name),)


class Check:
    """One row checked over and over: target, an attempt as a task of its own, result."""

    def __init__(self, engine: Engine, url: str, probe: Probe[Any]) -> None:
        now = datetime.now(UTC)
        self._checker = Checker(
            {engine: probe}, lambda *_, **__: None, deadline=30, default_interval=60
        )
        self._row = RawRow(
            identity=Identity(UUID(int=1), UUID(int=2), "bench", engine),
            connection_string=url,
            is_decrypted=True,
            config=json.dumps({"healthCheck": {"intervalSeconds": 30}}),
            ssl_enabled=False,
            lease=Lease(1, now, now, now, time.monotonic()),
            status=Status.HEALTHY,
            last_reason=None,
        )

    async def ask(self) -> None:
        """Check it; anything but an answer is a fault of the benchmark."""
        result = await self._checker.check(self._row)
        if result.latency is None:
            raise ValueError(f"the check ends with {result.error}")
