"""Redis: schemes, options, config, handshake (RESP2) and error table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from worker.connection import ConnectionString
from worker.errors import ProbeError, Reading
from worker.model import Answer
from worker.network import Connection, Network
from worker.plan import MAX_MILLISECONDS, Config, Host, Plan, RowModel, Tls, TlsRules
from worker.probes.strangers import recognize
from worker.quoting import quoted
from worker.stopwatch import Stopwatch
from worker.words import Engine, Phase, Reason

DEFAULT_PORT = 6379
MAX_INDEX = 2**31 - 1
_INDEX = re.compile(r"[0-9]{1,10}", re.ASCII)
MAX_QUOTED = 100
"""Characters of a stranger's words that are worth passing on."""

IGNORED_OPTIONS = frozenset(  # of redis-py, ioredis, node-redis, go-redis: they tune the client
    (  # noqa: SIM905 -- as a list it takes a line a word
        "client_name decode_responses encoding encoding_errors health_check_interval "
        "max_connections protocol retry_on_timeout socket_connect_timeout socket_keepalive "
        "socket_timeout timeout commandtimeout connectionname connecttimeout enableofflinequeue "
        "enablereadycheck family keepalive keyprefix lazyconnect maxretriesperrequest nodelay "
        "dial_timeout idle_timeout max_retries min_idle_conns pool_fifo pool_size pool_timeout "
        "read_timeout write_timeout"
    ).split()
)
_CERTIFICATES = {"none": False, "cert_none": False, "required": True, "cert_required": True}
"""`ssl_cert_reqs` as redis-py and Celery spell it: whether the certificate is verified."""
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class RedisConfig(RowModel):
    """The keys of a Redis row's `config`; times in milliseconds."""

    connect_timeout: int = Field(default=10_000, ge=1, le=MAX_MILLISECONDS)
    command_timeout: int = Field(default=5_000, ge=1, le=MAX_MILLISECONDS)
    db: int = Field(default=0, ge=0, le=MAX_INDEX)
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPlan(Plan):
    """How to ask one Redis."""

    index: int = 0
    """The number of the database; 0 is where every connection starts, so it is not selected."""

    @property
    def credentials(self) -> tuple[str, ...]:
        """What AUTH takes; empty where nothing is to be said (redis-py reads a URL so, too)."""
        if self.username:
            return (self.username, self.password or "")
        return (self.password,) if self.password else ()


def make_plan(connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> RedisPlan:
    """Make a plan of a row's data; shared with the client library's probe.

    Raises:
        ProbeError: `misconfigured`, naming the scheme, option or key, never a value.
    """
    if connection.scheme not in {"redis", "rediss"}:
        raise _unusable("the connection string's scheme is neither redis nor rediss")
    if len(connection.hosts) > 1:
        raise _unusable("the connection string names several hosts, Redis takes one")
    row = config.read(RedisConfig)
    options = dict(connection.options)
    index = _index(connection.database, options.pop("db", None), row.db)
    # The registration of the scheme with IANA allows a password here; the user info goes first.
    password = options.pop("password", None)
    tls = _tls_rules(row.tls, options)
    if unknown := sorted(options.keys() - IGNORED_OPTIONS):
        raise _unusable(f"the option {unknown[0]} is not supported here; remove it")
    (name, port) = connection.hosts[0]
    return RedisPlan(
        hosts=(Host(name, port or DEFAULT_PORT),),
        username=connection.username,
        password=password if connection.password is None else connection.password,
        database=str(index),
        tls=tls if ssl_enabled or connection.scheme == "rediss" else None,
        connect_timeout=row.connect_timeout / 1000,
        command_timeout=row.command_timeout / 1000,
        index=index,
    )


def _unusable(text: str) -> ProbeError:
    return ProbeError(Reason.MISCONFIGURED, text)


def _index(path: str | None, option: str | None, configured: int) -> int:
    if path is not None and option is not None and path != option:
        # Libraries disagree on which one counts.
        raise _unusable("the connection string's path and its option db name two databases")
    text = path if path is not None else option
    if text is None:
        return configured
    if not _INDEX.fullmatch(text) or int(text) > MAX_INDEX:
        where = "option db" if path is None else "database"
        raise _unusable(f"the connection string's {where} is not a number from 0 on")
    return int(text)


def _tls_rules(tls: Tls, options: dict[str, str]) -> TlsRules:
    verifies = _flag(options, "ssl_cert_reqs", _CERTIFICATES, default=tls.reject_unauthorized)
    verifies_name = _flag(options, "ssl_check_hostname", _BOOLEANS, default=verifies)
    return TlsRules(
        ca=tls.ca,
        verifies_chain=verifies,
        verifies_name=verifies and verifies_name,
        servername=tls.servername,
    )


def _flag(options: dict[str, str], name: str, values: Mapping[str, bool], *, default: bool) -> bool:
    text = options.pop(name, None)
    if text is None:
        return default
    if text.lower() not in values:
        raise _unusable(f"the option {name} is none of {', '.join(values)}")
    return values[text.lower()]


_ERRORS_BY_CODE: Mapping[str, Reading] = {
    "NOAUTH": (Reason.AUTH, "the server demands a password (NOAUTH)"),
    "WRONGPASS": (Reason.AUTH, "wrong user name or password (WRONGPASS)"),
    "NOPERM": (Reason.AUTH, "the user may not select the database or ping (NOPERM)"),
    "DENIED": (Reason.AUTH, "protected mode: the server takes no remote clients (DENIED)"),
    "LOADING": (Reason.NOT_READY, "the server is loading its data (LOADING)"),
    "BUSY": (Reason.NOT_READY, "the server is busy with a script (BUSY)"),
    "MASTERDOWN": (Reason.NOT_READY, "the replica has lost its master (MASTERDOWN)"),
    "MISCONF": (Reason.NOT_READY, "the server cannot save its data and takes no writes (MISCONF)"),
}
_ERRORS_BY_START: tuple[tuple[str, Reading], ...] = (
    ("auth <password> called without any password", (Reason.AUTH, "the server has no password")),
    ("client sent auth, but no password is set", (Reason.AUTH, "the server has no password")),
    ("invalid password", (Reason.AUTH, "wrong password")),
    ("operation not permitted", (Reason.AUTH, "the server demands a password")),
    ("db index is out of range", (Reason.MISSING, "the server has no database of this number")),
    ("invalid db index", (Reason.MISSING, "the server has no database of this number")),
    ("max number of clients reached", (Reason.SATURATED, "max number of clients reached")),
)
"""What follows ERR; the second, third and fourth are how servers before 6.0 spoke."""
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,31}(?= |$)")
_ECHO = re.compile(r",? with args beginning with.*", re.DOTALL)


