"""The per-database series as text, in a fraction of the time that prometheus-client needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from worker.model import DatabaseState, Identity, Status

Reading = Callable[[DatabaseState], str | None]
MAX_LABELS = 20_000
"""Identities whose labels are kept from page to page, about 400 bytes each."""
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_UP = {Status.HEALTHY: "1.0", Status.DEGRADED: "1.0", Status.UNHEALTHY: "0.0"}


def _up(state: DatabaseState) -> str | None:
    return _UP.get(state.status)


def _unknown(state: DatabaseState) -> str | None:
    return "1.0" if state.status is Status.UNKNOWN else "0.0"


def _latency(state: DatabaseState) -> str | None:
    return None if state.latency is None else repr(state.latency)


def _checked_at(state: DatabaseState) -> str | None:
    return None if state.checked_at is None else repr(state.checked_at)


DATABASE_SERIES: Mapping[str, tuple[str, Reading]] = {
    "database_health_up": ("1 healthy or degraded, 0 unhealthy, absent while unknown", _up),
    "database_health_unknown": ("Whether the status of the database is unknown", _unknown),
    "database_health_latency_seconds": ("Latency of the last check, while it answered", _latency),
    "database_health_last_check_timestamp_seconds": ("Time of the last check", _checked_at),
}


def render(states: Iterable[DatabaseState]) -> bytes:
    """Write every series of every database, in the text that Prometheus and OpenMetrics share."""
    labelled = [(_labels(state.identity), state) for state in states]
    return b"".join(
        _family(name, text, read, labelled) for name, (text, read) in DATABASE_SERIES.items()
    )


@lru_cache(maxsize=MAX_LABELS)
def _labels(identity: Identity) -> str:
    return (
        f'database_id="{identity.database_id}",engine="{identity.engine.translate(_ESCAPES)}",'
        f'name="{identity.name.translate(_ESCAPES)}",project_id="{identity.project_id}"'
    )


def _family(
    name: str, text: str, read: Reading, labelled: Iterable[tuple[str, DatabaseState]]
) -> bytes:
    lines = [
        f"{name}{{{labels}}} {value}\n"
        for labels, state in labelled
        if (value := read(state)) is not None
    ]
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{''.join(lines)}".encode()
