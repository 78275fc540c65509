"""MongoDB's plan: schemes, allowed options and config model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from worker.connection import ConnectionString
from worker.errors import ProbeError
from worker.plan import MAX_MILLISECONDS, Config, Host, Plan, RowModel, Tls, TlsRules
from worker.words import Reason

DEFAULT_PORT = 27017
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-1")
_OTHER_MECHANISMS = frozenset(
    {"GSSAPI", "MONGODB-AWS", "MONGODB-CR", "MONGODB-OIDC", "MONGODB-X509", "PLAIN"}
)
MAX_NAME = 255
"""Characters of a database's or replica set's name."""

IGNORED_OPTIONS = frozenset(  # of PyMongo, Node and mongosh: they tune the client or its writes
    (  # noqa: SIM905 -- as a list it takes a line a word
        "appname compressors connect datetime_conversion enableoverloadretargeting family fsync "
        "heartbeatfrequencyms j journal keepalive keepaliveinitialdelay localthresholdms "
        "maxadaptiveretries maxconnecting maxidletimems maxpoolsize maxstalenessseconds "
        "minpoolsize monitorcommands nodelay readconcernlevel readpreference readpreferencetags "
        "retryreads retrywrites safe servermonitoringmode slaveok srvmaxhosts timeoutms "
        "tlsdisablecertificaterevocationcheck tlsdisableocspendpointcheck tz_aware "
        "unicode_decode_error_handler uuidrepresentation w waitqueuemultiple waitqueuetimeoutms "
        "wtimeout wtimeoutms zlibcompressionlevel"
    ).split()
)
_REFUSED_OPTIONS = (  # files, proxies, other credentials: spelt as their users know them
    "authMechanismProperties gssapiServiceName proxyHost proxyPassword proxyPort proxyUsername "
    "serverApi srvAllowedHostsSuffix srvServiceName sslCA sslCert sslKey sslPass sslValidate "
    "tlsCAFile tlsCertificateFile tlsCertificateKeyFile tlsCertificateKeyFilePassword tlsCRLFile"
)
_SPELLING = {name.lower(): name for name in _REFUSED_OPTIONS.split()}
_ADVICE = {
    "tlscafile": "put the certificate's text into config.tls.ca",
    "sslca": "put the certificate's text into config.tls.ca",
}
_TXT_OPTIONS = frozenset({"authsource", "replicaset", "loadbalanced"})
_LOOKS_NUMERIC = re.compile(r"[0-9.]+|.*:.*")


class MongoDBConfig(RowModel):
    """The keys of a MongoDB row's `config`; times in milliseconds."""

    server_selection_timeout: int = Field(
        default=5_000, ge=1, le=MAX_MILLISECONDS, alias="serverSelectionTimeoutMS"
    )
    connect_timeout: int | None = Field(
        default=None, ge=1, le=MAX_MILLISECONDS, alias="connectTimeoutMS"
    )
    socket_timeout: int | None = Field(
        default=None, ge=1, le=MAX_MILLISECONDS, alias="socketTimeoutMS"
    )
    auth_source: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    direct_connection: bool | None = None
    replica_set: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDBPlan(Plan):
    """How to ask one MongoDB deployment; `connect_timeout` bounds finding the server, too."""

    host_timeout: float
    """Seconds for one host: look-up, connect, TLS and authenticate."""
    is_srv: bool = False
    """Whether the one host is a name whose SRV records tell the hosts."""
    auth_source: str | None = None
    """None means that nobody named one: the database's name, else admin."""
    mechanism: str | None = None
    """None means the best that the user has."""
    replica_set: str | None = None
    is_direct: bool = False
    """Whether to ask the one host whatever its role, instead of looking for the primary."""
    is_load_balanced: bool = False

    @property
    def source(self) -> str:
        """The database that knows the user."""
        return self.auth_source or self.database or "admin"


