"""When the worker itself runs short, no row is told that its server is down."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, health, register

OFTEN = '{"healthCheck": {"intervalSeconds": 5}, "retryStrategy": {"maxAttempts": 1}}'
NAMES = ("first", "second", "third")


async def test_out_of_descriptors_every_row_keeps_its_status_and_one_warning_tells(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    for name in NAMES:
        await register(registry_url, "redis", redis_server.url(), OFTEN, name=name)
    worker = start()

    async def all_healthy() -> bool:
        return set((await health(registry_url)).values()) == {("healthy", None)}

    await eventually(all_healthy, "every row becomes healthy")
    pid = worker.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free_descriptor(pid), hard))

    async def each_was_internal() -> bool:
        finished = worker.events("check_finished")
        return {each["name"] for each in finished if each["reason"] == "internal"} == set(NAMES)

    await eventually(each_was_internal, "every row has met the lack of descriptors")
    assert await all_healthy()
    complaints = worker.events("checks_impaired")
    assert [(each["level"], each["cause"]) for each in complaints] == [
        ("warn", "internal: the worker ran short: EMFILE")
    ]

    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    before = len(worker.events("check_finished"))

    async def checked_again() -> bool:
        last = worker.events("check_finished")[before:]
        return {each["name"] for each in last if each["reason"] == "ok"} == set(NAMES)

    await eventually(checked_again, "every row is checked again")
    changes = worker.events("database_health_changed")
    assert [each["status"] for each in changes] == ["healthy"] * len(NAMES)


def lowest_free_descriptor(pid: int) -> int:
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return min(set(range(len(taken) + 1)) - taken)
