"""Many rows, several replicas, and one that dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

import asyncpg
import pytest

from testbed.redis import RedisServer
from testbed.worker import PROJECT, Worker, eventually, register


async def fill(url: str, target: str, rows: int, interval: int) -> None:
    await register(url, "redis", target)
    connection = await asyncpg.connect(url)
    await connection.execute("delete from platform.databases")
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " select $1, 'redis ' || i, 'redis', $2,"
        " jsonb_build_object('healthCheck', jsonb_build_object('intervalSeconds', $4::int))"
        " from generate_series(1, $3::int) i",
        PROJECT,
        target,
        rows,
        interval,
    )
    await connection.close()


async def healthy(url: str) -> int:
    connection = await asyncpg.connect(url)
    count = await connection.fetchval(
        "select count(*) from platform.databases where health_check_status = 'healthy'"
    )
    await connection.close()
    return int(count)


@pytest.mark.timeout(120)
async def test_a_thousand_rows_registered_at_once_are_checked_and_then_spread_out(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    interval = 5
    await fill(registry_url, redis_server.url(), 1000, interval)
    worker = start()

    async def all_healthy() -> bool:
        return await healthy(registry_url) == 1000

    await eventually(all_healthy, "a thousand rows are checked")
    checks = [event["timestamp"] for event in worker.events("check_finished")]
    first, last = datetime.fromisoformat(checks[0]), datetime.fromisoformat(checks[999])
    assert (last - first).total_seconds() < 10

    async def two_more_rounds() -> bool:
        return len(worker.events("check_finished")) >= 3000

    await eventually(two_more_rounds, "two more intervals pass")
    finished = worker.events("check_finished")
    times = [datetime.fromisoformat(event["timestamp"]).timestamp() for event in finished]
    window = Counter(int(moment) for moment in times if moment > times[-1] - interval)
    assert max(window.values()) < 1000 / interval * 2.5


@pytest.mark.timeout(120)
async def test_replicas_share_the_rows_and_survive_the_death_of_one(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    interval = 5
    await fill(registry_url, redis_server.url(), 60, interval)
    lease = {"CHECK_DEADLINE_SECONDS": "1"}
    one, two = start(**lease), start(**lease)

    async def both_work() -> bool:
        rounds = len(one.events("check_finished")) + len(two.events("check_finished"))
        return rounds >= 240 and bool(one.events("check_finished"))

    await eventually(both_work, "both replicas check rows", within=40)
    moments: dict[str, list[float]] = {}
    for worker in (one, two):
        for event in worker.events("check_finished"):
            moment = datetime.fromisoformat(event["timestamp"]).timestamp()
            moments.setdefault(event["database_id"], []).append(moment)
    assert len(moments) == 60
    gaps = [after - before for row in moments.values() for before, after in pairwise(sorted(row))]
    assert min(gaps) > interval / 2 - 0.5

    one.kill()
    before = len(two.events("check_finished"))

    async def none_left_behind() -> bool:
        await asyncio.sleep(0)
        later = two.events("check_finished")[before:]
        return len({event["database_id"] for event in later}) == 60

    lease_and_interval = 1 + 15 + 1.5 * interval
    await eventually(
        none_left_behind,
        "the survivor takes over every row within a lease",
        within=lease_and_interval + 5,
    )
    ids = [event["change_id"] for w in (one, two) for event in w.events("database_health_changed")]
    assert len(set(ids)) == 60
