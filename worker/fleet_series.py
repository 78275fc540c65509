"""The per-database series as text, in a fraction of the time that prometheus-client needs."""

from __future__ import annotations

import threading
from collections.abc import Collection

from worker.model import DatabaseState, Identity, Lines
from worker.words import Status

SERIES = {
    "database_health_up": "1 healthy or degraded, 0 unhealthy, absent while unknown",
    "database_health_unknown": "Whether the status of the database is unknown",
    "database_health_latency_seconds": "Latency of the last check, while it answered",
    "database_health_last_check_timestamp_seconds": "Time of the last check",
}
_UP, _UNKNOWN, _LATENCY, _CHECKED_AT = SERIES
PAUSE_SECONDS = 0.001
_NEVER = threading.Event()
"""To wait for; time.sleep fails where libfaketime turns the clocks, as the tests do."""


def write(state: DatabaseState) -> Lines:
    """Write a line for each series, empty where the database has none.

    Prometheus and OpenMetrics share this text.
    """
    labels = _labels(state.identity)
    latency, checked_at = state.latency, state.checked_at
    is_unknown = state.status is Status.UNKNOWN
    up = "0.0" if state.status is Status.UNHEALTHY else "1.0"
    return (
        "" if is_unknown else f"{_UP}{labels} {up}\n",
        f"{_UNKNOWN}{labels} {'1.0' if is_unknown else '0.0'}\n",
        "" if latency is None else f"{_LATENCY}{labels} {latency!r}\n",
        "" if checked_at is None else f"{_CHECKED_AT}{labels} {checked_at!r}\n",
    )


def join(databases: Collection[Lines]) -> bytes:
    """Put the lines of all databases together, series by series.

    Sleeps in between, so that the thread of the checks has the interpreter when it needs it.
    """
    families: list[bytes] = []
    for place, (name, text) in enumerate(SERIES.items()):
        lines = [f"# HELP {name} {text}\n# TYPE {name} gauge\n"]
        lines += [of_one[place] for of_one in databases]
        families.append("".join(lines).encode())
        _NEVER.wait(PAUSE_SECONDS)
    return b"".join(families)


def _labels(identity: Identity) -> str:
    return (
        f'{{database_id="{identity.database_id}",engine="{_escape(identity.engine)}",'
        f'name="{_escape(identity.name)}",project_id="{identity.project_id}"}}'
    )


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
