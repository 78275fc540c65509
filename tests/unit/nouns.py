"""Rows and results as the tests of the lower floors need them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from worker.model import CheckResult, Identity, Lease, RawRow
from worker.words import Reason, Status


def identity(name: str = "a database", engine: str = "redis") -> Identity:
    return Identity(uuid4(), uuid4(), name, engine)


def lease() -> Lease:
    now = datetime.now(UTC)
    return Lease(1, now, now + timedelta(seconds=45), now, time.monotonic())


def row(
    url: str | None = "redis://u:pw-secret@db.example",
    config: object = None,
    engine: str = "redis",
    **more: Any,
) -> RawRow:
    made = RawRow(
        identity=identity(engine=engine),
        connection_string=url,
        is_decrypted=True,
        config=json.dumps({} if config is None else config),
        ssl_enabled=False,
        lease=lease(),
        status=Status.UNKNOWN,
        last_reason=None,
    )
    return replace(made, **more)


def result(reason: Reason = Reason.OK, **more: Any) -> CheckResult:
    now = time.monotonic()
    facts: Mapping[str, Any] = {
        "identity": identity(),
        "lease": lease(),
        "reason": reason,
        "status": reason.status,
        "error": None if reason is Reason.OK else f"{reason}: it is so (db.example:6379)",
        "latency": 0.01 if reason is Reason.OK else None,
        "phases": {},
        "attempts": 1,
        "started": now,
        "finished": now + 0.02,
        "interval": 60.0,
        "address": "db.example:6379",
        **more,
    }
    return CheckResult(**facts)
