"""Applies, verifies and rolls back `schema/`."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from worker.errors import (
    RegistryRefusedError,
    RegistryUnavailableError,
    SchemaError,
    WorkerError,
    translate,
)
from worker.scrubbing import scrub
from worker.spellings import secrets_of

APPLIED = (
    "000_platform_prerequisites.sql",
    "006_add_platform_databases_table.sql",
    "007_add_database_health_scheduling.sql",
)
ROLLBACKS = {"006": "rollback-006.sql", "007": "rollback-007.sql"}
CHECKS = "test_database_health.sql"

_PSQL_BLOCK = re.compile(r"^\\if .*?^\\endif$", re.MULTILINE | re.DOTALL)
_PSQL_LINE = re.compile(r"^\\.*$", re.MULTILINE)
_REPORT = re.compile(r"^select ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One thing that a registry must hold, and whether it does."""

    name: str
    passed: bool
    detail: str


async def apply(url: str, seconds: float) -> list[str]:
    """Apply every file in the order of the numbers and return their names.

    What runs is given its time, but no lock is waited for longer than so many seconds.

    Raises:
        SchemaError: a file refuses, naming why, or a lock is not to be had.
        RegistryRefusedError, RegistryUnavailableError: the registry lets us not in.
    """
    async with _connected(url, seconds) as connection:
        for name in APPLIED:
            await _execute(connection, name, _without_psql(name))
    return list(APPLIED)


async def verify(url: str, seconds: float) -> list[CheckLine]:
    """Run the checks of `test_database_health.sql`; raises as `apply` does."""
    run_checks = _REPORT.split(_without_psql(CHECKS), maxsplit=1)[0]
    async with _connected(url, seconds) as connection:
        await _execute(connection, CHECKS, run_checks)
        rows = await connection.fetch(
            "select name, passed, detail from database_health_checks order by number"
        )
    lines = [CheckLine(row["name"], row["passed"], row["detail"]) for row in rows]
    if not any(line.name.startswith("007: ") for line in lines):
        lines.append(CheckLine("007: the scheduling is applied", passed=False, detail=""))
    return lines


async def rollback(url: str, number: str, destroy_rows: int | None, seconds: float) -> str:
    """Undo one file by its number and return the name of the file that did; raises as `apply`."""
    name = ROLLBACKS.get(number)
    if name is None:
        raise SchemaError(f"no rollback for {number}: there are {', '.join(sorted(ROLLBACKS))}")
    async with _connected(url, seconds) as connection:
        rows = "" if destroy_rows is None else str(destroy_rows)
        await connection.execute("select set_config('platform.destroy_rows', $1, false)", rows)
        await _execute(connection, name, _without_psql(name))
    return name


@asynccontextmanager
async def _connected(url: str, seconds: float) -> AsyncIterator[Any]:
    try:
        connection = await asyncpg.connect(url, timeout=seconds, statement_cache_size=0)
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
    ) as error:
        raise RegistryRefusedError(f"the registry refuses us: {error}") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        known = translate(error, ())
        why = known.text if known else scrub(str(error), secrets_of(url))
        raise RegistryUnavailableError(f"the registry cannot be reached: {why}") from None
    try:
        milliseconds = math.ceil(seconds * 1000)
        await _execute(connection, "lock_timeout", f"set lock_timeout = {milliseconds}")
        yield connection
    finally:
        connection.terminate()


async def _execute(connection: Any, name: str, statements: str) -> None:
    try:
        await connection.execute(statements)
    except asyncpg.PostgresError as error:
        raise _refusal(name, error) from None


def _refusal(name: str, error: asyncpg.PostgresError) -> WorkerError:
    why = str(error).splitlines()[0]  # without the server's DETAIL and HINT
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return RegistryRefusedError(f"{name}: {why}; run this as the registry's owner")
    if isinstance(error, asyncpg.LockNotAvailableError):
        return SchemaError(
            f"{name}: another session has held a lock for longer than REGISTRY_TIMEOUT_SECONDS; "
            "end its transaction, or try again"
        )
    return SchemaError(f"{name}: {why}")


def _without_psql(name: str) -> str:
    """Read a file as the server may run it: psql's own commands are for psql."""
    return _PSQL_LINE.sub("", _PSQL_BLOCK.sub("", _text(name)))


def _text(name: str) -> str:
    """Read a file of the wheel, or of the checkout."""
    package = Path(__file__).parent
    installed = package / "_schema"
    folder = installed if installed.is_dir() else package.parent / "schema"
    return (folder / name).read_text(encoding="utf-8")
