"""What the aims mean here: they were set on another machine, whose floors are known."""

from __future__ import annotations

from bench.table import Report
from worker.model import Engine

PLANNED_FLOOR = {Engine.REDIS: 56.0, Engine.MONGODB: 188.0}
"""CPU microseconds of the floor where the aims were set."""


def here(report: Report, engine: Engine, aim: float) -> str:
    """Say what an aim comes to on this machine, by its floor; PostgreSQL goes by Redis'."""
    yardstick = engine if engine in PLANNED_FLOOR else Engine.REDIS
    floors = [row.value for row in report.rows if row.what == f"{yardstick}: floor"]
    if not floors:
        return ""
    return f"aim by the floor {aim * floors[0] / PLANNED_FLOOR[yardstick]:,.0f}"
