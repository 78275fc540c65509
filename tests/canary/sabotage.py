"""Breaks the worker's own code for some rows and in some ticks, as no server can."""

from __future__ import annotations

from pathlib import Path

_CODE = """
import os
from worker import dispatch
from worker.probes import redis

make_plan, ask, tick = redis.make_plan, redis.RedisProbe.ask, dispatch.Dispatcher.tick
ticks = 0

def broken_plan(connection, config, *, ssl_enabled):
    if connection.hosts[0][0] == "breaks-planning":
        raise ValueError(f"cannot take {connection.password!r} of {dict(connection.options)}")
    return make_plan(connection, config, ssl_enabled=ssl_enabled)

async def broken_ask(self, plan):
    if plan.hosts[0].name == "breaks-asking":
        try:
            raise KeyError(plan.password)
        except KeyError as error:
            raise RuntimeError(f"redis://u:{plan.password}@h failed") from error
    return await ask(self, plan)

async def broken_tick(self):
    global ticks
    ticks += 1
    if ticks == 2:
        raise RuntimeError(f"cannot use {os.environ['DATABASE_URL']}")
    await tick(self)

redis.make_plan, redis.RedisProbe.ask = broken_plan, broken_ask
dispatch.Dispatcher.tick = broken_tick
"""


def lay(folder: Path) -> dict[str, str]:
    """Write what Python runs before a program's first line, and name the variable that says so."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CODE)
    return {"PYTHONPATH": str(folder)}
