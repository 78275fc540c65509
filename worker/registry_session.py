"""One session of the registry's: what it is asked, and when it may not be used again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from worker.registry_faults import BAD_DATA

_OF_A_CUT = (asyncpg.InterfaceError, AttributeError)
"""What asyncpg raises of a connection that is terminated between two steps of one call."""


async def ask(connection: Any, statement: str, arguments: Sequence[object]) -> Sequence[Any]:
    """Run a statement; one that fails for more than its data takes its session along.

    A session's settings are those of its beginning, whatever its registry's owner mends since.
    """
    try:
        rows: Sequence[Any] = await connection.fetch(statement, *arguments)
    except (asyncpg.TransactionRollbackError, *BAD_DATA):
        raise
    except BaseException as error:
        is_cut = isinstance(error, _OF_A_CUT) and _is_closed(connection)
        terminate(connection)
        if is_cut:
            raise asyncpg.ConnectionDoesNotExistError("the connection was terminated") from error
        raise
    return rows


def _is_closed(connection: Any) -> bool:
    """Tell whether a connection has ended, be it that the pool has taken it back already."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def terminate(connection: Any) -> None:
    """End a connection at once; the pool may have done so just before."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
