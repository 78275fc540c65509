"""The table's rows for Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import token_hex

from testbed.certificates import Certificate
from testbed.ports import free_port, release_port
from testbed.programs import ProgramError, wait_until
from testbed.redis import RedisOptions, RedisServer
from tests.faults.dialects import PATIENT, POSTGRESQL, QUICK, REDIS
from tests.faults.matrix import Case, Expected, Fault, Make, expect, ways
from tests.faults.mongodb_cases import MONGODB
from tests.faults.shortfalls import ANOTHER, HUGE
from tests.faults.socket_faults import another_engine, makers
from tests.faults.stage import Stage
from worker.words import Engine, Reason


def case(
    server: RedisServer,
    url: str,
    *secrets: str,
    config: Mapping[str, object] = PATIENT,
    seconds: float | None = None,
) -> Case:
    """Write a case of this server's."""
    address = f"{server.host}:{server.port}"
    return Case(url=url, address=address, config=config, seconds=seconds, secrets=secrets)


def credentials(write: Callable[[RedisServer, str], str]) -> Make:
    """Make a row's case of a URL with a strange secret at the shared server."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server, secret = stage.redis(), stage.secret()
        yield case(server, write(server, secret), secret)

    return make


@asynccontextmanager
async def no_such_index(stage: Stage) -> AsyncIterator[Case]:
    server = stage.redis()
    yield case(server, server.url(database="16"), server.options.password or "")


@asynccontextmanager
async def foreign_option(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.redis(), stage.secret()
    url = server.url(password=secret, ssl_keyfile=secret)
    yield replace(case(server, url, secret), address="")


def _open(stage: Stage) -> RedisServer:
    """Share a Redis without password, with a user who may do nothing."""
    users = (f"idle on >{token_hex(12)} ~* -@all",)
    return stage.shared("open redis", lambda: RedisServer(RedisOptions(users=users)))


@asynccontextmanager
async def needless_password(stage: Stage) -> AsyncIterator[Case]:
    server, secret = _open(stage), stage.secret()
    yield case(server, server.url(password=secret), secret)


@asynccontextmanager
async def no_rights(stage: Stage) -> AsyncIterator[Case]:
    server = _open(stage)
    secret = server.options.users[0].split()[2][1:]
    yield case(server, server.url("idle", secret), secret)


@asynccontextmanager
async def loading(stage: Stage) -> AsyncIterator[Case]:
    settings = {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
    options = RedisOptions(password=token_hex(12))
    with RedisServer(options) as server:
        server.execute("DEBUG", "POPULATE", "20000")
        server.execute("SAVE")
        server.stop()
        server.options = replace(options, settings=settings, ready="Loading RDB")
        server.start()
        yield case(server, server.url(), options.password or "")
        server.kill()


@asynccontextmanager
async def busy(stage: Stage) -> AsyncIterator[Case]:
    options = RedisOptions(password=token_hex(12), settings={"lua-time-limit": "20"})
    with RedisServer(options) as server, server.connection() as other:
        other.send("EVAL", "while true do end", "0")
        wait_until(lambda: _complains(server, "BUSY"), "the script to be too slow")
        yield case(server, server.url(), options.password or "")
        server.kill()


@asynccontextmanager
async def master_down(stage: Stage) -> AsyncIterator[Case]:
    master = free_port()
    settings = {"replicaof": f"127.0.0.1 {master}", "replica-serve-stale-data": "no"}
    options = RedisOptions(password=token_hex(12), settings=settings)
    with RedisServer(options) as server:
        yield case(server, server.url(), options.password or "")
    release_port(master)


@asynccontextmanager
async def cannot_save(stage: Stage) -> AsyncIterator[Case]:
    options = RedisOptions(password=token_hex(12), settings={"save": "3600 1000000"})
    with RedisServer(options) as server:
        # A folder of the dump's name makes the last step of saving fail, for root, too.
        server.folder.make("dump.rdb").joinpath("occupied").touch()
        server.execute("SET", "key", "value")
        server.execute("BGSAVE")
        wait_until(
            lambda: "rdb_last_bgsave_status:err" in str(server.execute("INFO", "persistence")),
            "saving to fail",
        )
        yield case(server, server.url(), options.password or "")
        server.kill()


@asynccontextmanager
async def full(stage: Stage) -> AsyncIterator[Case]:
    options = RedisOptions(password=token_hex(12), settings={"maxclients": "1"})
    with RedisServer(options) as server, server.connection() as other:
        other.execute("PING")
        yield case(server, server.url(), options.password or "")


@asynccontextmanager
async def paused(stage: Stage) -> AsyncIterator[Case]:
    options = RedisOptions(password=token_hex(12))
    with RedisServer(options) as server:
        server.pause()
        url = server.url()
        secret, seconds = options.password or "", REDIS.connect_seconds
        yield case(server, url, secret, config=QUICK, seconds=seconds)
        server.kill()


def _complains(server: RedisServer, code: str) -> bool:
    try:
        with server.connection(1) as connection:
            connection.execute("PING")
    except (ProgramError, TimeoutError) as error:
        return code in str(error)
    return False


def tls(
    pick: Callable[[Stage], Certificate],
    trust: Callable[[Stage], dict[str, object]],
    *,
    client_certificates: bool = False,
    in_clear: bool = False,
) -> Make:
    """Make a row's case of a server with TLS, of what it shows and what the row trusts."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        options = RedisOptions(
            password=token_hex(12),
            certificate=pick(stage),
            client_certificates=client_certificates,
        )
        with RedisServer(options) as server:
            url = server.url()
            if in_clear:
                url = url.replace("rediss:", "redis:")
            config = {**PATIENT, "tls": trust(stage)}
            yield case(server, url, options.password or "", config=config)

    return make


