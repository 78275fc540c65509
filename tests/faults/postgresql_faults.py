"""The table's rows for PostgreSQL."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import token_hex

import asyncpg

from testbed.account import Folder, unprivileged
from testbed.certificates import Certificate
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from testbed.programs import wait_until
from testbed.scram_liar import lying
from tests.faults.dialects import PATIENT, POSTGRESQL, QUICK, REDIS
from tests.faults.matrix import Case, Expected, Fault, Make, Shortfall, expect, ways
from tests.faults.mongodb_cases import MONGODB
from tests.faults.shortfalls import ANOTHER, CLEAR_PASSWORD, ENDLESS, HUGE, ITERATIONS, STRANGER
from tests.faults.socket_faults import another_engine, makers, talking
from tests.faults.stage import Stage
from worker.words import Engine, Reason


def case(
    server: PostgreSQLServer,
    url: str,
    *secrets: str,
    config: Mapping[str, object] = PATIENT,
    seconds: float | None = None,
    ssl_enabled: bool = False,
) -> Case:
    """Write a case of this server's."""
    return Case(
        url=url,
        address=f"{server.host}:{server.port}",
        config=config,
        seconds=seconds,
        secrets=secrets,
        ssl_enabled=ssl_enabled,
    )


def strange(write: Callable[[PostgreSQLServer, str], str]) -> Make:
    """Make a row's case of a URL with a strange secret at the shared server."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server, secret = stage.postgresql(), stage.secret()
        yield case(server, write(server, secret), secret)

    return make


@asynccontextmanager
async def no_such_database(stage: Stage) -> AsyncIterator[Case]:
    server = stage.postgresql()
    yield case(server, server.url(database="absent"), server.options.password)


@asynccontextmanager
async def foreign_option(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.postgresql(), stage.secret()
    url = server.url("postgres", secret, passfile=secret)
    yield replace(case(server, url, secret), address="")


def varied(stage: Stage) -> PostgreSQLServer:
    """Share a PostgreSQL with TLS and a way of signing in for each user."""
    hba = (
        "host all trusted all trust",
        "host all clear all password",
        "host all refused all reject",
        "hostssl all certified all scram-sha-256 clientcert=verify-ca",
        "host all all all scram-sha-256",
    )
    options = PostgreSQLOptions(
        password=token_hex(12), hba=hba, certificate=stage.certificates.good
    )

    def make() -> PostgreSQLServer:
        return PostgreSQLServer(options)

    server = stage.shared("varied postgresql", make)
    if not server.execute("select 1 from pg_roles where rolname = 'trusted'"):
        server.execute("create role trusted login; create role refused login")
        server.execute("create database closed")
        server.execute("revoke connect on database closed from public")
    return server


def role(name: str, sql: str = "", **query: str) -> Make:
    """Make a row's case of a user of the server above, whose password is the secret."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server, secret = varied(stage), stage.secret()
        if sql:
            server.execute(sql.format(secret=secret))
        yield case(server, server.url(name, secret, **query), secret)
        if sql:
            server.execute(f"drop role {name}")

    return make


def tls(
    pick: Callable[[Stage], Certificate],
    trust: Callable[[Stage], Mapping[str, object]],
    **query: str,
) -> Make:
    """Make a row's case of a server with TLS, of what it shows and what the row trusts."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server = varied(stage)
        _show(server, pick(stage))
        config = {**PATIENT, "tls": trust(stage)}
        url, password = server.url(**query), server.options.password
        yield case(server, url, password, config=config, ssl_enabled=True)
        _show(server, stage.certificates.good)

    return make


def _show(server: PostgreSQLServer, certificate: Certificate) -> None:
    """Let the server show another certificate from its next connection on."""
    before = server.log.count("reloading configuration files")
    server.folder.write("server.crt", certificate.certificate)
    server.folder.write("server.key", certificate.key)
    server.execute("select pg_reload_conf()")
    wait_until(
        lambda: (
            server.log.count("reloading configuration files") > before
            and server.execute("show ssl") == "on"
        ),
        "the server to load its certificate",
    )


def trusting(**more: object) -> Callable[[Stage], Mapping[str, object]]:
    """Trust the test bed's authority, and what else `config.tls` is to say."""
    return lambda stage: {"ca": stage.certificates.ca.decode(), **more}


def good(stage: Stage) -> Certificate:
    """Pick the certificate that fits."""
    return stage.certificates.good


@asynccontextmanager
async def without_tls(stage: Stage) -> AsyncIterator[Case]:
    server = stage.postgresql()
    yield case(server, server.url(sslmode="require"), server.options.password)


