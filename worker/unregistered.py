"""A row of a connection string that no registry knows, for the command `probe`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from worker.connection import mask
from worker.errors import WorkerError
from worker.model import Identity, Lease, RawRow
from worker.words import Engine, Status

NOBODY = UUID(int=0)
SCHEMES = {
    "mongodb": Engine.MONGODB,
    "mongodb+srv": Engine.MONGODB,
    "postgres": Engine.POSTGRESQL,
    "postgresql": Engine.POSTGRESQL,
    "redis": Engine.REDIS,
    "rediss": Engine.REDIS,
}
"""Which engine a connection string speaks of."""


def make_row(text: str, config: str, *, ssl_enabled: bool) -> RawRow:
    """Make a row of a connection string and a config, as JSON text, that is due at once.

    Raises:
        WorkerError: the string is of no engine, or the config is no object.
    """
    try:
        is_object = isinstance(json.loads(config), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise WorkerError('--config is no JSON object such as {"connectTimeout": 1000}')
    now = datetime.now(UTC)
    scheme = text.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise WorkerError(f"the URL starts with none of {', '.join(SCHEMES)} and then ://")
    return RawRow(
        identity=Identity(NOBODY, NOBODY, mask(text), SCHEMES[scheme]),
        connection_string=text,
        is_decrypted=True,
        config=config,
        ssl_enabled=ssl_enabled,
        lease=Lease(1, now, now + timedelta(days=1), now, time.monotonic()),
        status=Status.UNKNOWN,
        last_reason=None,
    )
