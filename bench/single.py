"""One check of one server: our probe, the floor, the libraries, the peers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from bench import aims, peers
from bench.servers import Fleet
from bench.subject import Figures, Order, Way
from bench.table import Report, Row
from worker.model import Engine

ROUNDS = 5
CHECKS: Mapping[Way, int] = {
    "wire": 1000,
    "floor": 1000,
    "spoken": 1000,
    "addressed": 1000,
    "phased": 1000,
    "check": 1000,
    "drivers": 300,
    "motor": 100,
    "client": 300,
}
AIMS = {Engine.REDIS: 120.0, Engine.MONGODB: 350.0, Engine.POSTGRESQL: 350.0}
RUNGS: Mapping[Way, str] = {
    "spoken": "floor to probe, bounded reads, answers checked",
    "addressed": "floor to probe, look-up and address rules",
    "phased": "floor to probe, phases timed",
    "wire": "floor to probe, bounds in time",
    "check": "probe to check: target, attempt as a task, result",
}
LIBRARIES: Mapping[Engine, Mapping[Way, str]] = {
    Engine.REDIS: {"drivers": "redis-py, its Connection", "client": "redis-py, its client"},
    Engine.MONGODB: {"drivers": "PyMongo", "motor": "motor"},
    Engine.POSTGRESQL: {"drivers": "asyncpg"},
}


def measure(servers: Fleet, engine: Engine, report: Report) -> None:
    """Measure every way of asking one engine's server."""
    url = servers.urls[engine]
    rungs = _climb(engine, url)
    floor = _least(rungs["floor"])

    def add(name: str, figures: Figures, aim: float | None = None) -> None:
        note = f"{figures.cpu_us / floor.cpu_us:.1f} x floor, {1e6 / figures.wall_us:,.0f} a second"
        if aim is not None:
            note = f"{note}, {aims.here(report, engine, aim)}"
        report.add(Row(f"{engine}: {name}", figures.cpu_us, "us CPU", aim, note))

    add("floor", floor)
    add("wire probe", _least(rungs["wire"]), AIMS[engine])
    for (_, below), (way, reached) in pairwise(rungs.items()):
        report.add(Row(f"{engine}: {RUNGS[way]}", _height(below, reached), "us CPU"))
    tls = {"tls": {"ca": servers.authority}}
    add("wire probe, TLS", _ask(_order("wire", engine, servers.tls_urls[engine], tls)))
    for way, name in LIBRARIES[engine].items():
        add(name, _ask(_order(way, engine, url, {})))
    if node := peers.node_driver(_order("client", engine, url, {}), report):
        add(f"Node's {peers.NODE_PACKAGES[engine]}", _least(node))
    if engine is Engine.REDIS:
        for name, figures in peers.exporters(url, report):
            add(name, figures)


def measure_floors(servers: Fleet, report: Report) -> None:
    """Measure this machine by the engines whose floors are known where the aims were set."""
    for engine in aims.PLANNED_FLOOR:
        floor = _ask(_order("floor", engine, servers.urls[engine], {}))
        report.add(Row(f"{engine}: floor", floor.cpu_us, "us CPU"))


def _climb(engine: Engine, url: str) -> Mapping[Way, list[Figures]]:
    """Measure the floor and each rung above it, in turns: they are told by their differences."""
    rounds: dict[Way, list[Figures]] = {way: [] for way in ("floor", *RUNGS)}
    for _ in range(ROUNDS):
        for way, measured in rounds.items():
            measured.append(_ask(_order(way, engine, url, {}, rounds=1)))
    return rounds


def _height(below: list[Figures], reached: list[Figures]) -> float:
    """Tell two rungs apart by the middle one of the differences within each turn."""
    return median(high.cpu_us - low.cpu_us for low, high in zip(below, reached, strict=True))


def _ask(order: Order) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "bench.subject"],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return _least([Figures(*figures) for figures in json.loads(done.stdout)])


def _order(
    way: Way, engine: Engine, url: str, config: Mapping[str, Any], rounds: int = ROUNDS
) -> Order:
    return Order(
        way=way,
        engine=engine,
        url=url,
        config=dict(config),
        rounds=rounds,
        checks=CHECKS[way],
    )


def _least(rounds: list[Figures]) -> Figures:
    """Take the best round: whatever else runs on the machine only adds."""
    return Figures(*(min(figures) for figures in zip(*rounds, strict=True)))
