"""Trouble with the registry is waited out, said once a minute, and never grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from testbed.fakes import FakeMeter, Lines
from testbed.misbehaving import MisbehavingServer, mute, saying
from testbed.ports import free_port
from worker.errors import RegistryRefusedError, RegistryUnavailableError
from worker.model import Event
from worker.registry_connection import MAX_BACK_OFF_SECONDS, RegistryConnection

HOURS_OF_FAILURES = 1200


class Bench:
    def __init__(self, port: int, options: str = "") -> None:
        self.log = Lines()
        self.meter = FakeMeter()

        async def connected() -> None:
            return

        self.connection = RegistryConnection(
            f"postgresql://a:b@127.0.0.1:{port}/c{options}", 0.3, self.log, self.meter, connected
        )

    async def fail(self) -> str:
        """Call it whatever back-off runs, and return what it says."""
        self.connection._resume_at = 0.0
        with pytest.raises(RegistryUnavailableError) as caught:
            await self.connection.fetch("claim", "select 1")
        return str(caught.value)


@pytest.fixture
async def nobody() -> AsyncIterator[Bench]:
    bench = Bench(free_port())
    yield bench
    await bench.connection.close()


async def test_an_outage_may_last_for_hours(nobody: Bench) -> None:
    for _ in range(HOURS_OF_FAILURES):
        await nobody.fail()
    wait = nobody.connection._resume_at - time.monotonic()
    assert MAX_BACK_OFF_SECONDS - 1 < wait <= MAX_BACK_OFF_SECONDS
    assert len(nobody.log.of(Event.REGISTRY_UNREACHABLE)) == 1
    assert nobody.meter.is_usable is False


async def test_calls_that_fail_together_count_once_for_the_back_off(nobody: Bench) -> None:
    await asyncio.gather(*(nobody.fail() for _ in range(4)))
    assert nobody.connection._resume_at - time.monotonic() < 1


async def test_while_a_back_off_runs_nobody_is_asked(nobody: Bench) -> None:
    await nobody.fail()
    for _ in range(3):
        with pytest.raises(RegistryUnavailableError):
            await nobody.connection.fetch("claim", "select 1")
    assert nobody.meter.failed == ["claim"]


async def test_a_registry_that_is_silent_keeps_no_call_beyond_its_bound() -> None:
    with MisbehavingServer(mute) as server:
        bench = Bench(server.port)
        began = time.monotonic()
        said = await asyncio.gather(*(bench.fail() for _ in range(8)))
        assert time.monotonic() - began < 8 * 0.3, "they do not wait one after another"
        assert set(said) == {"it did not answer within REGISTRY_TIMEOUT_SECONDS"}
        await bench.connection.close()


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"N" * 5000, b"\0" * 99], ids=["HTTP", "N", "0"]
)
async def test_whatever_stands_in_the_registrys_place_is_waited_out(words: bytes) -> None:
    with MisbehavingServer(saying(words)) as server:
        bench = Bench(server.port)
        assert await bench.fail()
        await bench.connection.close()


async def test_a_registry_without_the_tls_that_its_url_demands_is_not_waited_for() -> None:
    with MisbehavingServer(saying(b"N")) as server:
        bench = Bench(server.port, "?sslmode=require")
        with pytest.raises(RegistryRefusedError, match="speaks no TLS"):
            await bench.connection.fetch("claim", "select 1")
        await bench.connection.close()
