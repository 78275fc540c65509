"""What one fault did: figures for people, and every promise that it broke."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

HEADINGS = ("fault", "times (seconds unless they say otherwise)", "what was lost")
_WHOLE = 100.0
"""From here on, no digit behind the point is worth its room."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one scenario."""

    fault: str
    figures: Mapping[str, float]
    """What was measured; seconds unless the name says otherwise."""
    lost: Sequence[str] = field(default_factory=tuple)
    """Every broken promise, as a sentence."""


class Losses:
    """Collects broken promises."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def expect(self, promise: str, *, holds: bool) -> None:
        """Note a promise that does not hold."""
        if not holds:
            self.found.append(promise)


def percentile(values: Iterable[float], percent: int) -> float:
    """Read off a percentile; not a number where there are no values."""
    known = list(values)
    if len(known) <= 1:
        return known[0] if known else float("nan")
    return statistics.quantiles(known, n=100, method="inclusive")[percent - 1]


def print_table(findings: Sequence[Finding]) -> None:
    """Print one line a fault."""
    table = Table(*HEADINGS)
    for finding in findings:
        table.add_row(*_cells(finding))
    Console(width=160).print(table)


def markdown(findings: Sequence[Finding]) -> str:
    """Write the table for docs/reliability.md."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *map(_cells, findings)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(finding: Finding) -> Sequence[str]:
    times = ", ".join(f"{name} {_short(value)}" for name, value in finding.figures.items())
    return finding.fault, times, "; ".join(finding.lost) or "nothing"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= _WHOLE else f"{value:.3g}"
