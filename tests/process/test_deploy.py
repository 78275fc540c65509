"""Two workers overlap in a deploy, and the schema moves on under the older one."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, register

NEXT_SCHEMA = """
begin;
alter table platform.database_schedules add column note text not null default '';
create function platform.note_database(uuid, text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp
  as 'update platform.database_schedules set note = $2 where database_id = $1';
create or replace function platform.health_worker_schema_version()
  returns integer language sql immutable set search_path = pg_catalog, pg_temp as 'select 9';
commit;
"""


async def test_a_worker_goes_on_while_the_next_schema_is_applied_and_a_second_one_starts(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    config = '{"healthCheck": {"intervalSeconds": 5}}'
    for _ in range(20):
        await register(registry_url, "redis", redis_server.url(), config)
    old = start()

    async def has_begun() -> bool:
        return len(old.events("check_finished")) >= 20

    await eventually(has_begun, "the old worker checks every row")
    connection = await asyncpg.connect(registry_url)
    await connection.execute(NEXT_SCHEMA)
    new = start()
    moved = await connection.fetchval("select now()")

    async def all_checked() -> bool:
        behind = await connection.fetchval(
            "select count(*) from platform.databases where last_health_check_at < $1", moved
        )
        return behind == 0 and bool(new.events("check_finished"))

    await eventually(all_checked, "both check rows on the newer schema")
    assert old.stop() == 0
    moved = await connection.fetchval("select now()")
    await eventually(all_checked, "the new worker carries on alone")
    await connection.close()
    for worker in (old, new):
        assert [event for event in worker.all_events() if event["level"] == "error"] == []
