"""A registry large enough to be planned by index wherever an index fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from testbed.worker import register

ROWS = 20_000
_FILL = f"""
set session_replication_role = replica;
insert into platform.databases (project_id, name, type, connection_string,
  connection_string_encrypted, config, health_check_status, last_health_check_at)
select project_id, 'redis ' || i, type, connection_string, connection_string_encrypted, config,
  'healthy', now() - interval '1 minute' from platform.databases, generate_series(2, {ROWS}) i;
insert into platform.database_schedules (database_id, due_at, interval_seconds, last_reason)
select id, now() + random() * interval '1 hour', 3600, 'ok' from platform.databases
on conflict do nothing;
reset session_replication_role;
analyze platform.databases, platform.database_schedules;
"""


@pytest.fixture
async def large_registry(registry_url: str) -> AsyncIterator[Any]:
    """The owner's connection to a registry of so many rows, a few of them due."""
    await register(registry_url, "redis", "redis://:secret@127.0.0.1:1")
    connection = await asyncpg.connect(registry_url, statement_cache_size=0)
    await connection.execute(_FILL)
    yield connection
    await connection.close()
