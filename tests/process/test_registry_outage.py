"""The registry goes away under a running worker, in each way that it may, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from urllib.error import HTTPError

import asyncpg
import pytest

from testbed.lossy import LossyRoute
from testbed.misbehaving import MisbehavingServer
from testbed.outage import WAYS, Outage
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.worker import Worker, eventually, register, told

ONCE = '{"healthCheck": {"intervalSeconds": 5}, "retryStrategy": {"maxAttempts": 1}}'
INTERVAL_SECONDS = 10
ROWS = 120
SELDOM = f'{{"healthCheck": {{"intervalSeconds": {INTERVAL_SECONDS}}}}}'
WITHIN_SECONDS = 40.0


@pytest.fixture
def steady() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def falling() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@contextmanager
def outage_of(way: str) -> Iterator[Outage]:
    with ExitStack() as stack:
        registry = stack.enter_context(RegistryServer())
        standby = None
        if way == "failed over":
            standby = stack.enter_context(registry.standby())
        yield Outage(way, registry, standby)


class Observer:
    """One worker on one registry, and what is to be seen of both."""

    def __init__(self, outage: Outage, worker: Worker) -> None:
        self.outage = outage
        self.worker = worker

    def status_code(self, path: str) -> int:
        try:
            self.worker.page(path)
        except HTTPError as error:
            return error.code
        return 200

    def series(self, name: str) -> list[float]:
        lines = self.worker.page("/metrics").splitlines()
        return sorted(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def count(self, event: str) -> int:
        return len(self.worker.events(event))

    async def until(self, event: str, count: int) -> None:
        async def is_there() -> bool:
            return self.count(event) >= count

        what = f"{self.outage.way}: {count} times {event}"
        await eventually(is_there, what, within=WITHIN_SECONDS)

    async def until_recorded(self) -> None:
        async def is_recorded() -> bool:
            if self.series("database_health_results_pending") != [0]:
                return False
            connection = await asyncpg.connect(self.outage.server.url())
            rows = await connection.fetch("select health_check_status from platform.databases")
            untold = await connection.fetchval(
                "select count(*) from platform.database_health_changes where announced_at is null"
            )
            await connection.close()
            statuses = sorted(row["health_check_status"] for row in rows)
            return not untold and statuses == ["healthy", "unhealthy"]

        what = f"{self.outage.way}: what waited is recorded, and told"
        await eventually(is_recorded, what, within=WITHIN_SECONDS)

    async def leases(self) -> int:
        return int(
            self.outage.server.execute(
                "select count(*) from platform.database_schedules where leased_until > now()"
            )
        )


@pytest.mark.timeout(180)
async def test_checks_go_on_through_any_outage_and_nothing_is_lost_or_said_twice(
    tmp_path: Path, steady: RedisServer, falling: RedisServer
) -> None:
    with ExitStack() as stack:
        observers = []
        for way in WAYS:
            outage = stack.enter_context(outage_of(way))
            for target in (steady, falling):
                await register(outage.registry.url(), "redis", target.url(), ONCE)
            url = outage.registry.worker_url
            worker = Worker(url, tmp_path, REGISTRY_TIMEOUT_SECONDS="1")
            observers.append(Observer(outage, stack.enter_context(worker)))
        for observer in observers:
            await observer.until("database_health_changed", 2)
        for observer in observers:
            observer.outage.begin()
        falling.stop()
        async with asyncio.TaskGroup() as group:
            for observer in observers:
                group.create_task(outlive(observer))


async def outlive(observer: Observer) -> None:
    await observer.until("database_health_changed", 3)
    change = observer.worker.events("database_health_changed")[-1]
    assert (change["status"], change["recorded"], change["change_id"]) == ("unhealthy", False, None)
    await observer.until("check_finished", observer.count("check_finished") + 3)
    assert observer.status_code("/readyz") == 503
    assert observer.status_code("/healthz") == 200
    assert observer.series("database_health_registry_up") == [0]
    assert observer.series("database_health_results_pending") == [2]
    assert observer.series("database_health_up{") == [0, 1]

    observer.outage.end()
    await observer.until_recorded()
    assert observer.status_code("/readyz") == 200
    await observer.until("check_finished", observer.count("check_finished") + 3)
    await observer.until_recorded()
    assert observer.count("database_health_changed") == 3, "a change is not told twice"
    assert observer.count("registry_unreachable") == 1
    assert observer.count("registry_recovered") == 1
    assert observer.worker.stop() == 0
    errors = [event for event in observer.worker.all_events() if event["level"] == "error"]
    assert {event["event"] for event in errors} == {
        "registry_unreachable",
        "database_health_changed",
    }
    assert await observer.leases() == 0


@pytest.mark.timeout(120)
async def test_a_change_is_told_once_though_the_answer_to_its_record_is_lost(
    tmp_path: Path, falling: RedisServer
) -> None:
    with RegistryServer() as registry:
        route = LossyRoute(registry.port, b'"reason": "refused"')
        await register(registry.url(), "redis", falling.url(), ONCE)
        with MisbehavingServer(route.converse) as door:
            url = registry.worker_url.replace(f":{registry.port}/", f":{door.port}/")
            with Worker(url, tmp_path) as worker:
                observer = Observer(Outage("lossy", registry), worker)
                await observer.until("database_health_changed", 1)
                route.is_lossy = True
                falling.stop()
                await observer.until("database_health_changed", 2)
                route.is_lossy = False
                marked = "select count(announced_at) from platform.database_health_changes"

                async def are_marked() -> bool:
                    return int(registry.execute(marked)) == 2

                await eventually(are_marked, "both changes are marked", within=90)
                assert [
                    change["recorded"] for change in worker.events("database_health_changed")
                ] == [
                    True,
                    False,
                ]


def checks(*workers: Worker) -> dict[str, list[float]]:
    """Read when they checked which row, in POSIX timestamps, the oldest first."""
    moments: dict[str, list[float]] = {}
    for event in (event for worker in workers for event in worker.events("check_finished")):
        moment = datetime.fromisoformat(event["timestamp"]).timestamp()
        moments.setdefault(event["database_id"], []).append(moment)
    return {row: sorted(times) for row, times in moments.items()}


def checked_since(before: dict[str, list[float]], *workers: Worker) -> set[str]:
    now = checks(*workers)
    return {row for row, times in now.items() if len(times) > len(before.get(row, ()))}


@pytest.mark.timeout(120)
async def test_who_is_back_first_checks_no_row_that_a_laggard_has_checked_from_memory(
    tmp_path: Path, steady: RedisServer
) -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(RegistryServer())
        for number in range(ROWS):
            await register(registry.url(), "redis", steady.url(), SELDOM, name=str(number))
        both = [stack.enter_context(Worker(registry.worker_url, tmp_path)) for _ in range(2)]
        first, laggard = both

        async def both_work() -> bool:
            return all(sum(map(len, checks(each).values())) > ROWS / 2 for each in both)

        await eventually(both_work, "both replicas check rows", within=WITHIN_SECONDS)
        registry.stop()
        before = [checks(each) for each in both]

        async def laggard_goes_on() -> bool:
            return len(checked_since(before[1], laggard)) > ROWS / 4

        await eventually(laggard_goes_on, "the laggard checks rows from memory")
        os.kill(laggard.process.pid, signal.SIGSTOP)
        # Claimed by one just before the outage, and remembered by the other.
        of_both = checked_since(before[0], first) & checked_since(before[1], laggard)
        registry.start()
        await told(first, "registry_recovered")
        os.kill(laggard.process.pid, signal.SIGCONT)
        await told(laggard, "registry_recovered")
        seen = checks(*both)

        async def all_are_checked_again() -> bool:
            return len(checked_since(seen, *both)) == ROWS

        await eventually(all_are_checked_again, "every row is checked again")
        moments = checks(*both)
    gaps = {row: min(b - a for a, b in pairwise(times)) for row, times in moments.items()}
    doubled = {row for row, gap in gaps.items() if gap < INTERVAL_SECONDS / 2 - 0.5}
    assert doubled <= of_both
