"""A placeholder."""

from __future__ import annotations

from bench.servers import Fleet, Registry
from bench.table import Report


def measure(_: Fleet, registry: Registry, report: Report) -> None:
    """Do nothing yet."""
