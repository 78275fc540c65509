"""Starts without a registry, ends within the grace, and ends itself when it is stuck."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import asyncpg
import pytest

from testbed.ports import free_port
from testbed.stuck_worker import BLOCK_AFTER_SECONDS, StuckWorker
from testbed.worker import Worker, eventually, register, told
from worker.signals import MARGIN_SECONDS

SLOW = '{"commandTimeout": 20000, "retryStrategy": {"maxAttempts": 1}}'


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept by the kernel alone, and never say a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield listening.getsockname()[1]


async def is_alive(worker: Worker) -> None:
    async def answers() -> bool:
        try:
            return bool(worker.page("/healthz"))
        except OSError:
            return False

    await eventually(answers, "the worker answers")


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0])
def test_sigterm_at_any_moment_of_the_start_ends_it_without_a_traceback(
    worker_url: str, tmp_path: Path, delay: float
) -> None:
    with Worker(worker_url, tmp_path) as worker:
        time.sleep(delay)
        began = time.monotonic()
        assert worker.stop() in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
        assert time.monotonic() - began < 5
        assert "Traceback" not in worker.log.read_text()


@pytest.mark.parametrize("registry", ["refused", "silent", "nowhere"])
async def test_sigterm_before_the_registry_answers_ends_it_with_0(
    tmp_path: Path, registry: str
) -> None:
    with silent_server() as port:
        place = {
            "refused": f"127.0.0.1:{free_port()}",
            "silent": f"127.0.0.1:{port}",
            "nowhere": "registry.invalid:5432",
        }[registry]
        with Worker(f"postgresql://a:b@{place}/c", tmp_path) as worker:
            await is_alive(worker)
            began = time.monotonic()
            assert worker.stop() == 0
            assert time.monotonic() - began < 5


async def test_running_checks_end_within_the_grace_and_the_cut_ones_give_their_lease_back(
    registry_url: str, start: Callable[..., Worker]
) -> None:
    with silent_server() as port:
        await register(registry_url, "redis", f"redis://127.0.0.1:{port}", SLOW)
        worker = start(SHUTDOWN_GRACE_SECONDS="3")

        async def runs() -> bool:
            return "database_health_checks_in_flight 1.0" in worker.page("/metrics")

        await is_alive(worker)
        await eventually(runs, "the check runs")
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 3 + 1
        connection = await asyncpg.connect(registry_url)
        (row,) = await connection.fetch(
            "select leased_until, due_at <= now() as is_due from platform.database_schedules"
        )
        await connection.close()
        assert (row["leased_until"], row["is_due"]) == (None, True)


async def test_a_second_signal_ends_it_at_once(
    registry_url: str, start: Callable[..., Worker]
) -> None:
    with silent_server() as port:
        await register(registry_url, "redis", f"redis://127.0.0.1:{port}", SLOW)
        worker = start(SHUTDOWN_GRACE_SECONDS="20")

        async def runs() -> bool:
            return "database_health_checks_in_flight 1.0" in worker.page("/metrics")

        await is_alive(worker)
        await eventually(runs, "the check runs")
        worker.process.terminate()

        await told(worker, "worker_draining")
        began = time.monotonic()
        assert worker.stop() == 1
        assert time.monotonic() - began < 2
        assert worker.events("worker_stopped")


async def test_a_worker_whose_loop_is_blocked_turns_unhealthy_and_ends_itself(
    worker_url: str, tmp_path: Path
) -> None:
    with StuckWorker(worker_url, tmp_path, ALIVE_SECONDS="2", STUCK_SECONDS="5") as worker:
        await is_alive(worker)

        async def is_unhealthy() -> bool:
            try:
                worker.page("/healthz")
            except HTTPError as error:
                return error.code == 503
            return False

        await eventually(is_unhealthy, "the page answers though the loop is blocked, and says so")
        assert worker.process.wait(timeout=10) == 1
        (last,) = worker.events("worker_stopped")
        assert (last["level"], "stuck" in last["message"]) == ("error", True)


async def test_a_worker_whose_loop_is_blocked_ends_after_its_grace_all_the_same(
    worker_url: str, tmp_path: Path
) -> None:
    with StuckWorker(worker_url, tmp_path, SHUTDOWN_GRACE_SECONDS="1") as worker:
        await is_alive(worker)
        await asyncio.sleep(2 * BLOCK_AFTER_SECONDS)
        began = time.monotonic()
        assert worker.stop() == 1
        assert time.monotonic() - began < 1 + MARGIN_SECONDS + 1
