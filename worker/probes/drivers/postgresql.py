"""PostgreSQL asked through asyncpg, which gets nothing from our environment or home folder."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache
from typing import Any

import asyncpg

from worker.connection import ConnectionString
from worker.errors import Reading, Rule, reading, translate
from worker.model import Answer
from worker.plan import Config, TlsRules
from worker.probes.postgresql import unwished
from worker.probes.postgresql_plan import PostgreSQLPlan, make_plan
from worker.probes.postgresql_wire import read_error
from worker.tls import build_context
from worker.words import Reason

_NO_TLS = "rejected SSL upgrade"


def _error_reply(error: BaseException) -> Reading | None:
    fault = read_error(getattr(error, "sqlstate", None) or "", str(error))
    return fault.reason, fault.text


def _refused_tls(error: BaseException) -> Reading | None:
    """Read the words of the two faults that asyncpg makes plain ConnectionErrors of."""
    if _NO_TLS in str(error):
        return Reason.TLS, "the server does not speak TLS"
    if "error response during SSL" in str(error):
        return Reason.NOT_READY, "the server answers the request for TLS with an error"
    return None


def _client_fault(error: BaseException) -> Reading:
    if "authentication method" in str(error).lower():
        return Reason.AUTH, "the server demands a way of signing in that is not spoken here"
    return Reason.PROTOCOL, "the server cannot prove that it knows the user, or is no PostgreSQL"


_RULES: tuple[Rule, ...] = (
    (
        asyncpg.ConnectionDoesNotExistError,
        reading(Reason.CLOSED, "the server closed the connection"),
    ),
    (asyncpg.PostgresError, _error_reply),
    (asyncpg.InterfaceError, _client_fault),
    (asyncpg.InternalClientError, _client_fault),
    (ConnectionError, _refused_tls),
)


_FAULTS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    UnicodeError,
)


@lru_cache(maxsize=256)
def _context(rules: TlsRules) -> ssl.SSLContext:
    """Make a context that asks for `tls.servername`; asyncpg knows the host's name alone."""
    context = build_context(rules)

    def wrap_bio(
        incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_hostname: str, **_: object
    ) -> ssl.SSLObject:
        name = rules.servername or server_hostname
        return ssl.SSLContext.wrap_bio(context, incoming, outgoing, server_hostname=name)

    context.wrap_bio = wrap_bio  # type: ignore[method-assign, assignment]  # see above
    return context


async def _connect(plan: PostgreSQLPlan) -> Any:
    """Name everything: what asyncpg is not told it takes from PG*, ~/.pgpass and ~/.postgresql."""
    arguments: dict[str, Any] = {
        "host": [host.name for host in plan.hosts],
        "port": [host.port for host in plan.hosts],
        "user": plan.username,
        "password": plan.password or "",
        "database": plan.database,
        "timeout": plan.connect_timeout,
        "command_timeout": plan.command_timeout,
        "statement_cache_size": 0,
        "direct_tls": False,
        "server_settings": dict(plan.parameters),
        "target_session_attrs": plan.session,
        "krbsrvname": "",
        "gsslib": "sspi",  # exists on Windows alone, so no ticket of ours is ever shown
    }
    context = _context(plan.tls) if plan.tls else False
    try:
        return await asyncpg.connect(**arguments, ssl=context)
    except ConnectionError as error:
        # asyncpg reads sslmode=prefer only together with files of our home folder.
        if not plan.is_tls_optional or _NO_TLS not in str(error):
            raise
        return await asyncpg.connect(**arguments, ssl=False)


class PostgreSQLDriverProbe:
    """Asks a PostgreSQL as an application with asyncpg would."""

    def plan(
        self, connection: ConnectionString, config: Config, *, ssl_enabled: bool
    ) -> PostgreSQLPlan:
        """Make a plan of a row's data; see `make_plan`."""
        return make_plan(connection, config, ssl_enabled=ssl_enabled)

    async def ask(self, plan: PostgreSQLPlan) -> Answer:
        """Connect, sign in, query, close; see `ports.Probe`."""
        loop = asyncio.get_running_loop()
        connection = None
        try:
            async with asyncio.timeout(plan.connect_timeout) as bound:
                connection = await _connect(plan)
                bound.reschedule(loop.time() + plan.command_timeout)
                await connection.execute("SELECT 1")
            return Answer()
        except asyncpg.TargetServerAttributeNotMatched:
            raise unwished(plan) from None
        except _FAULTS as error:
            if fault := translate(error, _RULES):
                raise fault from None
            raise
        finally:
            if connection is not None:
                connection.terminate()
