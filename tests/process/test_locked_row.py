"""Somebody's open transaction on one row holds up that row alone."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from testbed.misbehaving import MisbehavingServer, mute
from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, health, register

CONFIG = '{"healthCheck": {"intervalSeconds": 5}, "commandTimeout": 20000}'


async def test_a_row_that_is_locked_holds_up_no_other_and_is_recorded_later(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    for engine in ("redis", "mongodb", "postgresql"):
        await register(registry_url, engine, redis_server.url(), CONFIG)
    locking = await asyncpg.connect(registry_url)
    transaction = locking.transaction()
    await transaction.start()
    await locking.execute("select from platform.databases where name = 'redis' for update")
    worker = start(REGISTRY_TIMEOUT_SECONDS="2")

    async def others_are_recorded() -> bool:
        rows = await health(registry_url)
        return [rows[name][0] for name in ("redis", "mongodb", "postgresql")] == [
            *("unknown", "unknown", "unknown")
        ] and all(rows[name][1] for name in ("mongodb", "postgresql"))

    async def one_waits() -> bool:
        return "\ndatabase_health_results_pending 1.0" in worker.page("/metrics")

    await eventually(others_are_recorded, "the other rows are recorded")
    await eventually(one_waits, "the result of the locked row waits")
    await transaction.rollback()
    await locking.close()

    async def is_recorded() -> bool:
        return (await health(registry_url))["redis"] == ("healthy", None)

    await eventually(is_recorded, "the row is recorded once it is free")
    assert worker.stop() == 0
    assert not worker.events("registry_unreachable")


async def test_an_edit_that_is_not_committed_keeps_no_other_lease_at_shutdown(
    registry_url: str, start: Callable[..., Worker]
) -> None:
    with MisbehavingServer(mute) as server:
        url = f"redis://127.0.0.1:{server.port}"
        for engine in ("redis", "mongodb"):
            await register(registry_url, engine, url.replace("redis:", f"{engine}:"), CONFIG)
        worker = start(SHUTDOWN_GRACE_SECONDS="1")

        async def both_run() -> bool:
            return server.callers >= 2

        await eventually(both_run, "both checks run")
        editing = await asyncpg.connect(registry_url)
        transaction = editing.transaction()
        await transaction.start()
        await editing.execute(
            "update platform.databases set connection_string = 'redis://elsewhere'"
            " where name = 'redis'"
        )
        assert worker.stop() == 0
        leased = await editing.fetch(
            "select d.name from platform.database_schedules s"
            " join platform.databases d on d.id = s.database_id where s.leased_until is not null"
        )
        await transaction.rollback()
        await editing.close()
        assert {row["name"] for row in leased} <= {"redis"}
