"""One check of one server: our probe, the floor, the libraries, the peers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from bench import aims, peers
from bench.servers import Fleet
from bench.subject import Figures, Order, Way, best
from bench.table import Report, Row
from worker.words import Engine

ROUNDS = 5
PACE = 300.0
"""Checks a second, as those of the whole path at its pace."""
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
    "addressed": "floor to probe, address rules",
    "phased": "floor to probe, phases timed",
    "wire": "floor to probe, bounds in time",
    "check": "probe to check: target, attempt as a task, result",
}
KEY = "a key derived from a password, by the server's default"
"""Once in a process for each account; the benchmark's rows share one, and have next to none."""
ITERATIONS = {Engine.MONGODB: 15_000, Engine.POSTGRESQL: 4_096}
LIBRARIES: Mapping[Engine, Mapping[Way, str]] = {
    Engine.REDIS: {"drivers": "redis-py, its Connection", "client": "redis-py, its client"},
    Engine.MONGODB: {"drivers": "PyMongo", "motor": "motor"},
    Engine.POSTGRESQL: {"drivers": "asyncpg"},
}


def measure(servers: Fleet, engine: Engine, report: Report) -> None:
    """Measure every way of asking one engine's server."""
    url = servers.urls[engine]
    rungs = _climb(engine, url)
    floor = best(rungs["floor"])

    def add(name: str, figures: Figures, aim: float | None = None) -> None:
        note = f"{figures.cpu_us / floor.cpu_us:.1f} x floor, {1e6 / figures.wall_us:,.0f} a second"
        if aim is not None:
            note = f"{note}, {aims.here(report, engine, aim)}"
        report.add(Row(f"{engine}: {name}", figures.cpu_us, "us CPU", aim, note))

    add(aims.FLOOR, floor)
    add("wire probe", best(rungs["wire"]), AIMS[engine])
    add(aims.FLOOR_AT_ITS_PACE, _ask(_order("floor", engine, url, {}, pace=PACE)))
    probe = _ask(_order("wire", engine, url, {}, pace=PACE)).cpu_us
    note = aims.of_the_paced_floor(report, engine, probe)
    report.add(Row(f"{engine}: wire probe, at its pace", probe, "us CPU", note=note))
    for (_, below), (way, reached) in pairwise(rungs.items()):
        report.add(Row(f"{engine}: {RUNGS[way]}", _height(below, reached), "us CPU"))
    tls = {"tls": {"ca": servers.authority}}
    add("wire probe, TLS", _ask(_order("wire", engine, servers.tls_urls[engine], tls)))
    for way, name in LIBRARIES[engine].items():
        add(name, _ask(_order(way, engine, url, {})))
    if node := peers.node_driver(_order("client", engine, url, {}), report):
        add(f"Node's {peers.NODE_PACKAGES[engine]}", best(node))
    if engine is Engine.REDIS:
        for name, figures in peers.exporters(url, report):
            add(name, figures)
    else:
        report.add(Row(f"{engine}: {KEY}", _derive(ITERATIONS[engine]), "us CPU"))


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
    return best([Figures(*figures) for figures in json.loads(done.stdout)])


def _order(
    way: Way,
    engine: Engine,
    url: str,
    config: Mapping[str, Any],
    rounds: int = ROUNDS,
    pace: float | None = None,
) -> Order:
    return Order(
        way=way,
        engine=engine,
        url=url,
        config=dict(config),
        rounds=rounds,
        checks=CHECKS[way],
        pace=pace,
    )


def _derive(iterations: int) -> float:
    """CPU microseconds of what SCRAM-SHA-256 makes of a password that it meets first."""
    spent: list[float] = []
    for _ in range(ROUNDS):
        before = time.process_time()
        hashlib.pbkdf2_hmac("sha256", b"secret", bytes(28), iterations)
        spent.append(time.process_time() - before)
    return min(spent) * 1e6
