"""One table for people, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_THREE_DIGITS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One figure with its unit, what was aimed at, and a word on it."""

    what: str
    value: float
    unit: str
    aim: float | None = None
    """At most so much."""
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        aim = "" if self.aim is None else f"<= {_digits(self.aim)}"
        missed = "missed" if self.aim is not None and self.value > self.aim else ""
        note = ", ".join(filter(None, (missed, self.note)))
        return self.what, f"{_digits(self.value)} {self.unit}".rstrip(), aim, note


@dataclass(slots=True)
class Report:
    """What one run found."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What is not installed here, a line each."""

    def add(self, *rows: Row) -> None:
        """Keep rows, and show them at once: a run takes minutes."""
        for row in rows:
            self.rows.append(row)
            print(_line(row.cells, (58, 18, 12)), flush=True)

    def leave_out(self, line: str) -> None:
        """Say what cannot be measured here."""
        self.left_out.append(line)
        print(f"left out: {line}", flush=True)

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "rows": [asdict(row) for row in self.rows],
            "left_out": self.left_out,
        }
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """Say what it ran on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, {_build()}",
        "load_average": os.getloadavg()[0],
    }


def _build() -> str:
    """Say how the interpreter was built: a loop of plain Python tells it, a check hardly."""
    if sys.base_prefix == "/usr":  # distributions do not tell by their arguments
        return "the distribution's build"
    is_optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"built {'with' if is_optimized else 'without'} --enable-optimizations"


def _digits(value: float) -> str:
    """Write three digits, or all of a larger whole number."""
    return f"{value:,.0f}" if abs(value) >= _THREE_DIGITS else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return " ".join([*padded, *cells[len(widths) :]]).rstrip()
