"""Raw row to target or reject: one bad row blinds no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from worker import connection
from worker.errors import ProbeError
from worker.model import Identity, Lease, RawRow
from worker.plan import Config, Plan, RowConfig
from worker.ports import Probe
from worker.words import Engine, Reason

Probes = Mapping[Engine, Probe[Any]]
MAX_CONFIG_CHARACTERS = 262_144
"""Of the registry's text; it gives one more of a longer one."""
USUAL_CHARACTERS = 1000
"""Up to which length a `config` is remembered."""


@dataclass(frozen=True, slots=True)
class Target:
    """An active row made ready to probe; holds clear secrets in its plan, shows none."""

    identity: Identity
    lease: Lease
    engine: Engine
    plan: Plan
    max_attempts: int
    retry_delay: float
    """Seconds between two attempts."""
    degraded_after: float | None
    """Seconds of latency from which on an answer is slow; None means never."""
    interval: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An active row that no target can be made of, and why."""

    identity: Identity
    lease: Lease
    fault: ProbeError
    interval: float
    """Seconds."""


def make_target(row: RawRow, probes: Probes, default_interval: float) -> Target | Reject:
    """Believe nothing of a row until it is read; never raises for what a row holds."""
    interval = default_interval
    try:
        config = _config(row.config)
        common = config.read(RowConfig)
        interval = float(common.health_check.interval_seconds or default_interval)
        engine = _engine(row)
        plan = probes[engine].plan(
            connection.split(_connection_string(row)), config, ssl_enabled=row.ssl_enabled
        )
    except ProbeError as fault:
        return Reject(row.identity, row.lease, fault, interval)
    except RecursionError:
        deep = ProbeError(Reason.MISCONFIGURED, "config is nested too deeply")
        return Reject(row.identity, row.lease, deep, interval)
    slow = common.health_check.degraded_after_ms
    return Target(
        identity=row.identity,
        lease=row.lease,
        engine=engine,
        plan=plan,
        max_attempts=common.retry_strategy.max_attempts,
        retry_delay=common.retry_strategy.delay / 1000,
        degraded_after=None if slow is None else slow / 1000,
        interval=interval,
    )


def _config(text: str) -> Config:
    return _usual_config(text) if len(text) <= USUAL_CHARACTERS else _read_config(text)


def _read_config(text: str) -> Config:
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise ProbeError(
            Reason.MISCONFIGURED, f"config is longer than {MAX_CONFIG_CHARACTERS} characters"
        )
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):  # jsonb holds numbers and depths that Python refuses
        raise ProbeError(
            Reason.MISCONFIGURED, "config holds a number or a nesting that is too long to be read"
        ) from None
    if not isinstance(config, dict):
        raise ProbeError(Reason.MISCONFIGURED, "config is not a JSON object")
    return Config(config)


_usual_config = lru_cache(maxsize=1000)(_read_config)
"""Most rows have the platform's defaults."""


def _engine(row: RawRow) -> Engine:
    try:
        return Engine(row.identity.engine)
    except ValueError:
        known = ", ".join(Engine)
        raise ProbeError(
            Reason.MISCONFIGURED, f"type is none of those that this worker knows: {known}"
        ) from None


def _connection_string(row: RawRow) -> str:
    if not row.is_decrypted:
        raise ProbeError(
            Reason.UNDECRYPTABLE,
            "the stored connection string does not decrypt; register it again",
        )
    if not row.connection_string:
        raise ProbeError(Reason.MISCONFIGURED, "no connection string is registered")
    return row.connection_string
