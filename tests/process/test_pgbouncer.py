"""The worker asks nothing of the registry that a pooler in transaction mode could not give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from testbed.pgbouncer import PgBouncer
from testbed.postgresql import PostgreSQLServer
from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, health, register
from tests.conftest import WORKER_PASSWORD, WORKER_ROLE

CONFIG = '{"healthCheck": {"intervalSeconds": 5}}'
ROWS = 20


@pytest.fixture
def pooler(cluster: PostgreSQLServer, worker_url: str) -> Iterator[PgBouncer]:
    assert WORKER_ROLE in worker_url
    with PgBouncer(cluster, WORKER_ROLE, WORKER_PASSWORD, pool_size=1) as server:
        yield server


@pytest.mark.timeout(120)
async def test_two_workers_share_one_connection_and_survive_the_restart_of_the_pooler(
    registry_url: str,
    registry_database: str,
    redis_server: RedisServer,
    pooler: PgBouncer,
    start: Callable[..., Worker],
) -> None:
    for _ in range(ROWS):
        await register(registry_url, "redis", redis_server.url(), CONFIG)
    through_pooler = {"DATABASE_URL": pooler.url(registry_database)}
    workers = [start(**through_pooler) for _ in range(2)]

    def checks() -> list[int]:
        return [len(worker.events("check_finished")) for worker in workers]

    async def both_check() -> bool:
        return min(checks()) > 0 and sum(checks()) >= 3 * ROWS

    await eventually(both_check, "both workers check rows through one connection", within=60)
    assert await health(registry_url) == {"redis": ("healthy", None)}

    pooler.stop()

    async def both_miss_the_registry() -> bool:
        return all(worker.events("registry_unreachable") for worker in workers)

    await eventually(both_miss_the_registry, "both workers say that the registry is away")
    pooler.start()
    before = sum(checks())

    async def both_are_back() -> bool:
        recovered = all(worker.events("registry_recovered") for worker in workers)
        return recovered and sum(checks()) >= before + 2 * ROWS

    await eventually(both_are_back, "both workers go on after the restart", within=60)
    for worker in workers:
        assert worker.stop() == 0
        assert worker.events("tick_failed") == worker.events("library_log") == []
