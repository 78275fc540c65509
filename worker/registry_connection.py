"""The registry's connections: bounded, told apart in trouble, waited for with back-off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from worker.errors import (
    RegistryRefusedError,
    RegistryUnavailableError,
    SchemaError,
    WorkerError,
    translate,
)
from worker.model import Event
from worker.ports import Log, Meter

SCHEMA_VERSION = 7
"""The oldest version of the registry's functions that this worker can use."""
MAX_CONNECTIONS = 4
MAX_BACK_OFF_SECONDS = 15.0
REMINDER_SECONDS = 60.0
_READS = frozenset({"read", "snapshot"})
"""Operations that succeed on a read-only registry, too, so they prove no recovery."""

_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedObjectError,
    asyncpg.ClientConfigurationError,
)
"""The last two are options of the URL that the server or the client does not know."""
_NO_SCHEMA = (
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
)
_BAD_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.UntranslatableCharacterError,
    asyncpg.CharacterNotInRepertoireError,
    UnicodeError,
)


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
        self._pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=MAX_CONNECTIONS,
            init=self._greet,
            reset=_keep,
            timeout=timeout,
            statement_cache_size=0,
            server_settings={"application_name": "database-health-worker"},
        )
        self._timeout = timeout
        self._on_connect = on_connect
        self.place = urlsplit(url).netloc.rpartition("@")[2]
        self._log = log
        self._meter = meter
        self._is_open = False
        self._is_proven = False
        self._is_usable = False
        self._failures = 0
        self._failing_since = 0.0
        self._reminded_at = -REMINDER_SECONDS
        self._is_announced = False
        """Whether the log tells of the outage that lasts."""
        self._resume_at = 0.0
        self._last_fault = ""

    @property
    def is_usable(self) -> bool:
        """Whether the last call succeeded."""
        return self._is_usable

    async def fetch(
        self,
        operation: str,
        statement: str,
        *arguments: object,
        on_bad_data: type[WorkerError] | None = None,
    ) -> Sequence[Any]:
        """Run one statement and return its rows.

        Raises:
            RegistryUnavailableError: it cannot be used just now, or a back-off is running.
            RegistryRefusedError, SchemaError: it has never been usable, and waiting won't help.
            WorkerError: the given class, where the registry refuses the arguments for their data.
        """
        if time.monotonic() < self._resume_at:
            raise RegistryUnavailableError(self._last_fault)
        try:
            rows = await self._fetch(statement, arguments)
        except _BAD_DATA as error:
            if on_bad_data is None:
                raise
            raise on_bad_data(f"the registry refused the data of {operation}") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, WorkerError) as error:
            self._meter.registry_failed(operation)
            raise self._failed(error) from error
        self._succeeded(operation)
        return rows

    async def close(self) -> None:
        """End every connection without waiting for a server that may be silent."""
        if self._is_open:
            self._pool.terminate()

    async def _fetch(self, statement: str, arguments: Sequence[object]) -> Sequence[Any]:
        """Terminate a connection that takes too long: cancelling would need a second one."""
        async with asyncio.timeout(self._timeout):
            await self._pool
            self._is_open = True
            connection = await self._pool.acquire()
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(self._timeout, connection.terminate)
        try:
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
        except asyncio.CancelledError:
            connection.terminate()
            raise
        finally:
            alarm.cancel()
            await self._pool.release(connection)
        return rows

    async def _greet(self, connection: Any) -> None:
        """Refuse a registry whose functions are older than this worker needs."""
        try:
            version = await connection.fetchval("select platform.health_worker_schema_version()")
            if version < SCHEMA_VERSION:
                raise SchemaError(
                    f"the registry's schema is at {version}, this worker needs {SCHEMA_VERSION}: "
                    "run `health-worker schema apply`"
                )
            await self._on_connect()
        except asyncio.CancelledError:
            connection.terminate()  # the pool would close it politely, and wait for the answer
            raise

    def _failed(self, error: BaseException) -> WorkerError:
        fault = _fault(error, self._timeout)
        if not self._is_proven and not isinstance(fault, RegistryUnavailableError):
            return fault
        now = time.monotonic()
        self._failures += 1
        self._failing_since = self._failing_since or now
        self._resume_at = now + min(MAX_BACK_OFF_SECONDS, 0.25 * 2**self._failures)
        self._last_fault = str(fault)
        self._is_usable = False
        self._meter.registry_usable(usable=False)
        if now - self._reminded_at >= REMINDER_SECONDS:
            self._reminded_at = now
            self._is_announced = True
            self._log(
                Event.REGISTRY_UNREACHABLE,
                "error",
                f"the registry at {self.place} cannot be used: {fault}",
                error=str(fault),
                seconds=round(now - self._failing_since, 1),
            )
        return RegistryUnavailableError(self._last_fault)

    def _succeeded(self, operation: str) -> None:
        self._is_proven = True
        if self._failures and operation in _READS:
            return
        if not self._is_usable:
            self._is_usable = True
            self._meter.registry_usable(usable=True)
        if self._failures:
            seconds = round(time.monotonic() - self._failing_since, 1)
            self._failures, self._failing_since, self._resume_at = 0, 0.0, 0.0
            if not self._is_announced:
                return
            self._is_announced = False
            self._log(
                Event.REGISTRY_RECOVERED,
                "info",
                f"the registry can be used again after {seconds} s",
                seconds=seconds,
            )


def _fault(error: BaseException, timeout: float) -> WorkerError:
    """Say in one line what is wrong with the registry; the server's words hold no secret."""
    if isinstance(error, WorkerError):
        return error
    if isinstance(error, _REFUSALS):
        return RegistryRefusedError(
            f"the registry refuses us: {error}; check the role, password, database and options of "
            "DATABASE_URL, and that the role is a member of platform_health_worker"
        )
    if isinstance(error, _NO_SCHEMA):
        return SchemaError(
            "the registry has no health worker schema, or an older one: "
            "run `health-worker schema apply`"
        )
    if isinstance(error, ConnectionError) and "SSL upgrade" in str(error):
        return RegistryRefusedError("the registry speaks no TLS, but sslmode demands it")
    if isinstance(error, TimeoutError | asyncpg.ConnectionDoesNotExistError):
        return RegistryUnavailableError(
            f"it closed the connection, or did not answer within {timeout:g} s"
        )
    if isinstance(error, OSError) and (known := translate(error, ())):
        return RegistryUnavailableError(known.text)
    return RegistryUnavailableError(f"{type(error).__name__}: {error}".splitlines()[0])
