"""Writes the measured tables into docs/performance.md, so that no figure there is typed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.scale.fleets import SHARES
from bench.scale.million import BATCH, WHAT
from bench.single import ITERATIONS, KEY
from bench.table import Row
from worker.registry_connection import MAX_CONNECTIONS
from worker.scram import MAX_STORED

FLEET = 1_000_000
INTERVAL_SECONDS = 60
BUSY_SHARE = 0.7
"""Of a core that a replica may use up, so that an outage can be caught up with."""
PAGE = Path("docs/performance.md")
TABLES = {"checks": "bench.json", "scale": "bench-scale.json"}


def write(build: Path) -> None:
    """Replace each table that stands between its markers by that of the last run."""
    found = {
        name: json.loads((build / file).read_text(encoding="utf-8"))
        for name, file in TABLES.items()
        if (build / file).exists()
    }
    for name, document in found.items():
        _replace(name, _table(document))
    if len(found) == len(TABLES):
        values = {row["what"]: row["value"] for each in found.values() for row in each["rows"]}
        _replace("million", _million(values))
    else:
        print(f"what a million needs stays as it is: {' and '.join(TABLES.values())} are needed")


def _replace(name: str, lines: Iterator[str]) -> None:
    begin, end = f"<!-- table: {name} -->\n", f"<!-- end: {name} -->\n"
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{begin}\n{table}\n\n{end}{after}", encoding="utf-8")


def _table(document: Mapping[str, Any]) -> Iterator[str]:
    machine = document["machine"]
    yield (
        f"Measured {document['at']} on {machine['processors']} processors ({machine['processor']}),"
        f" {machine['system']}, Python {machine['python']}; load average"
        f" {machine['load_average']:.1f} at the end.\n"
    )
    yield "| what | measured | aim | |"
    yield "|---|---|---|---|"
    for row in document["rows"]:
        yield f"| {' | '.join(Row(**row).cells)} |"
    yield from (f"\nNot measured: {line}." for line in document["left_out"])


def _million(values: Mapping[str, float]) -> Iterator[str]:
    """Work out what a large fleet needs from the figures of this run."""
    rate = FLEET / INTERVAL_SECONDS

    def mixed(suffix: str) -> float:
        path = "whole path, at its pace"
        return sum(share * values[f"{engine}: {path}{suffix}"] for engine, share in SHARES.items())

    # Any replica may get any row, and keeps the keys of so many accounts.
    anew = {engine: SHARES[engine] - MAX_STORED / FLEET for engine in ITERATIONS}
    keys = sum(share * values[f"{engine}: {KEY}"] for engine, share in anew.items())
    worker, registry = mixed("") + keys, mixed(", the registry")
    replicas = math.ceil(rate * worker / 1e6 / BUSY_SHARE)
    call = sum(values[f"{WHAT}: {call} of {BATCH}, median"] for call in ("claim", "record"))
    busy = rate / BATCH * call / 1000
    wal = rate * values[f"{WHAT}: log of changes a check"] / 2**20
    yield f"| {FLEET:,} databases, every {INTERVAL_SECONDS} s | |"
    yield "|---|---|"
    for what, how_much in (
        ("checks a second", f"{rate:,.0f}"),
        (f"CPU of the workers, at {worker:,.0f} us a check", f"{rate * worker / 1e6:.1f} cores"),
        (
            f"of that, keys derived anew where each row has an account of its own, {keys:,.0f} us",
            f"{rate * keys / 1e6:.1f} cores",
        ),
        (f"replicas, each up to {BUSY_SHARE:.0%} of a core", f"{replicas}"),
        (f"CPU of the registry, at {registry:,.0f} us", f"{rate * registry / 1e6:.1f} cores"),
        ("connections to the registry at most", f"{replicas * MAX_CONNECTIONS}"),
        (f"connections of PgBouncer's that are busy at once, calls of {BATCH}", f"{busy:.1f}"),
        ("rows written a second (claim, result, schedule)", f"{3 * rate:,.0f}"),
        ("log of changes, without full page images", f"{wal:.1f} MB a second"),
    ):
        yield f"| {what} | {how_much} |"
