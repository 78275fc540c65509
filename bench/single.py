"""One check of one server: our probe, the floor, the libraries, the peers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from statistics import median
from typing import Any

from bench import peers
from bench.servers import Fleet
from bench.subject import Figures, Order, Way
from bench.table import Report, Row
from worker.model import Engine

ROUNDS = 5
CHECKS: Mapping[Way, int] = {
    "wire": 2000,
    "floor": 2000,
    "pymongo": 300,
    "motor": 100,
    "client": 300,
}
AIMS = {Engine.REDIS: 120.0, Engine.MONGODB: 350.0, Engine.POSTGRESQL: 350.0}
LIBRARIES: Mapping[Engine, Mapping[Way, str]] = {
    Engine.REDIS: {"pymongo": "redis-py, its Connection", "client": "redis-py, its client"},
    Engine.MONGODB: {"pymongo": "PyMongo", "motor": "motor"},
    Engine.POSTGRESQL: {"pymongo": "asyncpg"},
}


def measure(servers: Fleet, engine: Engine, report: Report) -> None:
    """Measure every way of asking one engine's server."""
    url = servers.urls[engine]
    floor = _ask("floor", engine, url)

    def add(name: str, figures: Figures, aim: float | None = None) -> None:
        note = f"{figures.cpu_us / floor.cpu_us:.1f} x floor, {1e6 / figures.wall_us:,.0f} a second"
        report.add(Row(f"{engine}: {name}", figures.cpu_us, "us CPU", aim, note))

    add("floor", floor)
    add("wire probe", _ask("wire", engine, url), AIMS[engine])
    tls = {"tls": {"ca": servers.authority}}
    add("wire probe, TLS", _ask("wire", engine, servers.tls_urls[engine], tls))
    for way, name in LIBRARIES[engine].items():
        add(name, _ask(way, engine, url))
    if node := peers.node_driver(_order("client", engine, url, {}), report):
        add(f"Node's {peers.NODE_PACKAGES[engine]}", _middle(node))
    if engine is Engine.REDIS:
        for name, figures in peers.exporters(url, report):
            add(name, figures)


def _ask(way: Way, engine: Engine, url: str, config: Mapping[str, Any] | None = None) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "bench.subject"],
        input=json.dumps(_order(way, engine, url, config or {})),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return _middle([Figures(*figures) for figures in json.loads(done.stdout)])


def _order(way: Way, engine: Engine, url: str, config: Mapping[str, Any]) -> Order:
    return Order(
        way=way,
        engine=engine,
        url=url,
        config=dict(config),
        rounds=ROUNDS,
        checks=CHECKS[way],
    )


def _middle(rounds: list[Figures]) -> Figures:
    return Figures(*(median(figures) for figures in zip(*rounds, strict=True)))
