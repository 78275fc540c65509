"""What a check costs, side by side in one run: one table, and the same as JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import single, startup, whole_path
from bench.servers import fleet, registry
from bench.table import Report
from worker.model import Engine


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    arguments = parser.parse_args()
    report = Report()
    with fleet() as servers, registry() as databases:
        report.add(*startup.measure(databases, servers))
        for engine in Engine:
            single.measure(servers, engine, report)
        for engine in Engine:
            whole_path.measure(servers, databases, engine, report)
    report.write(arguments.json)
    print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
