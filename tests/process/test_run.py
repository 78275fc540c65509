"""The real `run` command on a real registry with one row an engine."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.misbehaving import MisbehavingServer, mute
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


async def test_a_row_made_anew_under_its_id_gets_no_result_of_the_one_before(
    owner: Any, registry_url: str, start: Callable[..., Worker], own_redis: RedisServer
) -> None:
    patient = '{"connectTimeout": 4000, "retryStrategy": {"maxAttempts": 1}}'
    with MisbehavingServer(mute) as silent:
        await register(registry_url, "redis", f"redis://:x@127.0.0.1:{silent.port}", patient)
        worker = start()

        async def is_under_way() -> bool:
            return silent.callers > 0

        await eventually(is_under_way, "the check waits for the silent server")
        await owner.execute(
            "with gone as (delete from platform.databases returning id, project_id)"
            " insert into platform.databases (id, project_id, name, type, connection_string)"
            " select id, project_id, 'anew', 'redis', $1 from gone",
            own_redis.url(),
        )

        async def have_ended() -> bool:
            has_one = bool(worker.events("check_finished"))
            return has_one and "database_health_checks_in_flight 0.0" in worker.page("/metrics")

        await eventually(have_ended, "both rows' checks have ended")
    changes = worker.events("database_health_changed")
    assert [(change["name"], change["status"]) for change in changes] == [("anew", "healthy")]
    assert (await health(registry_url))["anew"] == ("healthy", None)
    assert worker.stop() == 0
