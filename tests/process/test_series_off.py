from __future__ import annotations

from collections.abc import Callable

from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, health, register


async def test_a_fleet_above_the_limit_has_counts_but_no_series_of_its_own_and_says_so_once(
    registry_url: str, redis_server: RedisServer, start: Callable[..., Worker]
) -> None:
    for _ in range(2):
        await register(registry_url, "redis", redis_server.url())
    worker = start(METRICS_MAX_DATABASES="1")

    async def is_checked() -> bool:
        return set(await health(registry_url)) == {"redis"} and bool(
            len(worker.events("check_finished")) == 2 and worker.events("database_series_off")
        )

    await eventually(is_checked, "both databases are checked, and the warning is there")
    page = worker.page("/metrics")
    assert "\ndatabase_health_up{" not in page
    assert 'database_health_databases{engine="redis",status="' in page
    (warning,) = worker.events("database_series_off")
    assert warning["level"] == "warn"
    assert "METRICS_MAX_DATABASES" in warning["message"]