def make_plan(connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> MongoDBPlan:
    """Make a plan of a row's data; shared with the client libraries' probe.

    What a connection string may say: the MongoDB specifications "Connection String" and "URI
    Options". Its timeouts may be 0 (the default) or longer than ours may be (then ours).

    Raises:
        ProbeError: `misconfigured`, naming the scheme, option or key, never a value.
    """
    if connection.scheme not in {"mongodb", "mongodb+srv"}:
        raise unusable("the connection string's scheme is neither mongodb nor mongodb+srv")
    row = config.read(MongoDBConfig)
    options = dict(connection.options)
    is_srv = connection.scheme == "mongodb+srv"
    tls = _tls_rules(row.tls, options, is_on_by_default=ssl_enabled or is_srv)
    selection = _milliseconds(options, "serverSelectionTimeoutMS", row.server_selection_timeout)
    connect = _milliseconds(options, "connectTimeoutMS", row.connect_timeout or selection)
    command = _milliseconds(options, "socketTimeoutMS", row.socket_timeout or selection)
    direct = _flag(options, "directConnection")
    plan = MongoDBPlan(
        hosts=tuple(Host(name.lower(), port or DEFAULT_PORT) for name, port in connection.hosts),
        username=connection.username,
        password=connection.password,
        database=connection.database,
        tls=tls,
        connect_timeout=selection / 1000,
        command_timeout=command / 1000,
        host_timeout=min(connect, selection) / 1000,
        is_srv=is_srv,
        auth_source=_name(options, "authSource", row.auth_source),
        mechanism=_mechanism(options),
        replica_set=_name(options, "replicaSet", row.replica_set),
        is_direct=bool(row.direct_connection if direct is None else direct),
        is_load_balanced=bool(_flag(options, "loadBalanced")),
    )
    _refuse_unknown(options)
    _refuse_bad_url(plan, connection)
    return plan


def txt_options(text: str) -> dict[str, str]:
    """Read the options that a TXT record may give; those of the row go first.

    Raises:
        ProbeError: `misconfigured` for another option, as the specification wants.
    """
    options = dict(part.partition("=")[::2] for part in text.split("&") if part)
    lowered = {name.lower(): value for name, value in options.items()}
    if not lowered.keys() <= _TXT_OPTIONS or not all(lowered.values()):
        raise unusable(
            "the TXT record of the mongodb+srv name holds more than authSource, replicaSet "
            "and loadBalanced"
        )
    return lowered


def unusable(text: str) -> ProbeError:
    """Make the fault of a row that cannot be checked."""
    return ProbeError(Reason.MISCONFIGURED, text)


def refuse_contradictions(plan: MongoDBPlan) -> None:
    """Refuse what contradicts itself, also after DNS has told hosts and options."""
    if plan.is_load_balanced and (len(plan.hosts) > 1 or plan.replica_set or plan.is_direct):
        raise unusable("loadBalanced allows neither several hosts, replicaSet nor directConnection")


def _refuse_unknown(options: Mapping[str, str]) -> None:
    if unknown := sorted(options.keys() - IGNORED_OPTIONS):
        name = _SPELLING.get(unknown[0], unknown[0])
        advice = _ADVICE.get(unknown[0], "remove it")
        raise unusable(f"the option {name} is not supported here; {advice}")


def _refuse_bad_url(plan: MongoDBPlan, connection: ConnectionString) -> None:
    if plan.username and not plan.password:
        raise unusable("the connection string names a user, but no password")
    if connection.password and not plan.username:
        raise unusable("the connection string holds a password, but names no user")
    if plan.mechanism and not plan.username:
        raise unusable("the option authMechanism needs a user and a password")
    is_alone = len(plan.hosts) == 1 and not plan.is_srv
    if plan.is_direct and not is_alone:
        raise unusable("directConnection asks for exactly one host, and not by mongodb+srv")
    refuse_contradictions(plan)
    if plan.is_srv:
        (name, port), *others = connection.hosts
        if others or port is not None or _LOOKS_NUMERIC.fullmatch(name):
            raise unusable("mongodb+srv takes exactly one host name, without a port")


def _tls_rules(tls: Tls, options: dict[str, str], *, is_on_by_default: bool) -> TlsRules | None:
    first, second = _flag(options, "tls"), _flag(options, "ssl")
    if None not in {first, second} and first != second:
        raise unusable("the options tls and ssl contradict each other")
    is_on = first if first is not None else second
    insecure = _flag(options, "tlsInsecure")
    is_lax = not tls.reject_unauthorized if insecure is None else insecure
    takes_any = _flag(options, "tlsAllowInvalidCertificates")
    takes_any_name = _flag(options, "tlsAllowInvalidHostnames")
    chain = not (is_lax if takes_any is None else takes_any)
    name = chain and not (is_lax if takes_any_name is None else takes_any_name)
    if not (is_on_by_default if is_on is None else is_on):
        return None
    return TlsRules(ca=tls.ca, verifies_chain=chain, verifies_name=name, servername=tls.servername)


def _flag(options: dict[str, str], name: str) -> bool | None:
    text = options.pop(name.lower(), None)
    if text is None:
        return None
    if text not in {"true", "false"}:
        raise unusable(f"the option {name} is neither true nor false")
    return text == "true"


def _milliseconds(options: dict[str, str], name: str, default: int) -> int:
    text = options.pop(name.lower(), None)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise unusable(f"the option {name} is no whole number of milliseconds")
    return min(int(text[:10]), MAX_MILLISECONDS) or default


def _name(options: dict[str, str], name: str, default: str | None) -> str | None:
    text = options.pop(name.lower(), None)
    if text is not None and not 1 <= len(text) <= MAX_NAME:
        raise unusable(f"the option {name} is empty or too long")
    return default if text is None else text


def _mechanism(options: dict[str, str]) -> str | None:
    text = options.pop("authmechanism", "DEFAULT")
    if text in SCRAM:
        return text
    if text != "DEFAULT":
        which = f"authMechanism {text}" if text in _OTHER_MECHANISMS else "that authMechanism"
        raise unusable(f"{which} is not supported here; {' and '.join(SCRAM)} are")
    return None
