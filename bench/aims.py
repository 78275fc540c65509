"""What the aims mean here: they were set on another machine, whose floors are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.table import Report
from worker.words import Engine

FLOOR = "floor"
FLOOR_AT_ITS_PACE = "floor, at its pace"
PLANNED_FLOOR = {Engine.REDIS: 56.0, Engine.MONGODB: 188.0}
"""CPU microseconds of the floor where the aims were set."""


def here(report: Report, engine: Engine, aim: float) -> str:
    """Say what an aim comes to on this machine, by its floor; PostgreSQL goes by Redis'."""
    return of_a_mix(report, {engine: 1.0}, aim)


def of_a_mix(report: Report, shares: Mapping[Engine, float], aim: float) -> str:
    """Say the same of an aim for a fleet of several engines."""
    measured = {row.what: row.value for row in report.rows}
    floors = [
        (share * measured.get(f"{yardstick}: {FLOOR}", math.nan), share * PLANNED_FLOOR[yardstick])
        for engine, share in shares.items()
        for yardstick in [engine if engine in PLANNED_FLOOR else Engine.REDIS]
    ]
    ratio = sum(ours for ours, _ in floors) / sum(theirs for _, theirs in floors)
    return "" if math.isnan(ratio) else f"aim by the floor {aim * ratio:,.0f}"


def of_the_paced_floor(report: Report, engine: Engine, us: float) -> str:
    """Say how much of the floor something is that is measured at its pace, as that floor was."""
    floors = [row.value for row in report.rows if row.what == f"{engine}: {FLOOR_AT_ITS_PACE}"]
    return f"{us / floors[0]:.1f} x floor at its pace" if floors else ""
