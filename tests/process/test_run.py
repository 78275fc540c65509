"""The real `run` command on a real registry with one row an engine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from testbed.mongodb import MongoDBServer
from testbed.ports import free_port as take_free_port
from testbed.postgresql import PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer

PROJECT = "00000000-0000-0000-0000-00000000000a"
WITHIN = 10.0


class Worker:
    """The worker as a process of its own; its log is read from a file."""

    def __init__(self, url: str, folder: Path, **environment: str) -> None:
        self.port = take_free_port()
        self.log = folder / f"worker-{self.port}.log"
        self._output = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker", "run"],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": url,
                "PORT": str(self.port),
                "METRICS_HOST": "127.0.0.1",
                "ALLOWED_NETWORKS": "127.0.0.1/32",
                "LOG_LEVEL": "debug",
                **environment,
            },
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def page(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=30)
        self._output.close()
        return code


@pytest.fixture
def start(tmp_path: Path, worker_url: str) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def run(**environment: str) -> Worker:
        workers.append(Worker(worker_url, tmp_path, **environment))
        return workers[-1]

    yield run
    for worker in workers:
        worker.stop()


async def register(url: str, engine: str, target: str, config: str = "{}") -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "insert into platform.projects (id, name) values ($1, 'test') on conflict do nothing",
        PROJECT,
    )
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " values ($1, $2, $2, $3, $4)",
        PROJECT,
        engine,
        target,
        config,
    )
    await connection.close()


async def health(url: str) -> dict[str, tuple[str, str | None]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select name, health_check_status, health_check_error from platform.databases"
    )
    await connection.close()
    return {row["name"]: (row["health_check_status"], row["health_check_error"]) for row in rows}


async def eventually(promise: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + WITHIN
    while not await promise():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.1)


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
    await asyncio.to_thread(lambda: None)
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