def small(stage: Stage) -> PostgreSQLServer:
    """Share a PostgreSQL that takes three clients; whoever stops it starts it again."""
    settings = {
        "max_connections": "3",
        "superuser_reserved_connections": "0",
        "max_wal_senders": "0",
    }
    options = PostgreSQLOptions(password=token_hex(12), settings=settings)
    return stage.shared("small postgresql", lambda: PostgreSQLServer(options))


@asynccontextmanager
async def too_many_connections(stage: Stage) -> AsyncIterator[Case]:
    server = small(stage)
    clients = [await asyncpg.connect(server.url()) for _ in range(3)]
    yield case(server, server.url(), server.options.password)
    for client in clients:
        await client.close()


@asynccontextmanager
async def shutting_down(stage: Stage) -> AsyncIterator[Case]:
    server = small(stage)
    client = await asyncpg.connect(server.url())
    before = server.log.count("smart shutdown")
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: server.log.count("smart shutdown") > before, "the shutdown to begin")
    yield case(server, server.url(), server.options.password)
    client.terminate()
    server.kill()
    server.start()


@asynccontextmanager
async def starting(stage: Stage) -> AsyncIterator[Case]:
    server = small(stage)
    server.stop()
    usual = server.options
    slow = {**usual.settings, "restore_command": "sleep 2; false"}
    server.options = replace(usual, settings=slow, ready="starting archive recovery")
    wish = Folder("postgresql", server.folder.path / "data", unprivileged())
    wish.write("recovery.signal", "")
    server.start()
    yield case(server, server.url(), server.options.password)
    server.kill()
    (wish.path / "recovery.signal").unlink()
    server.options = usual
    server.start()


@asynccontextmanager
async def cold_standby(stage: Stage) -> AsyncIterator[Case]:
    with stage.postgresql().standby(hot=False) as server:
        yield case(server, server.url(), server.options.password)


@asynccontextmanager
async def hot_standby(stage: Stage) -> AsyncIterator[Case]:
    with stage.postgresql().standby() as server:
        yield case(server, server.url(), server.options.password)


@asynccontextmanager
async def paused(stage: Stage) -> AsyncIterator[Case]:
    server = small(stage)
    server.pause()
    secret, seconds = server.options.password, POSTGRESQL.connect_seconds
    yield case(server, server.url(), secret, config=QUICK, seconds=seconds)
    server.resume()


_MAKERS: dict[str, Make] = {
    "wrong password": strange(lambda server, secret: server.url("postgres", secret)),
    "unknown user": strange(lambda server, secret: server.url("stranger", secret)),
    "no credentials where they are demanded": strange(
        lambda server, _: server.url("postgres", None)
    ),
    "pg_hba": role("refused", sslmode="disable"),
    "credentials where none are demanded": role("trusted", sslmode="disable"),
    "password wanted in clear text": role(
        "clear", "create role clear login password '{secret}'", sslmode="disable"
    ),
    "password wanted in clear text over TLS": role(
        "clear", "create role clear login password '{secret}'", sslmode="require"
    ),
    "no right to connect": role(
        "outsider",
        "create role outsider login password '{secret}'",
        database="closed",
        sslmode="disable",
    ),
    "no such database": no_such_database,
    "an option that reaches for our files": foreign_option,
    "starting": starting,
    "shutting down": shutting_down,
    "in recovery without hot standby": cold_standby,
    "hot standby": hot_standby,
    "too many connections": too_many_connections,
    "stopped by a signal": paused,
    "no TLS where it is wanted": without_tls,
    "unknown CA": tls(lambda stage: stage.certificates.unknown_ca, trusting()),
    "wrong host name": tls(lambda stage: stage.certificates.other_name, trusting()),
    "expired": tls(lambda stage: stage.certificates.expired, trusting()),
    "client certificate demanded": role(
        "certified", "create role certified login password '{secret}'", sslmode="require"
    ),
    "private CA": tls(good, trusting()),
    "rejectUnauthorized false": tls(
        lambda stage: stage.certificates.unknown_ca, lambda _: {"rejectUnauthorized": False}
    ),
    "servername": tls(
        lambda stage: stage.certificates.other_name, trusting(servername="elsewhere.test")
    ),
    "2^31-1 SCRAM iterations": talking(POSTGRESQL, lying(2**31 - 1)),
    "cannot prove that it knows the user": talking(POSTGRESQL, lying(4096)),
    # It waits in silence for the end of what it takes for a line: nothing tells it from a server
    # that hangs.
    "a Redis answers": another_engine(POSTGRESQL, REDIS),
    "a MongoDB answers": another_engine(POSTGRESQL, MONGODB),
    **makers(POSTGRESQL),
}