def trusting(**more: object) -> Callable[[Stage], dict[str, object]]:
    """Trust the test bed's authority, and what else `config.tls` is to say."""
    return lambda stage: {"ca": stage.certificates.ca.decode(), **more}


def good(stage: Stage) -> Certificate:
    """Pick the certificate that fits."""
    return stage.certificates.good


_SOCKET = makers(REDIS)
_OWN: dict[str, Make] = {
    "a PostgreSQL answers": another_engine(REDIS, POSTGRESQL),
    "a MongoDB answers": another_engine(REDIS, MONGODB),
    "wrong password": credentials(lambda server, secret: server.url(password=secret)),
    "unknown user": credentials(lambda server, secret: server.url("stranger", secret)),
    "no credentials where they are demanded": credentials(
        lambda server, _: f"redis://{server.host}:{server.port}"
    ),
    "a password where there is none": needless_password,
    "a user who may do nothing": no_rights,
    "an index that does not exist": no_such_index,
    "an option that reaches for our files": foreign_option,
    "LOADING": loading,
    "BUSY": busy,
    "MASTERDOWN": master_down,
    "MISCONF": cannot_save,
    "maxclients": full,
    "stopped by a signal": paused,
    "TLS reached in clear text": tls(good, trusting(), in_clear=True),
    "unknown CA": tls(lambda stage: stage.certificates.unknown_ca, trusting()),
    "wrong host name": tls(lambda stage: stage.certificates.other_name, trusting()),
    "expired": tls(lambda stage: stage.certificates.expired, trusting()),
    "client certificate demanded": tls(good, trusting(), client_certificates=True),
    "private CA": tls(good, trusting()),
    "rejectUnauthorized false": tls(
        lambda stage: stage.certificates.unknown_ca, lambda _: {"rejectUnauthorized": False}
    ),
    "servername": tls(
        lambda stage: stage.certificates.other_name, trusting(servername="elsewhere.test")
    ),
}

_EXPECTED: dict[str, Expected] = {
    "wrong password": expect(Reason.AUTH, says="WRONGPASS"),
    "unknown user": expect(Reason.AUTH, says="WRONGPASS"),
    "no credentials where they are demanded": expect(Reason.AUTH, says="NOAUTH"),
    "a password where there is none": expect(Reason.AUTH, says="no password"),
    "a user who may do nothing": expect(Reason.AUTH, says="NOPERM"),
    "an index that does not exist": expect(Reason.MISSING),
    "an option that reaches for our files": expect(Reason.MISCONFIGURED, says="ssl_keyfile"),
    "LOADING": expect(Reason.NOT_READY, says="LOADING"),
    "BUSY": expect(Reason.NOT_READY, says="BUSY"),
    "MASTERDOWN": expect(Reason.NOT_READY, says="MASTERDOWN"),
    "MISCONF": expect(Reason.NOT_READY, says="MISCONF"),
    "maxclients": expect(Reason.SATURATED),
    "stopped by a signal": expect(Reason.TIMEOUT),
    "TLS reached in clear text": expect(Reason.PROTOCOL, Reason.CLOSED),
    "unknown CA": expect(Reason.TLS),
    "wrong host name": expect(Reason.TLS),
    "expired": expect(Reason.TLS, says="expired"),
    "client certificate demanded": expect(Reason.TLS),
    "private CA": expect(Reason.OK),
    "rejectUnauthorized false": expect(Reason.OK),
    "servername": expect(Reason.OK),
    "a PostgreSQL answers": expect(Reason.PROTOCOL, says="PostgreSQL"),
    "a MongoDB answers": expect(Reason.PROTOCOL, says="MongoDB"),
    "TLS alone reached in clear text": expect(Reason.PROTOCOL, Reason.CLOSED),
    "nothing listens": expect(Reason.REFUSED),
    "closes during connect": expect(Reason.CLOSED),
    "resets during connect": expect(Reason.CLOSED),
    "is silent": expect(Reason.TIMEOUT),
    "sends a byte a second": expect(Reason.TIMEOUT),
    "answers after the time": expect(Reason.TIMEOUT),
    "answers HTTP": expect(Reason.PROTOCOL, says="HTTP"),
    "greets as SSH does": expect(Reason.PROTOCOL, says="SSH"),
    "greets as MySQL does": expect(Reason.PROTOCOL),
    "replies without end": expect(Reason.PROTOCOL),
    "declares 2 GB": expect(Reason.PROTOCOL),
    "its queue of callers is full": expect(Reason.TIMEOUT),
    "closes during authentication": expect(Reason.CLOSED),
    "closes during ping": expect(Reason.CLOSED),
    "never answers the ping": expect(Reason.TIMEOUT, says="PING"),
    "clear text reached with TLS": expect(Reason.TLS),
}
_DRIVERS: dict[str, Expected] = {
    "a PostgreSQL answers": expect(Reason.CLOSED, but=[ANOTHER]),
    "a MongoDB answers": expect(Reason.CLOSED, but=[ANOTHER]),
    "answers HTTP": expect(Reason.PROTOCOL),
    "greets as SSH does": expect(Reason.PROTOCOL),
    "greets as MySQL does": expect(Reason.CLOSED, but=[ANOTHER]),
    "declares 2 GB": expect(Reason.TIMEOUT, but=[HUGE]),
    "never answers the ping": expect(Reason.TIMEOUT),
}

ROWS: tuple[Fault, ...] = tuple(
    Fault(
        name=name,
        engine=Engine.REDIS,
        make=make,
        expected=ways(_EXPECTED[name], _DRIVERS.get(name, _EXPECTED[name])),
    )
    for name, make in (_OWN | _SOCKET).items()
)
