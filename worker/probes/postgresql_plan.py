"""PostgreSQL: schemes, options, config model and the plan made of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from worker.connection import ConnectionString
from worker.errors import ProbeError
from worker.plan import MAX_MILLISECONDS, Config, Host, Plan, RowModel, Tls, TlsRules
from worker.spellings import EVERYTHING, secret_forms
from worker.words import Reason

APPLICATION_NAME = "database-health-worker"
DEFAULT_PORT = 5432
MAX_HOSTS = 10

# Not understood, hence refused by name, are among others: files (sslcert, sslkey, sslrootcert,
# sslcrl, passfile, service), credentials and brokers of ours (krbsrvname, gsslib, oauth_*), and
# host, hostaddr and port, which would contact another place than the one that people are shown.
IGNORED_OPTIONS = frozenset(  # of libpq, node-postgres, Prisma, JDBC, asyncpg: they tune the client
    (  # noqa: SIM905 -- as a list it takes a line a word
        "application_name fallback_application_name client_encoding connect_timeout keepalives "
        "keepalives_idle keepalives_interval keepalives_count tcp_user_timeout load_balance_hosts "
        "sslcompression sslsni ssl_min_protocol_version ssl_max_protocol_version "
        "min_protocol_version max_protocol_version uselibpqcompat supa query_timeout "
        "statement_timeout lock_timeout idle_in_transaction_session_timeout pgbouncer schema "
        "connection_limit pool_timeout socket_timeout statement_cache_size currentschema "
        "applicationname prepared_statement_cache_size preparethreshold"
    ).split()
)
_HARMLESS_VALUES: Mapping[str, frozenset[str]] = {
    "gssencmode": frozenset({"disable", "prefer"}),
    "sslcertmode": frozenset({"disable", "allow"}),
    "sslnegotiation": frozenset({"postgres"}),
    "sslrootcert": frozenset({"system"}),
}
"""Options that may be ignored as long as they ask for nothing special."""


class _SslMode(NamedTuple):
    is_on: bool = True
    is_optional: bool = False
    verifies_chain: bool = False
    verifies_name: bool = False


_SSL_MODES: Mapping[str, _SslMode] = {
    "disable": _SslMode(is_on=False),
    "allow": _SslMode(is_optional=True),
    "prefer": _SslMode(is_optional=True),
    "require": _SslMode(),
    "no-verify": _SslMode(),  # node-postgres' own
    "verify-ca": _SslMode(verifies_chain=True),
    "verify-full": _SslMode(verifies_chain=True, verifies_name=True),
}


class Wish(NamedTuple):
    """What `target_session_attrs` demands: a query, and the answer that an application needs."""

    query: bytes = b"SELECT 1"
    answer: bytes = b"1"


MAX_SETTINGS = 16
"""Values in `options` that are looked for one by one in what a server says."""
MAX_SETTINGS_CHARACTERS = 1_024
"""Of all these values together."""

_SETTING = re.compile(r"=([^\s=]{4,})")
_READ_ONLY = b"SHOW transaction_read_only"
_RECOVERY = b"SELECT pg_catalog.pg_is_in_recovery()"
_WISHES: Mapping[str, Wish] = {
    "any": Wish(),
    "prefer-standby": Wish(),  # any host will do in the end
    "read-write": Wish(_READ_ONLY, b"off"),
    "read-only": Wish(_READ_ONLY, b"on"),
    "primary": Wish(_RECOVERY, b"f"),
    "standby": Wish(_RECOVERY, b"t"),
}


class PostgreSQLConfig(RowModel):
    """The keys of a PostgreSQL row's `config`; times in milliseconds."""

    connect_timeout: int = Field(default=10_000, ge=1, le=MAX_MILLISECONDS)
    command_timeout: int = Field(default=5_000, ge=1, le=MAX_MILLISECONDS)
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgreSQLPlan(Plan):
    """How to ask one PostgreSQL; several hosts are asked in turn."""

    username: str = field(repr=False)
    database: str
    is_tls_optional: bool = False
    only_scram: bool = False
    """`channel_binding=require`: no proof may be given that somebody between could use."""
    session: str = "any"
    """The value of `target_session_attrs`."""
    parameters: Mapping[str, str] = field(repr=False)
    """What the server is told at the start beside user and database."""

    @property
    def wish(self) -> Wish:
        """What to ask once signed in."""
        return _WISHES[self.session]

    def secrets(self) -> Iterator[str]:
        """Yield the forms of the settings' values, too: a server quotes those that it refuses."""
        values = _SETTING.findall(self.parameters.get("options", ""))
        if len(values) > MAX_SETTINGS or sum(map(len, values)) > MAX_SETTINGS_CHARACTERS:
            yield from EVERYTHING
            return
        yield from Plan.secrets(self)
        for value in values:
            yield from secret_forms(value)


