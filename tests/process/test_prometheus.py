"""A real Prometheus server and its tool take the worker's page without a word."""

from __future__ import annotations

from collections.abc import Callable

from testbed.prometheus import PrometheusServer, promtool
from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, register, told


async def test_a_real_prometheus_scrapes_the_worker_without_a_warning(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    worker = start()
    with PrometheusServer(worker.port) as server:

        async def knows_that_it_is_up() -> bool:
            answer = server.query('query?query=database_health_up{engine="redis"}')
            return [sample["value"][1] for sample in answer["result"]] == ["1"]

        await eventually(knows_that_it_is_up, "Prometheus knows that the database is up")
        (target,) = server.query("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        said = [line for line in server.log.splitlines() if "level=info" not in line]
    assert said == []


async def test_promtool_has_nothing_to_say_against_the_page(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    worker = start()
    await told(worker, "check_finished")
    done = promtool("check", "metrics", text=worker.page("/metrics"))
    assert (done.returncode, done.stdout) == (0, "")
