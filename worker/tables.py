"""Results for people: a table that fits the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.model import CheckResult
from worker.words import Status

FILE_COLUMNS = 160
WIDE_COLUMNS = 110
"""From here on the table has room for the errors."""
_COLOURS = {Status.HEALTHY: "green", Status.DEGRADED: "yellow", Status.UNHEALTHY: "red"}


def show(results: Sequence[CheckResult]) -> None:
    """Print results on stdout; the errors beneath the table where that is narrow."""
    is_file = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=FILE_COLUMNS if is_file else None, highlight=False)
    is_wide = console.width >= WIDE_COLUMNS
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("database", "engine", "status", "reason", "latency"):
        table.add_column(heading, overflow="fold")
    if is_wide:
        table.add_column("error", overflow="fold")
    for result in results:
        table.add_row(*_cells(result), *([_error(result)] if is_wide else []))
    console.print(table)
    if not is_wide:
        errors = [result for result in results if result.error]
        for number, result in enumerate(errors):
            gap = "" if number else "\n"
            console.print(Text(f"{gap}{printable(result.identity.name)}: ") + _error(result))


def _cells(result: CheckResult) -> Iterator[Text]:
    yield Text(printable(result.identity.name))
    yield Text(printable(result.identity.engine))
    yield Text(str(result.status or "as before"), _COLOURS.get(result.status or Status.UNKNOWN, ""))
    yield Text(result.reason)
    yield Text("" if result.latency is None else f"{result.latency * 1000:.1f} ms")


def _error(result: CheckResult) -> Text:
    """Leave away what the column of the reason says."""
    return Text((result.error or "").removeprefix(f"{result.reason}: "))


def printable(text: str) -> str:
    """Keep what a row or a server says from steering the terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