def make_plan(connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> PostgreSQLPlan:
    """Make a plan of a row's data; shared with the client library's probe.

    Raises:
        ProbeError: `misconfigured`, naming the scheme, option or key, never a value.
    """
    if connection.scheme not in {"postgresql", "postgres"}:
        raise _unusable("the connection string's scheme is neither postgresql nor postgres")
    if len(connection.hosts) > MAX_HOSTS:
        raise _unusable(f"the connection string names more than {MAX_HOSTS} hosts")
    row = config.read(PostgreSQLConfig)
    options = dict(connection.options)
    # libpq lets these win over what stands in front of the question mark.
    username = options.pop("user", connection.username)
    password = options.pop("password", connection.password)
    database = options.pop("dbname", connection.database)
    if not username:
        # libpq would take the name of our own account.
        raise _unusable("the connection string names no user")
    tls, is_optional = _tls(row.tls, options, ssl_enabled=ssl_enabled)
    binding = _choice(options, "channel_binding", {"disable", "prefer", "require"}, "prefer")
    session = _choice(options, "target_session_attrs", _WISHES.keys(), "any")
    # An application sends these settings: where they are refused, it cannot connect.
    settings = {"options": options.pop("options")} if "options" in options else {}
    for name, value in options.items():
        if name not in IGNORED_OPTIONS and value not in _HARMLESS_VALUES.get(name, ()):
            raise _unusable(f"the option {name} is not supported here; remove it")
    return PostgreSQLPlan(
        hosts=tuple(Host(name, port or DEFAULT_PORT) for name, port in connection.hosts),
        username=username,
        password=password,
        database=database or username,
        tls=tls,
        connect_timeout=row.connect_timeout / 1000,
        command_timeout=row.command_timeout / 1000,
        is_tls_optional=is_optional,
        only_scram=binding == "require",
        session=session,
        parameters={"application_name": APPLICATION_NAME, **settings},
    )


def _unusable(text: str) -> ProbeError:
    return ProbeError(Reason.MISCONFIGURED, text)


def _choice(options: dict[str, str], name: str, values: Collection[str], default: str) -> str:
    value = options.pop(name, default)
    if value not in values:
        raise _unusable(f"the option {name} is none of {', '.join(sorted(values))}")
    return value


def _tls(tls: Tls, options: dict[str, str], *, ssl_enabled: bool) -> tuple[TlsRules | None, bool]:
    """Read the rules and whether clear text will do; `sslmode` wins over the row."""
    # node-postgres' and JDBC's switch says no more than that TLS is on.
    is_on = _choice(options, "ssl", {"true", "1", "false", "0"}, "false") in {"true", "1"}
    default = "verify-full" if options.get("sslrootcert") == "system" else ""
    name = _choice(options, "sslmode", {*_SSL_MODES, default}, default)
    verifies = tls.reject_unauthorized
    mode = _SSL_MODES.get(name, _SslMode(ssl_enabled or is_on, False, verifies, verifies))
    if not mode.is_on:
        return None, False
    rules = TlsRules(
        ca=tls.ca,
        verifies_chain=mode.verifies_chain,
        verifies_name=mode.verifies_name,
        servername=tls.servername,
    )
    return rules, mode.is_optional
