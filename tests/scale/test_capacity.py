"""A fleet larger than the process can check in its interval."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from testbed.misbehaving import MisbehavingServer, answering, late
from testbed.worker import Worker, eventually, register

ROWS = 24
SLOTS = 2
ANSWER_SECONDS = 1.0
INTERVAL = 5
CONFIG = '{"healthCheck": {"intervalSeconds": 5}}'


@pytest.fixture
def slow_server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer(late(ANSWER_SECONDS, answering(b"+PONG\r\n"))) as server:
        yield server


@pytest.fixture
def start(tmp_path: Path, worker_url: str) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def run(**environment: str) -> Worker:
        workers.append(Worker(worker_url, tmp_path, **environment))
        return workers[-1]

    yield run
    for worker in workers:
        worker.stop()


@pytest.mark.timeout(180)
async def test_too_few_slots_are_named_once_a_minute_and_starve_nobody(
    registry_url: str, start: Callable[..., Worker], slow_server: MisbehavingServer
) -> None:
    await register(registry_url, "redis", f"redis://127.0.0.1:{slow_server.port}", CONFIG)
    connection = await asyncpg.connect(registry_url)
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " select project_id, 'redis ' || i, type, $1, config"
        " from platform.databases, generate_series(2, $2::int) i",
        f"redis://127.0.0.1:{slow_server.port}",
        ROWS,
    )
    await connection.close()
    worker = start(MAX_CONCURRENT_CHECKS=str(SLOTS))

    def checks() -> Counter[str]:
        return Counter(event["database_id"] for event in worker.events("check_finished"))

    async def everybody_has_had_two() -> bool:
        return len(checks()) == ROWS and min(checks().values()) >= 2

    await eventually(everybody_has_had_two, "every row is checked, again and again", within=120)
    counts = checks()
    assert max(counts.values()) - min(counts.values()) <= 1

    async def is_said() -> bool:
        await asyncio.sleep(0)
        return bool(worker.events("capacity_short"))

    await eventually(is_said, "the worker says that it has too few slots", within=40)
    said = worker.events("capacity_short")[0]
    assert said["level"] == "warn"
    assert said["slots"] == SLOTS
    needed = ROWS / INTERVAL
    assert said["checks_per_second"] <= SLOTS / ANSWER_SECONDS * 1.2
    total = said["checks_per_second"] + said["missing_checks_per_second"]
    assert 0.5 * needed <= total <= 1.5 * needed
    assert said["missing_slots"] >= 1
    assert f"by {said['missing_slots']} or run another replica" in said["message"]
    moments = [event["timestamp"] for event in worker.events("capacity_short")]
    assert len(moments) <= 2
    page = worker.page("/metrics")
    (overdue,) = (
        line for line in page.splitlines() if line.startswith("database_health_overdue_databases ")
    )
    assert float(overdue.split()[1]) > 0