_EXPECTED: dict[str, Expected] = {
    "wrong password": expect(Reason.AUTH, says="28P01"),
    "unknown user": expect(Reason.AUTH, says="28P01"),
    "no credentials where they are demanded": expect(Reason.AUTH, says="demands a password"),
    "pg_hba": expect(Reason.AUTH, says="pg_hba"),
    "credentials where none are demanded": expect(Reason.OK),
    "password wanted in clear text": expect(Reason.AUTH, says="clear text"),
    "password wanted in clear text over TLS": expect(Reason.OK),
    "no right to connect": expect(Reason.AUTH, says="42501"),
    "no such database": expect(Reason.MISSING),
    "an option that reaches for our files": expect(Reason.MISCONFIGURED, says="passfile"),
    "starting": expect(Reason.NOT_READY, says="57P03"),
    "shutting down": expect(Reason.NOT_READY, says="57P03"),
    "in recovery without hot standby": expect(Reason.NOT_READY, says="57P03"),
    "hot standby": expect(Reason.OK),
    "too many connections": expect(Reason.SATURATED, says="53300"),
    "stopped by a signal": expect(Reason.TIMEOUT),
    "no TLS where it is wanted": expect(Reason.TLS),
    "unknown CA": expect(Reason.TLS),
    "wrong host name": expect(Reason.TLS),
    "expired": expect(Reason.TLS, says="expired"),
    "client certificate demanded": expect(Reason.TLS, says="client certificate"),
    "private CA": expect(Reason.OK),
    "rejectUnauthorized false": expect(Reason.OK),
    "servername": expect(Reason.OK),
    "2^31-1 SCRAM iterations": expect(Reason.PROTOCOL, says="iterations"),
    "cannot prove that it knows the user": expect(Reason.PROTOCOL, says="cannot prove"),
    "a Redis answers": expect(Reason.TIMEOUT),
    "a MongoDB answers": expect(Reason.PROTOCOL, says="MongoDB"),
    "TLS alone reached in clear text": expect(Reason.PROTOCOL, Reason.CLOSED),
    "nothing listens": expect(Reason.REFUSED),
    "closes during connect": expect(Reason.CLOSED),
    "resets during connect": expect(Reason.CLOSED),
    "is silent": expect(Reason.TIMEOUT),
    "sends a byte a second": expect(Reason.TIMEOUT),
    "answers after the time": expect(Reason.TIMEOUT),
    "answers HTTP": expect(Reason.PROTOCOL),
    "greets as SSH does": expect(Reason.PROTOCOL),
    "greets as MySQL does": expect(Reason.PROTOCOL),
    "replies without end": expect(Reason.PROTOCOL),
    "declares 2 GB": expect(Reason.PROTOCOL),
    "its queue of callers is full": expect(Reason.TIMEOUT),
    "closes during authentication": expect(Reason.CLOSED),
    "closes during ping": expect(Reason.CLOSED),
    "never answers the ping": expect(Reason.TIMEOUT, says="query"),
    "clear text reached with TLS": expect(Reason.TLS, Reason.PROTOCOL),
}
_DRIVERS: dict[str, Expected | Shortfall] = {
    "a MongoDB answers": expect(Reason.CLOSED, but=[ANOTHER]),
    "password wanted in clear text": expect(Reason.OK, but=[CLEAR_PASSWORD]),
    "no credentials where they are demanded": expect(Reason.AUTH),
    "2^31-1 SCRAM iterations": ITERATIONS,
    "answers HTTP": expect(Reason.CLOSED, but=[STRANGER]),
    "greets as SSH does": expect(Reason.TIMEOUT, but=[STRANGER]),
    "greets as MySQL does": expect(Reason.TIMEOUT, but=[STRANGER]),
    "replies without end": expect(Reason.TIMEOUT, but=[ENDLESS]),
    "declares 2 GB": expect(Reason.TIMEOUT, but=[HUGE]),
    "never answers the ping": expect(Reason.TIMEOUT),
}

ROWS: tuple[Fault, ...] = tuple(
    Fault(
        name=name,
        engine=Engine.POSTGRESQL,
        make=make,
        expected=ways(_EXPECTED[name], _DRIVERS.get(name, _EXPECTED[name])),
    )
    for name, make in _MAKERS.items()
)
