"""SIGTERM while targets misbehave in every way and the registry is in trouble, too."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from threading import Event
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from chaos.ground import Rows, fetch, fill
from testbed.certificates import Certificates
from testbed.faketime import FakeClock
from testbed.faulty_nameserver import HANGS, FaultyNameserver
from testbed.misbehaving import Caller, MisbehavingServer
from testbed.namespace import may_make_namespaces, with_resolv_conf
from testbed.postgresql import PostgreSQLOptions
from testbed.registry import RegistryServer
from testbed.worker import Worker, eventually, told
from tests.faults.dialects import POSTGRESQL, REDIS
from tests.faults.mongodb_cases import MONGODB
from tests.faults.socket_faults import makers_of_sockets
from tests.faults.stage import Stage
from worker.dispatch import GOODBYE_SECONDS
from worker.signals import MARGIN_SECONDS

GRACE_SECONDS = 3.0
AT_ONCE_SECONDS = 1.5
HOUR_SECONDS = 3600
DNS_PORT = 53
LASTING: Mapping[str, Any] = {
    "connectTimeout": 20_000,
    "commandTimeout": 20_000,
    "serverSelectionTimeoutMS": 20_000,
    "retryStrategy": {"maxAttempts": 3, "delay": 9_000},
    "healthCheck": {"intervalSeconds": 5},
}
"""What does not end by itself, or waits for its next attempt, is still running at the signal."""
LOCK = "lock table platform.databases, platform.database_schedules in access exclusive mode"
OURS = "from pg_stat_activity where application_name = 'database-health-worker'"
OURS += " and datname = current_database()"
STUCK = f"select pid {OURS} and wait_event_type = 'Lock'"
CUT = f"select pg_terminate_backend(pid) {OURS}"
SESSIONS = f"select count(*) {OURS}"
LEASED = "select database_id from platform.database_schedules where leased_until is not null"
ANSWERED = "select health_check_status from platform.databases where name = 'answers 1'"
RUNNING = re.compile(r"^database_health_checks_in_flight (\S+)$", re.MULTILINE)


class Trouble:
    """What happens to a registry around the signal; here nothing at all."""

    is_over_in_time = True
    """Whether what ends within the grace can be recorded, and the rest given back."""

    def __init__(self, url: str, worker_url: str, _: Path) -> None:
        self.url, self.worker_url = url, worker_url
        self.environment: Mapping[str, str] = {}
        """Of the worker."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release what it holds."""

    async def begin(self) -> None:
        """Do it before the signal."""

    async def go_on(self) -> None:
        """Do more after the signal."""

    async def end(self) -> None:
        """Undo it once the worker has ended."""

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute(statement)
        await connection.close()


class ReadOnly(Trouble):
    is_over_in_time = False

    async def begin(self) -> None:
        database = urlsplit(self.url).path[1:]
        await self.execute(f"alter database {database} set default_transaction_read_only = on")
        await self.execute(CUT)


class Locked(Trouble):
    is_over_in_time = False
    locking: asyncpg.Connection[Any]

    async def begin(self) -> None:
        self.locking = await asyncpg.connect(self.url)
        await self.locking.execute(f"begin; {LOCK}")

    async def end(self) -> None:
        await self.locking.close()


class Cut(Locked):
    """Connections cut in the midst of their statements, when there is hardly any time left."""

    is_over_in_time = True

    async def go_on(self) -> None:
        await asyncio.sleep(GRACE_SECONDS - 0.7 * GOODBYE_SECONDS)
        assert await fetch(self.url, STUCK)
        await self.execute(CUT)
        await self.locking.close()

    async def end(self) -> None:
        """Nothing is left to undo."""


class ServerOfItsOwn(Trouble):
    def __init__(self, url: str, worker_url: str, folder: Path) -> None:
        super().__init__(url, worker_url, folder)
        self.registry = RegistryServer()

    def __enter__(self) -> Self:
        self.registry.__enter__()
        self.url, self.worker_url = self.registry.url(), self.registry.worker_url
        return self

    def __exit__(self, *_: object) -> None:
        self.registry.close()


class Stopped(ServerOfItsOwn):
    is_over_in_time = False

    async def begin(self) -> None:
        await asyncio.to_thread(self.registry.stop)

    async def end(self) -> None:
        await asyncio.to_thread(self.registry.start)


class Silent(ServerOfItsOwn):
    is_over_in_time = False

    async def begin(self) -> None:
        self.registry.pause()

    async def end(self) -> None:
        self.registry.resume()


class ClocksMoved(ServerOfItsOwn):
    def __init__(self, url: str, worker_url: str, folder: Path) -> None:
        super().__init__(url, worker_url, folder)
        places = folder / "worker-clock", folder / "registry-clock"
        for place in places:
            place.mkdir()
        self.ours, self.theirs = map(FakeClock, places)
        self.environment = self.ours.environment
        settings = {"synchronous_commit": "on"}
        options = PostgreSQLOptions(settings=settings, environment=self.theirs.environment)
        self.registry = RegistryServer(options)

    async def begin(self) -> None:
        self.ours.set(HOUR_SECONDS)
        self.theirs.set(-HOUR_SECONDS)


