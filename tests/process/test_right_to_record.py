"""A registry in which only one thing fails: log, /readyz and metrics tell the same story."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, register

OFTEN = '{"healthCheck": {"intervalSeconds": 5}}'
RECORD = "platform.record_check_results(jsonb)"
REVOKED = (
    f"revoke execute on function {RECORD} from platform_health_worker",
    f"grant execute on function {RECORD} to platform_health_worker",
)
RENAMED = (
    f"alter function {RECORD} rename to gone",
    "alter function platform.gone(jsonb) rename to record_check_results",
)


def is_ready(worker: Worker) -> bool:
    try:
        worker.page("/readyz")
    except OSError:  # an HTTPError is one
        return False
    return True


def is_up(worker: Worker) -> bool:
    return "database_health_registry_up 1.0" in worker.page("/metrics")


async def test_while_nothing_can_be_recorded_no_recovery_is_told(
    registry_url: str, redis_server: RedisServer, start: Callable[..., Worker], owner: Any
) -> None:
    await register(registry_url, "redis", redis_server.url(), OFTEN)
    worker = start()

    async def is_at_work() -> bool:
        return is_ready(worker) and bool(worker.events("check_finished"))

    await eventually(is_at_work, "the worker records what it finds")
    for number, (breaks, mends) in enumerate((REVOKED, RENAMED), 1):
        await outlive(worker, owner, number, breaks, mends)
    assert not worker.events("tick_failed")


async def outlive(worker: Worker, owner: Any, number: int, breaks: str, mends: str) -> None:
    """See trouble begin, last for three checks, and end; each is told once."""
    await owner.execute(breaks)

    async def is_told() -> bool:
        return len(worker.events("registry_unreachable")) == number

    await eventually(is_told, "the trouble is told, even just after another one", within=15)
    assert worker.events("registry_unreachable")[-1]["operation"] == "record"
    checks = len(worker.events("check_finished"))

    async def goes_on() -> bool:
        assert not is_ready(worker)
        assert not is_up(worker)
        assert len(worker.events("registry_recovered")) == number - 1
        return len(worker.events("check_finished")) >= checks + 3

    await eventually(goes_on, "the row is checked on from memory", within=25)
    await owner.execute(mends)

    async def is_over() -> bool:
        return len(worker.events("registry_recovered")) == number

    await eventually(is_over, "the recovery is told")

    async def is_recorded() -> bool:
        return "database_health_results_pending 0.0" in worker.page("/metrics")

    await eventually(is_recorded, "what waited is recorded")
    assert is_ready(worker)
    assert is_up(worker)
    assert len(worker.events("registry_unreachable")) == number
