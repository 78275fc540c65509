"""The registry's connections: bounded, told apart in trouble, waited for with back-off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from worker.errors import (
    RegistryRefusedError,
    RegistryUnavailableError,
    SchemaError,
    WorkerError,
)
from worker.ports import Log, Meter
from worker.registry_faults import (
    BAD_DATA,
    TROUBLE,
    concerns_all,
    may_be_of_some_data,
    read_fault,
)
from worker.registry_session import ask, terminate
from worker.registry_troubles import READS, Call, Troubles
from worker.words import Event

SCHEMA_VERSION = 8
"""The oldest version of the registry's functions that this worker can use."""
MAX_CONNECTIONS = 4
REMINDER_SECONDS = 60.0
AFTERSHOCK_SECONDS = 2.0
"""What is over by then is not told within a minute of the last line, such as a connection that an
outage broke and nobody used until now."""
TRIES = 3
"""Of a statement that loses against another one, as happens in a registry set to `serializable`."""
CLOCK_GRAIN_SECONDS = 0.01
"""A loop's timers may fire that much early."""
T = TypeVar("T")


class _UnreachedError(Exception):
    """No connection could be had; the cause says why."""


def _as_they_are(rows: Sequence[Any]) -> Sequence[Any]:
    return rows


def _read(reading: Callable[[Sequence[Any]], T], rows: Sequence[Any]) -> T:
    """Read rows; functions of another build answer in another shape under the same names."""
    try:
        return reading(rows)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SchemaError(
            "a function of the registry answers otherwise than this worker reads it: "
            "run `health-worker schema apply`"
        ) from error


async def _keep(_: object) -> None:
    """Leave a connection as it is: no call of ours changes its session."""


