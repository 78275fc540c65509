"""What the demo draws: a table of the registry, and the worker's log as it grows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.tables import printable

FILE_COLUMNS = 160
WIDE_COLUMNS = 110
"""From here on the table has room for the whole error."""
COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "unknown": "blue"}
INTRODUCTION = (
    "A PostgreSQL registry lists eight databases: three that work, five broken on purpose. "
    "Every five seconds a worker asks each of them: could an application use you right now? "
    "Below, its log tells every change; the table shows what it wrote into the registry.\n"
)


def console() -> Console:
    """Make a console as wide as the terminal, or as a file is readable."""
    return Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, highlight=False)


def picture(rows: Sequence[Mapping[str, Any]], port: int, columns: int) -> RenderableType:
    """Draw the registry as an operator would want to see it, and say where the metrics are."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("database", "engine", "status", "reason"):
        table.add_column(heading, no_wrap=True)
    for heading in ("latency", "checked"):
        table.add_column(heading, no_wrap=True, justify="right")
    is_wide = columns >= WIDE_COLUMNS
    if is_wide:
        table.add_column("error", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row), *([_error(row)] if is_wide else []))
    where = Text(f"metrics: http://127.0.0.1:{port}/metrics", style="bold")
    return Group(table, where)


def _cells(row: Mapping[str, Any]) -> Iterator[Text]:
    status, latency, age = row["health_check_status"], row["latency_seconds"], row["age"]
    yield Text(printable(row["name"]))
    yield Text(row["type"])
    yield Text(f"● {status}", style=COLOURS[status])
    yield Text(row["last_reason"] or "")
    yield Text("" if latency is None else f"{latency * 1000:.1f} ms")
    yield Text("" if age is None else f"{age:.0f} s ago")


def _error(row: Mapping[str, Any]) -> Text:
    """Leave away what the column of the reason says."""
    error = printable(row["health_check_error"] or "")
    return Text(error.removeprefix(f"{row['last_reason']}: "))


def changes(log: str) -> Sequence[dict[str, Any]]:
    """Pick the changes out of the worker's log."""
    lines = [line for line in log.splitlines(keepends=True) if line.endswith("\n")]
    events = [json.loads(line) for line in lines]
    return [event for event in events if event["event"] == "database_health_changed"]


def sentence(change: Mapping[str, Any]) -> Text:
    """Shorten one line of the worker's log to its time, level and message."""
    at = change["timestamp"][11:19]
    return Text(
        f"{at} {change['level']:5} {printable(change['message'])}", style=COLOURS[change["status"]]
    )