class WorkerWithNames(Worker):
    """A worker whose nameserver leaves one name without an answer."""

    def __init__(self, url: str, folder: Path, launcher: list[str], **environment: str) -> None:
        self.launcher = launcher
        super().__init__(url, folder, SHUTDOWN_GRACE_SECONDS=f"{GRACE_SECONDS:g}", **environment)


@contextmanager
def hanging_names(folder: Path) -> Iterator[list[str]]:
    """Lend the beginning of a command whose look-ups of HANGS hang; nothing but for root."""
    if not may_make_namespaces():
        yield []
        return
    high, low = divmod(os.getpid() % 65_024, 254)
    host = f"127.53.{high}.{low + 1}"
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {host}\n")
    with FaultyNameserver(host=host, port=DNS_PORT):
        yield list(with_resolv_conf(resolv))


@asynccontextmanager
async def every_fault(certificates: Certificates) -> AsyncIterator[list[Rows]]:
    """Make every fault that a misbehaving socket can make, for every engine."""
    rows: list[Rows] = []
    async with AsyncExitStack() as stack:
        stage = Stage(certificates, stack.enter_context(ExitStack()))
        for dialect in (REDIS, POSTGRESQL, MONGODB):
            for name, make in makers_of_sockets(dialect).items():
                case = await stack.enter_async_context(make(stage))
                rows.append(Rows(name, dialect.engine, case.url, config=LASTING))
            if may_make_namespaces():
                url = dialect.template.format(secret="secret", place=HANGS.rstrip("."))
                rows.append(Rows("hangs in its look-up", dialect.engine, url, config=LASTING))
        yield rows


def answering_after(gate: Event) -> Callable[[Caller], Any]:
    async def converse(caller: Caller) -> None:
        await caller.hear()
        await asyncio.to_thread(gate.wait)
        await caller.say(b"+PONG\r\n")
        await caller.hear()

    return converse


@asynccontextmanager
async def at_work(
    trouble: Trouble, certificates: Certificates, folder: Path
) -> AsyncIterator[tuple[Worker, Event]]:
    """Lend a worker in the midst of checking every fault, and what makes a last one answer."""
    gate = Event()
    async with AsyncExitStack() as stack:
        enter = stack.enter_context
        enter(trouble)
        rows = await stack.enter_async_context(every_fault(certificates))
        sure = enter(MisbehavingServer(answering_after(gate)))
        stack.callback(gate.set)
        url = f"redis://127.0.0.1:{sure.port}"
        await fill(trouble.url, *rows, Rows("answers", "redis", url, config=LASTING))
        launcher = enter(hanging_names(folder))
        worker = enter(WorkerWithNames(trouble.worker_url, folder, launcher, **trouble.environment))

        async def all_met() -> bool:
            if not sure.callers:
                return False
            ended = {(end["name"], end["engine"]) for end in worker.events("check_finished")}
            running = RUNNING.search(worker.page("/metrics"))
            return float(running[1] if running else 0) + len(ended) > len(rows)

        await eventually(all_met, "every row is being checked, or was")
        yield worker, gate


def has_stumbled(worker: Worker) -> bool:
    crashes = worker.events("check_crashed") + worker.events("tick_failed")
    return bool(crashes) or "Traceback" in worker.log.read_text()


@pytest.mark.parametrize("kind", [Trouble, Stopped, Silent, ReadOnly, Locked, Cut, ClocksMoved])
async def test_it_ends_within_the_grace_whatever_targets_and_registry_do(
    kind: type[Trouble],
    registry_url: str,
    worker_url: str,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    trouble = kind(registry_url, worker_url, tmp_path)
    async with at_work(trouble, certificates, tmp_path) as (worker, gate):
        assert not psutil.Process(worker.process.pid).children()
        await trouble.begin()
        began = time.monotonic()
        worker.process.terminate()
        gate.set()
        await trouble.go_on()
        code = await asyncio.to_thread(worker.process.wait, 3 * GRACE_SECONDS)
        assert time.monotonic() - began < GRACE_SECONDS + MARGIN_SECONDS
        assert code == 0
        assert not has_stumbled(worker)
        await trouble.end()

        async def nobody_is_left() -> bool:
            return not (await fetch(trouble.url, SESSIONS))[0][0]

        await eventually(nobody_is_left, "no session of the worker's is left")
        if trouble.is_over_in_time:
            assert (await fetch(trouble.url, ANSWERED))[0][0] == "healthy"
            assert not await fetch(trouble.url, LEASED)


async def test_a_second_signal_ends_it_at_once_whatever_it_waits_for(
    registry_url: str, worker_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    trouble = Locked(registry_url, worker_url, tmp_path)
    async with at_work(trouble, certificates, tmp_path) as (worker, _):
        await trouble.begin()
        worker.process.terminate()

        await told(worker, "worker_draining")
        began = time.monotonic()
        assert worker.stop() == 1
        assert time.monotonic() - began < AT_ONCE_SECONDS
        await trouble.end()


@pytest.mark.parametrize("kind", [ReadOnly, Locked])
async def test_sigterm_ends_a_start_in_trouble_with_0(
    kind: type[Trouble], registry_url: str, worker_url: str, tmp_path: Path
) -> None:
    trouble = kind(registry_url, worker_url, tmp_path)
    await trouble.begin()
    with Worker(worker_url, tmp_path) as worker:
        await told(worker, "worker_started")
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < GRACE_SECONDS
        assert not has_stumbled(worker)
    await trouble.end()