class RegistryConnection:
    """A pool that connects when it is needed and never keeps a caller past the timeout."""

    def __init__(
        self,
        url: str,
        timeout: float,
        log: Log,
        meter: Meter,
        on_connect: Callable[[], Awaitable[None]],
    ) -> None:
        """Take the registry's URL, a bound in seconds on any call, and who hears of connections."""
        self._url = url
        self._timeout = timeout
        self._pool = self._make_pool()
        self._on_connect = on_connect
        self.place = urlsplit(url).netloc.rpartition("@")[2]
        self._log = log
        self._meter = meter
        self._is_open = False
        self._is_proven = False
        self._has_written = False
        self._troubles = Troubles()
        self._reminded_at = -REMINDER_SECONDS
        self._is_announced = False
        """Whether the log tells of the trouble that lasts."""

    @property
    def is_usable(self) -> bool:
        """Whether it was written to, and whatever failed since works again."""
        return self._has_written and not self._troubles

    async def fetch(self, operation: str, statement: str, *arguments: object) -> Sequence[Any]:
        """Run one statement and return its rows; raises as `read` does."""
        return await self.read(_as_they_are, operation, statement, *arguments)

    async def read(
        self,
        reading: Callable[[Sequence[Any]], T],
        operation: str,
        statement: str,
        *arguments: object,
        on_bad_data: type[WorkerError] | None = None,
    ) -> T:
        """Run one statement and read its rows; it works only if they can be read.

        Raises:
            RegistryUnavailableError: it cannot be used just now, or a back-off is running.
            RegistryRefusedError, SchemaError: it has never been usable, and waiting won't help.
            WorkerError: the given class, where the registry may have refused the arguments for
                some of their data; without a class that is a trouble like any other.
        """
        call = operation, statement
        if fault := self._troubles.fault(call):
            raise RegistryUnavailableError(fault)
        try:
            answer = _read(reading, await self._fetch_again(statement, arguments))
        except (_UnreachedError, *TROUBLE, *BAD_DATA) as error:
            is_refusal = may_be_of_some_data(error)
            if on_bad_data and is_refusal and self._troubles.may_be_of_some_data(call):
                raise on_bad_data(f"the registry refused the data of {operation}") from error
            self._meter.registry_failed(operation)
            raise self._failed(call, error) from error
        self._succeeded(call)
        return answer

    async def close(self) -> None:
        """End every connection without waiting for a server that may be silent."""
        if self._is_open:
            self._pool.terminate()

    def _make_pool(self) -> Any:
        return asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            init=self._greet,
            reset=_keep,
            timeout=self._timeout,
            statement_cache_size=0,
            server_settings={"application_name": "database-health-worker"},
        )

    async def _fetch_again(self, statement: str, arguments: Sequence[object]) -> Sequence[Any]:
        """Run a statement, and anew where PostgreSQL rolled it back for others' sake."""
        for _ in range(TRIES - 1):
            with suppress(asyncpg.TransactionRollbackError):
                return await self._fetch(statement, arguments)
        return await self._fetch(statement, arguments)

    async def _fetch(self, statement: str, arguments: Sequence[object]) -> Sequence[Any]:
        """Terminate a connection that takes too long: cancelling would need a second one."""
        pool, loop = self._pool, asyncio.get_running_loop()
        end = loop.time() + self._timeout
        try:
            async with asyncio.timeout_at(end):
                await pool
                self._is_open = True
                connection = await pool.acquire()
        except TROUBLE as error:
            raise _UnreachedError from error
        if pool is not self._pool:  # replaced while this connection was being made
            terminate(connection)
            raise ConnectionAbortedError
        alarm = loop.call_at(end, terminate, connection)
        try:
            return await ask(connection, statement, arguments)
        except asyncpg.ConnectionDoesNotExistError as error:
            if end - loop.time() > CLOCK_GRAIN_SECONDS:
                raise
            raise TimeoutError from error
        finally:
            alarm.cancel()
            await pool.release(connection)

    async def _greet(self, connection: Any) -> None:
        """Refuse a registry whose functions are older than this worker needs."""
        try:
            version, encoding = await connection.fetchrow(
                "select platform.health_worker_schema_version(), current_setting('server_encoding')"
            )
            if encoding == "SQL_ASCII":  # its texts may be of any encoding, and one stops all
                raise RegistryRefusedError("the registry's encoding is SQL_ASCII; it must be UTF8")
            if not isinstance(version, int) or version < SCHEMA_VERSION:
                raise SchemaError(
                    f"the registry's schema is at {version}, this worker needs {SCHEMA_VERSION}: "
                    "run `health-worker schema apply`"
                )
            await self._on_connect()
        except asyncio.CancelledError:
            connection.terminate()  # the pool would close it politely, and wait for the answer
            raise

    def _failed(self, call: Call, failure: BaseException) -> WorkerError:
        is_unreached = isinstance(failure, _UnreachedError)
        error = failure.__cause__ or failure if is_unreached else failure
        fault = read_fault(error, self._url)
        if not self._is_proven and not isinstance(fault, RegistryUnavailableError):
            return fault
        if isinstance(error, TimeoutError):
            self._replace_pool()
        if is_unreached:
            self._troubles.unreached(str(fault))
        else:
            self._troubles.failed(call, str(fault), concerns_all=concerns_all(error))
        self._meter.registry_usable(usable=False)
        self._remind(call[0], str(fault))
        return RegistryUnavailableError(str(fault))

    def _remind(self, operation: str, fault: str) -> None:
        """Tell of the trouble when it starts, then once a minute."""
        now, seconds = time.monotonic(), self._troubles.seconds
        may_wait = self._is_announced or seconds < AFTERSHOCK_SECONDS
        if may_wait and now - self._reminded_at < REMINDER_SECONDS:
            return
        self._reminded_at = now
        self._is_announced = True
        self._log(
            Event.REGISTRY_UNREACHABLE,
            "error",
            f"the registry at {self.place} cannot be used: {fault}",
            operation=operation,
            error=fault,
            seconds=round(seconds, 1),
        )

    def _replace_pool(self) -> None:
        """Give up every connection: where one fell silent, each of the others would cost a wait."""
        if self._is_open:
            self._pool.terminate()
            self._pool = self._make_pool()
            self._is_open = False

    def _succeeded(self, call: Call) -> None:
        operation, _ = call
        was_usable, seconds = self.is_usable, round(self._troubles.seconds, 1)
        self._is_proven = True
        self._has_written = self._has_written or operation not in READS
        self._troubles.worked(call)
        if was_usable or not self.is_usable:
            return
        self._meter.registry_usable(usable=True)
        if not self._is_announced:
            return
        self._is_announced = False
        self._log(
            Event.REGISTRY_RECOVERED,
            "info",
            f"the registry can be used again after {seconds} s",
            seconds=seconds,
        )
