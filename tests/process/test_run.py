"""The real `run` command on a real registry with one row an engine."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.mongodb import MongoDBServer
from testbed.postgresql import PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer
from testbed.worker import Worker, eventually, health, register


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer(RedisOptions(password="redis-secret")) as server:
        yield server


async def test_a_change_shows_in_the_registry_the_log_and_the_metrics(
    registry_url: str,
    start: Callable[..., Worker],
    own_redis: RedisServer,
    mongodb_server: MongoDBServer,
    postgresql_target: PostgreSQLServer,
) -> None:
    interval = '{"healthCheck": {"intervalSeconds": 5}, "retryStrategy": {"maxAttempts": 1}}'
    await register(registry_url, "redis", own_redis.url(), interval)
    await register(registry_url, "mongodb", mongodb_server.url(), interval)
    await register(registry_url, "postgresql", postgresql_target.url(), interval)
    worker = start()

    async def all_healthy() -> bool:
        rows = await health(registry_url)
        return set(rows.values()) == {("healthy", None)}

    await eventually(all_healthy, "every row becomes healthy")
    assert len(worker.events("database_health_changed")) == 3

    own_redis.stop()

    async def redis_is_refused() -> bool:
        status, error = (await health(registry_url))["redis"]
        return status == "unhealthy" and str(error).startswith("refused: ")

    await eventually(redis_is_refused, "the stopped server's row becomes unhealthy")
    last = worker.events("database_health_changed")[-1]
    assert (last["level"], last["status"], last["recorded"]) == ("error", "unhealthy", True)
    up = [
        line
        for line in worker.page("/metrics").splitlines()
        if line.startswith("database_health_up{")
    ]
    assert any('name="redis"' in line and line.endswith(" 0.0") for line in up)

    own_redis.start()
    await eventually(all_healthy, "the server that came back is healthy again")
    assert worker.events("database_health_changed")[-1]["level"] == "info"
    assert json.loads(worker.page("/readyz"))["reason"] == "the registry can be used"
    assert worker.stop() == 0
    assert worker.events("worker_stopped")[-1]["exit_code"] == 0


class Narrow(Worker):
    launcher = ("prlimit", "--nofile=128:512")


async def test_the_worker_takes_as_many_descriptors_as_it_may(
    worker_url: str, tmp_path: Path
) -> None:
    with Narrow(worker_url, tmp_path) as worker:

        async def has_started() -> bool:
            return bool(worker.events("worker_started"))

        await eventually(has_started, "the worker starts")
        assert resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE) == (512, 512)