def read_error(line: str) -> ProbeError:
    """Read an error reply, its leading minus taken off."""
    match = _CODE.match(line)
    code = match[0] if match else ""
    words = line[len(code) :].strip().lower()
    if found := _ERRORS_BY_CODE.get(code):
        return ProbeError(*found)
    for start, found in _ERRORS_BY_START:
        if words.startswith(start):
            return ProbeError(*found)
    if code not in {"", "ERR"}:
        return ProbeError(Reason.NOT_READY, f"the server answers with the error {quoted(code, 32)}")
    # An unknown command's arguments are echoed: AUTH's would be the password.
    text = quoted(_ECHO.sub("", line), MAX_QUOTED)
    return ProbeError(Reason.NOT_READY, f"the server answers with the error {text}")


def command(*parts: str) -> bytes:
    """Write a command as an array of bulk strings."""
    encoded = [part.encode() for part in parts]
    bulks = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)
    return b"*%d\r\n%b" % (len(encoded), bulks)


_PING = command("PING")
_STARTS = b"+-"
"""What the answers begin with: a simple string, or an error."""
_OLD_AUTH = b"-err wrong number of arguments for 'auth'"


class RedisProbe:
    """Asks a Redis in its own words over one connection."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def plan(self, connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> RedisPlan:
        """Make a plan of a row's data; see `make_plan`."""
        return make_plan(connection, config, ssl_enabled=ssl_enabled)

    async def ask(self, plan: RedisPlan) -> Answer:
        """Connect, authenticate, select, ping, close; see `ports.Probe`."""
        watch = Stopwatch()
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(plan.connect_timeout) as bound,
                self._network.connect(plan.hosts[0], plan.tls, watch) as connection,
            ):
                if plan.credentials or plan.index:
                    with watch(Phase.AUTH):
                        await _sign_in(connection, plan)
                bound.reschedule(loop.time() + plan.command_timeout)
                # PING in the same write would save a round trip, but its answer comes with that
                # of AUTH: `ping` would always read 0, and the two timeouts would be one.
                with watch(Phase.PING):
                    connection.write(_PING)
                    _check(await connection.read_line(_STARTS), b"+PONG")
                return Answer(watch.phases)
        except TimeoutError:
            if watch.current is not Phase.PING:
                raise self._network.too_late(watch, plan.connect_timeout) from None
            text = f"PING not answered within {plan.command_timeout * 1000:.0f} ms"
            raise ProbeError(Reason.TIMEOUT, text) from None
        except ProbeError as fault:
            if plan.tls is not None:
                raise
            host = plan.hosts[0]
            raise await recognize(self._network, host, watch, fault, but=Engine.REDIS) from None


async def _sign_in(connection: Connection, plan: RedisPlan) -> None:
    select = command("SELECT", str(plan.index)) if plan.index else b""
    if plan.credentials:
        connection.write(command("AUTH", *plan.credentials) + select)
        line = await connection.read_line(_STARTS)
        if len(plan.credentials) > 1 and line.lower().startswith(_OLD_AUTH):
            # Servers before 6.0 know no users; redis-py, too, asks again with the password alone.
            if select:
                await connection.read_line(_STARTS)
            connection.write(command("AUTH", plan.credentials[-1]) + select)
            line = await connection.read_line(_STARTS)
        _check(line, b"+OK")
    else:
        connection.write(select)
    if select:
        _check(await connection.read_line(_STARTS), b"+OK")


def _check(line: bytes, expected: bytes) -> None:
    if line.startswith(b"-"):
        raise read_error(line[1:].decode(errors="replace"))
    if line != expected:
        raise ProbeError(Reason.PROTOCOL, _stranger(line))


def _stranger(line: bytes) -> str:
    for start, name in ((b"HTTP/", "an HTTP server"), (b"SSH-", "an SSH server")):
        if line.startswith(start):
            return f"{name} answers there, no Redis"
    return "the answer is not Redis'"
