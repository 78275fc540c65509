"""Writes the measured tables into docs/performance.md, so that no figure there is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.table import Row

PAGE = Path("docs/performance.md")
TABLES = {"checks": "bench.json", "scale": "bench-scale.json"}


def write(build: Path) -> None:
    """Replace each table that stands between its markers by that of the last run."""
    text = PAGE.read_text(encoding="utf-8")
    for name, file in TABLES.items():
        if not (build / file).exists():
            print(f"{build / file} is missing: its table stays as it is")
            continue
        begin, end = f"<!-- table: {name} -->\n", f"<!-- end: {name} -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        document = json.loads((build / file).read_text(encoding="utf-8"))
        text = "".join((before, begin, "\n".join(_lines(document)), "\n", end, after))
    PAGE.write_text(text, encoding="utf-8")


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
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
