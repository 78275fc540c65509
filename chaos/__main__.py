"""Runs every scenario, or those named, and prints what was lost; exits 1 when anything was."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chaos.callers import callers
from chaos.clocks import jump
from chaos.crowd import Scale, crowd, endless, holding_out
from chaos.endurance import endurance
from chaos.finding import Finding, markdown, print_table
from chaos.outages import outage, stuck
from chaos.strikes import strike
from testbed.outage import WAYS

BUILD = Path(__file__).parent.parent / "build"
Scenario = Callable[[Path], Coroutine[Any, Any, Finding]]

SCENARIOS: Mapping[str, Sequence[Scenario]] = {
    "outage": [
        *(lambda folder, way=way: outage(way, 100, 150, folder) for way in WAYS),
        stuck,
    ],
    "kill": [lambda folder: strike("kill -9", 100, 600, folder)],
    "cut": [lambda folder: strike("connections cut", 100, 600, folder)],
    "clock": [
        lambda folder: jump("worker", 1, 100, folder),
        lambda folder: jump("worker", -1, 100, folder),
        lambda folder: jump("registry", 1, 100, folder),
        lambda folder: jump("registry", -1, 100, folder),
    ],
    "crowd": [
        lambda folder: crowd(Scale(), folder),
        lambda folder: crowd(Scale(), folder, holding_out),
    ],
    "endless": [lambda folder: endless(50, 60, folder)],
    "callers": [lambda folder: callers(1000, 500, folder)],
    "endurance": [lambda folder: endurance(100_000, 2_400, folder)],
}
"""By name; what one name holds runs side by side, the names one after another."""


def run(scenario: Scenario) -> Finding:
    """Run one scenario in this thread, its logs in a folder of their own."""
    with TemporaryDirectory(prefix="chaos-") as folder:
        return asyncio.run(scenario(Path(folder)))


def _latest() -> list[Finding]:
    """Read what each name found when it was run last."""
    paths = [BUILD / f"chaos-{name}.json" for name in SCENARIOS]
    return [Finding(**each) for p in paths if p.exists() for each in json.loads(p.read_text())]


def main(names: Sequence[str]) -> int:
    """Run what is named, else everything; write the findings as JSON, too."""
    findings: list[Finding] = []
    for name in names or SCENARIOS:
        print(f"{name} ...", flush=True)
        with ThreadPoolExecutor(len(SCENARIOS[name])) as pool:
            found = list(pool.map(run, SCENARIOS[name]))
        print_table(found)
        findings += found
        BUILD.mkdir(exist_ok=True)
        (BUILD / f"chaos-{name}.json").write_text(json.dumps([asdict(f) for f in found], indent=2))
    if len(names) != 1:
        print_table(findings)
    (BUILD / "chaos.md").write_text(markdown(_latest()))
    return int(any(finding.lost for finding in findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
