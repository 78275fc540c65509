"""What the registry's driver raises, and what it means for us."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

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

_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_OPTIONS = (asyncpg.UndefinedObjectError, asyncpg.ClientConfigurationError)
"""The server or the client does not know an option of the URL, or its value."""
_NO_SCHEMA = (
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
)
_NO_POSTGRESQL = "what answers there does not speak as PostgreSQL does"
_DEMANDS_TLS = re.compile(r"(?:^|&)sslmode=(?:require|verify)")
_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "it did not answer within REGISTRY_TIMEOUT_SECONDS"),
    (asyncpg.ConnectionDoesNotExistError, "it closed the connection"),
    (asyncpg.ReadOnlySQLTransactionError, "it is read-only"),
    (asyncpg.InternalClientError, _NO_POSTGRESQL),
)
TROUBLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what it calls a peer that does not speak PostgreSQL's protocol
    WorkerError,
)
"""What a call to a registry that is in trouble may raise."""
_OF_ALL = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What the server says of a connection or of itself, and not of the one statement."""
_WHATEVER_THE_DATA = (
    *_OF_ALL,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a lock that is not to be had
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.SyntaxOrAccessError,  # a right or a name; a trigger's is not told from our function's
    asyncpg.InvalidSchemaNameError,
)
"""What no part of a statement's data is to blame for."""
BAD_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.UntranslatableCharacterError,
    asyncpg.CharacterNotInRepertoireError,
    asyncpg.RaiseError,
    ValueError,  # a time before the year 1, text of another encoding
    OverflowError,
)
"""What is said of values that the registry cannot take, or that its driver cannot read."""


def _why_refused(error: BaseException, url: str) -> str | None:
    """Say why waiting for the registry does not help; None where it may."""
    if isinstance(error, _REFUSALS):
        return (
            f"the registry refuses us: {error}; check the role, password and database of "
            "DATABASE_URL, and that the role is a member of platform_health_worker"
        )
    if isinstance(error, _OPTIONS):
        return f"an option of DATABASE_URL cannot be used: {scrub(str(error), secrets_of(url))}"
    if _has_refused_tls(error) and _DEMANDS_TLS.search(urlsplit(url).query):
        return "the registry speaks no TLS, which sslmode of DATABASE_URL demands"
    return None


def read_fault(error: BaseException, url: str) -> WorkerError:
    """Say in one line what is wrong with the registry at this URL; the words hold no secret."""
    if isinstance(error, WorkerError):
        return error
    if refusal := _why_refused(error, url):
        return RegistryRefusedError(refusal)
    words = scrub(str(error), secrets_of(url)).partition("\n")[0]
    if isinstance(error, _NO_SCHEMA):
        return SchemaError(
            f"the registry has no health worker schema, or an older one ({words}): "
            "run `health-worker schema apply`"
        )
    return RegistryUnavailableError(_passing(error) or f"{type(error).__name__}: {words}")


def _passing(error: BaseException) -> str | None:
    """Say in our own words what may pass by itself."""
    if _has_refused_tls(error):
        return _NO_POSTGRESQL
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    known = translate(error, ()) if isinstance(error, OSError) else None
    return known.text if known else None


def _has_refused_tls(error: BaseException) -> bool:
    """Tell whether a server did not take TLS, or is none that was ever asked for it."""
    return isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)


def concerns_all(error: BaseException) -> bool:
    """Tell whether any other statement that writes would have failed as this one did."""
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(error, _OF_ALL)
    return not isinstance(error, (TimeoutError, SchemaError, *BAD_DATA))


def may_be_of_some_data(error: BaseException) -> bool:
    """Tell whether less of a statement's data might have done.

    A trigger of somebody's fails for one row of many with whatever its author did not think of.
    """
    if isinstance(error, asyncpg.PostgresError):
        return not isinstance(error, _WHATEVER_THE_DATA)
    return isinstance(error, BAD_DATA)
