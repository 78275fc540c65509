"""Trouble with the registry is waited out, said once a minute, and never grows."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from testbed.fakes import FakeMeter, Lines
from testbed.misbehaving import MisbehavingServer, mute, saying
from testbed.ports import free_port
from testbed.postgresql import PostgreSQLServer
from worker.claims import LAGGARD_SECONDS
from worker.errors import (
    BadResultsError,
    RegistryRefusedError,
    RegistryUnavailableError,
    SchemaError,
)
from worker.outbox import LINGER_SECONDS, RETRY_SECONDS
from worker.registry_connection import AFTERSHOCK_SECONDS, RegistryConnection
from worker.registry_troubles import (
    ABANDONED_SECONDS,
    MAX_BACK_OFF_SECONDS,
    MAX_REFUSALS,
    Troubles,
)
from worker.words import Event

HOURS_OF_FAILURES = 1200
STALLS = range(12)
"""Turns of the loop after which it stalls: in one of them the driver is between two steps."""
QUOTIENT = "select 1 / $1::int"
BROKEN, WORKING = (QUOTIENT, 0), (QUOTIENT, 1)
READ_ONLY = "do 'begin set transaction_read_only = on; create table t (); end'"
WRITING = "select * from platform.claim_databases(1, 1, '0', '0')"
LOST = "select pg_terminate_backend(pg_backend_pid())"


class Bench:
    def __init__(self, url: str, timeout: float = 0.3) -> None:
        self.log = Lines()
        self.meter = FakeMeter()

        async def connected() -> None:
            return

        self.connection = RegistryConnection(url, timeout, self.log, self.meter, connected)

    @classmethod
    def at(cls, port: int, options: str = "") -> Bench:
        return cls(f"postgresql://a:b@127.0.0.1:{port}/c{options}")

    def resume(self) -> None:
        """End every back-off."""
        for trouble in self.connection._troubles._of.values():
            trouble.resume_at = time.monotonic()

    async def fail(
        self, operation: str = "claim", statement: str = "select 1", *arguments: object
    ) -> str:
        """Call it whatever back-off runs, and return what it says."""
        self.resume()
        with pytest.raises(RegistryUnavailableError) as caught:
            await self.connection.fetch(operation, statement, *arguments)
        return str(caught.value)

    async def refuse(self, statement: str, *arguments: object) -> None:
        """Call what the registry may refuse for some of its data alone."""
        self.resume()
        with pytest.raises(BadResultsError):
            await self.connection.read(
                len, "record", statement, *arguments, on_bad_data=BadResultsError
            )

    async def work(self, operation: str) -> None:
        self.resume()
        await self.connection.fetch(operation, *WORKING)

    def told(self) -> list[Event]:
        return [line.event for line in self.log]

    def is_usable(self) -> bool:
        assert self.meter.is_usable is self.connection.is_usable
        return self.connection.is_usable


@pytest.fixture
async def nobody() -> AsyncIterator[Bench]:
    bench = Bench.at(free_port())
    yield bench
    await bench.connection.close()


@pytest.fixture
async def somebody(worker_url: str) -> AsyncIterator[Bench]:
    """A registry that was in use already."""
    bench = Bench(worker_url, timeout=10)
    await bench.work("tend")
    yield bench
    await bench.connection.close()


async def test_an_outage_may_last_for_hours(nobody: Bench) -> None:
    for _ in range(HOURS_OF_FAILURES):
        await nobody.fail()
    wait = longest_wait(nobody.connection._troubles)
    assert MAX_BACK_OFF_SECONDS - 1 < wait <= MAX_BACK_OFF_SECONDS
    assert len(nobody.log.of(Event.REGISTRY_UNREACHABLE)) == 1
    assert nobody.meter.is_usable is False


async def test_however_long_an_outage_a_replica_is_back_before_others_claim_what_it_remembers(
    nobody: Bench,
) -> None:
    for _ in range(20):
        await nobody.fail()
    wait = longest_wait(nobody.connection._troubles)
    assert wait + RETRY_SECONDS + LINGER_SECONDS < LAGGARD_SECONDS


async def test_calls_that_fail_together_count_once_for_the_back_off(nobody: Bench) -> None:
    await asyncio.gather(*(nobody.fail() for _ in range(4)))
    assert longest_wait(nobody.connection._troubles) < 1


def longest_wait(troubles: Troubles) -> float:
    return max(trouble.resume_at for trouble in troubles._of.values()) - time.monotonic()


async def test_while_a_back_off_runs_nobody_is_asked(nobody: Bench) -> None:
    await nobody.fail()
    for _ in range(3):
        with pytest.raises(RegistryUnavailableError):
            await nobody.connection.fetch("claim", "select 1")
    assert nobody.meter.failed == ["claim"]


async def test_a_registry_that_is_silent_keeps_no_call_beyond_its_bound() -> None:
    with MisbehavingServer(mute) as server:
        bench = Bench.at(server.port)
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
        bench = Bench.at(server.port)
        assert await bench.fail()
        await bench.connection.close()


async def test_a_registry_without_the_tls_that_its_url_demands_is_not_waited_for() -> None:
    with MisbehavingServer(saying(b"N")) as server:
        bench = Bench.at(server.port, "?sslmode=require")
        with pytest.raises(RegistryRefusedError, match="speaks no TLS"):
            await bench.connection.fetch("claim", "select 1")
        await bench.connection.close()


async def test_an_operation_that_failed_is_not_cured_by_another_one_that_works(
    somebody: Bench,
) -> None:
    await somebody.fail("record", *BROKEN)
    for operation in ("tend", "claim", "snapshot", "announce", "give_back"):
        await somebody.work(operation)
        assert not somebody.is_usable()
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE]
    await somebody.work("record")
    assert somebody.is_usable()
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE, Event.REGISTRY_RECOVERED]


@pytest.mark.parametrize("statement", [READ_ONLY, LOST], ids=["read-only", "lost"])
async def test_an_outage_is_over_with_whatever_writes_first(
    somebody: Bench, statement: str
) -> None:
    await somebody.fail("record", statement)
    await somebody.work("snapshot")
    assert not somebody.is_usable()
    await somebody.work("tend")
    assert somebody.is_usable()
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE, Event.REGISTRY_RECOVERED]


async def test_a_registry_that_can_only_be_read_is_not_usable(worker_url: str) -> None:
    bench = Bench(worker_url, timeout=10)
    await bench.work("snapshot")
    assert not bench.connection.is_usable
    await bench.work("tend")
    assert bench.is_usable()
    await bench.connection.close()


@pytest.mark.parametrize(
    ("seconds", "lines"), [(AFTERSHOCK_SECONDS + 0.1, 2), (0.0, 1)], ids=["lasts", "is over"]
)
async def test_trouble_within_a_minute_of_the_last_is_told_once_it_lasts(
    somebody: Bench, seconds: float, lines: int
) -> None:
    await somebody.fail("record", *BROKEN)
    await somebody.work("record")
    await somebody.fail("record", *BROKEN)
    somebody.connection._troubles._since -= seconds
    await somebody.fail("record", *BROKEN)
    await somebody.work("record")
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE, Event.REGISTRY_RECOVERED] * lines


async def test_while_nothing_can_be_recorded_nothing_is_claimed_before_the_next_try(
    somebody: Bench,
) -> None:
    said = await somebody.fail("record", *BROKEN)
    for operation in ("record", "tend", "claim"):
        with pytest.raises(RegistryUnavailableError, match=re.escape(said)):
            await somebody.connection.fetch(operation, *WORKING)
    await somebody.connection.fetch("snapshot", *WORKING)


async def test_a_lease_that_could_not_be_given_back_once_is_no_lasting_trouble(
    somebody: Bench,
) -> None:
    await somebody.fail("give_back", *BROKEN)
    assert not somebody.is_usable()
    await somebody.work("tend")
    assert somebody.is_usable()


async def test_a_registry_that_cannot_be_reached_explains_all_that_failed_before(
    somebody: Bench, cluster: PostgreSQLServer, registry_database: str
) -> None:
    await somebody.fail("snapshot", *BROKEN)
    try:
        cluster.execute(f"alter database {registry_database} allow_connections false")
        await somebody.fail("tend", LOST)
        await somebody.fail("tend")
    finally:
        cluster.execute(f"alter database {registry_database} allow_connections true")
    await somebody.work("tend")
    assert somebody.is_usable()


async def test_a_setting_that_stops_a_session_is_over_once_it_is_mended(
    somebody: Bench, cluster: PostgreSQLServer, registry_database: str
) -> None:
    cluster.execute(f"alter database {registry_database} set default_transaction_read_only = on")
    await somebody.fail("claim", LOST)
    assert await somebody.fail("claim", WRITING) == "it is read-only"
    cluster.execute(f"alter database {registry_database} reset default_transaction_read_only")
    somebody.resume()
    await somebody.connection.fetch("claim", WRITING)
    assert somebody.is_usable()


async def test_a_registry_is_asked_on_the_same_connection_after_data_that_it_refuses(
    somebody: Bench,
) -> None:
    (before,) = await somebody.connection.fetch("read", "select pg_backend_pid()")
    await somebody.refuse("select 'x'::text::int")
    (after,) = await somebody.connection.fetch("read", "select pg_backend_pid()")
    assert after == before


@pytest.mark.parametrize(
    "statement",
    [
        "select (select generate_series(1, 2))",
        "do 'begin raise exception ''no'' using errcode = ''MY001''; end'",
    ],
    ids=["two rows for one", "a code of its own"],
)
async def test_what_may_be_the_fault_of_some_data_is_a_trouble_once_less_does_not_help(
    somebody: Bench, statement: str
) -> None:
    for _ in range(2):
        for _ in range(MAX_REFUSALS):
            await somebody.refuse(statement)
        with pytest.raises(RegistryUnavailableError):
            await somebody.connection.read(len, "record", statement, on_bad_data=BadResultsError)
        assert not somebody.is_usable()


async def test_refusals_are_no_trouble_as_long_as_less_data_helps(somebody: Bench) -> None:
    for _ in range(2):
        for _ in range(MAX_REFUSALS):
            await somebody.refuse(*BROKEN)
        await somebody.connection.read(len, "record", *WORKING)
    assert somebody.is_usable()


def read_another_shape(rows: Sequence[Any]) -> object:
    return rows[0]["a column of another build"]


async def test_an_answer_in_another_shape_is_a_trouble_of_that_function(somebody: Bench) -> None:
    for _ in range(2):
        somebody.resume()
        with pytest.raises(RegistryUnavailableError, match="schema apply"):
            await somebody.connection.read(read_another_shape, "claim", *WORKING)
    await somebody.work("tend")
    assert not somebody.is_usable()
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE]
    await somebody.work("claim")
    assert somebody.is_usable()


async def test_an_answer_in_another_shape_at_the_start_says_what_to_do(worker_url: str) -> None:
    bench = Bench(worker_url, timeout=10)
    with pytest.raises(SchemaError, match="schema apply"):
        await bench.connection.read(read_another_shape, "claim", *WORKING)
    await bench.connection.close()


async def test_a_schema_without_a_version_is_an_older_one(
    cluster: PostgreSQLServer, registry_database: str, worker_url: str
) -> None:
    cluster.execute(
        "create or replace function platform.health_worker_schema_version() returns integer"
        " language sql as 'select null::integer'",
        registry_database,
    )
    bench = Bench(worker_url, timeout=10)
    with pytest.raises(SchemaError, match="schema apply"):
        await bench.connection.fetch("claim", *WORKING)
    await bench.connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "select 1 / (1 - $1::int)",
        "select timestamptz '0001-01-02 UTC' - make_interval(years => $1)",
        "select timestamptz '9999-12-30 UTC' + make_interval(years => $1)",
    ],
    ids=["division by zero", "before Christ", "far ahead"],
)
async def test_data_that_cannot_be_read_is_a_trouble_of_that_operation_until_it_works(
    somebody: Bench, statement: str
) -> None:
    await somebody.fail("claim", statement, 1)
    await somebody.work("tend")
    assert not somebody.is_usable()
    assert [line.facts["operation"] for line in somebody.log] == ["claim"]
    assert somebody.meter.failed == ["claim"]
    somebody.resume()
    await somebody.connection.fetch("claim", statement, 0)
    assert somebody.is_usable()


async def test_a_statement_that_failed_is_not_cured_by_another_one_of_its_operation(
    somebody: Bench,
) -> None:
    for _ in range(3):
        await somebody.connection.fetch("snapshot", "select 1")
        await somebody.fail("snapshot", *BROKEN)
        assert not somebody.is_usable()
    await somebody.connection.fetch("snapshot", "select 1")
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE]
    await somebody.work("snapshot")
    assert somebody.told() == [Event.REGISTRY_UNREACHABLE, Event.REGISTRY_RECOVERED]


async def test_a_statement_that_nobody_needs_any_more_is_no_lasting_trouble(
    somebody: Bench,
) -> None:
    await somebody.fail("snapshot", *BROKEN)
    await somebody.connection.fetch("snapshot", "select 1")
    assert not somebody.is_usable()
    for trouble in somebody.connection._troubles._of.values():
        trouble.resume_at -= ABANDONED_SECONDS + MAX_BACK_OFF_SECONDS
    await somebody.connection.fetch("snapshot", "select 1")
    assert somebody.is_usable()


async def test_a_call_that_a_stall_of_the_loop_takes_beyond_its_bound_is_one_without_answer(
    worker_url: str,
) -> None:
    bench = Bench(worker_url, timeout=0.3)
    await bench.work("tend")
    for stall in STALLS:
        bench.resume()
        call = asyncio.create_task(bench.connection.fetch("claim", "select 1"))
        for _ in range(stall):
            await asyncio.sleep(0)
        time.sleep(0.35)  # noqa: ASYNC251 -- it is the stall
        with suppress(RegistryUnavailableError):
            await call
    await bench.connection.close()
