"""What a check costs, side by side in one run: one table, and the same as JSON."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from bench import documents, single, startup, whole_path
from bench.scale import growth, million, replicas, steady
from bench.servers import Fleet, Registry, fleet, registry
from bench.table import Report
from worker.words import Engine

BUILD = Path("build")
Part = Callable[[Fleet, Registry, Report], None]


def _single(servers: Fleet, _: Registry, report: Report) -> None:
    for engine in (Engine.REDIS, Engine.MONGODB, Engine.POSTGRESQL):  # Redis' floor is a yardstick
        single.measure(servers, engine, report)


def _whole_path(servers: Fleet, databases: Registry, report: Report) -> None:
    for engine in Engine:
        whole_path.measure(servers, databases, engine, report)


CHECKS: dict[str, tuple[Part, float]] = {
    "start": (startup.measure, 0.5),
    "single": (_single, 7),
    "whole": (_whole_path, 6),
}
"""What there is to measure, and about how many minutes it takes."""
SCALE: dict[str, tuple[Part, float]] = {
    "steady": (steady.measure, 4),
    "growth": (growth.measure, 3.5),
    "replicas": (replicas.measure, 11.5),
    "million": (million.measure, 3.5),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", action="store_true", help="measure large fleets instead")
    parser.add_argument("--only", choices=[*CHECKS, *SCALE], help="measure this alone")
    parser.add_argument("--document", action="store_true", help="write the tables into docs/")
    arguments = parser.parse_args()
    if arguments.document:
        documents.write(BUILD)
        return
    is_large = arguments.scale or arguments.only in SCALE
    parts = SCALE if is_large else CHECKS
    if arguments.only:
        parts = {arguments.only: parts[arguments.only]}
    path = BUILD / (f"bench{'-scale' if is_large else ''}{'-part' if arguments.only else ''}.json")
    _measure(parts, path)


def _measure(parts: dict[str, tuple[Part, float]], path: Path) -> None:
    print(f"this takes about {sum(minutes for _, minutes in parts.values()):g} minutes")
    report = Report()
    with fleet() as servers, registry() as databases:
        for name, (measure, minutes) in parts.items():
            print(f"-- {name}, about {minutes:g} minutes")
            began = time.monotonic()
            measure(servers, databases, report)
            print(f"-- {name} took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    report.write(path)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
