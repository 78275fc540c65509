"""A registry that is merely not there yet is waited for; one that refuses us is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError

import asyncpg
import pytest

from testbed.misbehaving import MisbehavingServer, mute, saying
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.worker import Worker, eventually, health, register


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@contextmanager
def crowded(registry: RegistryServer) -> Iterator[None]:
    """Let nobody in with the code that a full server uses (53300)."""
    registry.execute("alter role health_worker_login connection limit 0")
    yield
    registry.execute("alter role health_worker_login connection limit -1")


@contextmanager
def absent(registry: RegistryServer) -> Iterator[None]:
    registry.stop()
    yield
    registry.start()


@contextmanager
def starting(registry: RegistryServer) -> Iterator[None]:
    """Let a standby that lets nobody in stand at the registry's address."""
    with registry.standby(hot=False) as standby:
        registry.stop()
        standby.stop()
        standby.port = registry.port
        standby.start()
        yield
        standby.stop()
        registry.start()


@contextmanager
def mistaken(registry: RegistryServer) -> Iterator[None]:
    """Let something that speaks HTTP stand at the registry's address, as a proxy may."""
    registry.stop()
    server = MisbehavingServer(saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n", then=mute))
    server.port = registry.port
    with server:
        yield
    registry.start()


WAYS = {"refused": absent, "starting": starting, "too many clients": crowded, "HTTP": mistaken}


@pytest.mark.parametrize("way", WAYS)
async def test_a_registry_that_is_not_there_yet_is_waited_for(
    registry: RegistryServer, redis_server: RedisServer, tmp_path: Path, way: str
) -> None:
    await register(registry.url(), "redis", redis_server.url())
    with ExitStack() as stack:
        with WAYS[way](registry):
            url = registry.worker_url
            worker = stack.enter_context(Worker(url, tmp_path, REGISTRY_TIMEOUT_SECONDS="2"))
            await eventually(lambda: waits(worker), "the worker says that it waits")
            (said,) = worker.events("registry_unreachable")
            assert (said["level"], "Traceback" in said["message"]) == ("error", False)

        async def is_checked() -> bool:
            return (await health(registry.url()))["redis"] == ("healthy", None)

        await eventually(is_checked, "the worker needs no restart")
        assert worker.stop() == 0
        assert not worker.events("tick_failed")
        assert len(worker.events("registry_unreachable")) == 1


async def test_a_name_that_does_not_resolve_is_waited_for(tmp_path: Path) -> None:
    with Worker("postgresql://a:b@registry.invalid/c", tmp_path) as worker:
        await eventually(lambda: waits(worker), "the worker says that it waits")
        assert "does not resolve" in worker.events("registry_unreachable")[0]["message"]
        assert worker.stop() == 0


async def waits(worker: Worker) -> bool:
    if worker.process.poll() is not None:
        raise AssertionError("the worker has ended")
    try:
        worker.page("/readyz")
    except HTTPError as error:
        return error.code == 503 and bool(worker.events("registry_unreachable"))
    except OSError:
        return False
    return False


async def test_a_schema_that_is_too_old_ends_it_with_one_line(
    registry_url: str, worker_url: str, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(registry_url)
    await connection.execute(
        "create or replace function platform.health_worker_schema_version()"
        " returns integer language sql immutable as 'select 7'"
    )
    await connection.close()
    with Worker(worker_url, tmp_path) as worker:
        assert worker.process.wait(timeout=20) == 1
        (last,) = worker.events("worker_stopped")
        assert "is at 7, this worker needs 8" in last["message"]
        assert "schema apply" in last["message"]
        assert len([line for line in worker.all_events() if line["level"] == "error"]) == 1
