"""PostgreSQL asked in its own words or through its library: all is read under its right name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from testbed.certificates import Certificates
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from worker.connection import split
from worker.errors import ProbeError
from worker.model import Answer
from worker.network import AddressRules, Network
from worker.plan import Config
from worker.ports import Probe
from worker.probes.drivers.postgresql import PostgreSQLDriverProbe
from worker.probes.postgresql import PostgreSQLProbe
from worker.probes.postgresql_plan import PostgreSQLPlan
from worker.words import Phase, Reason

either = pytest.mark.parametrize("kind", ["wire", "drivers"])
SHORT: Mapping[str, object] = {"connectTimeout": 300, "commandTimeout": 300}


def plan(
    url: str, config: Mapping[str, object] | None = None, *, ssl_enabled: bool = False
) -> PostgreSQLPlan:
    probe = PostgreSQLProbe(Network(AddressRules.allow_everything()))
    return probe.plan(split(url), Config(config or {}), ssl_enabled=ssl_enabled)


def postgresql_probe(kind: str) -> Probe[PostgreSQLPlan]:
    if kind == "drivers":
        return PostgreSQLDriverProbe()
    return PostgreSQLProbe(Network(AddressRules.allow_everything()))


async def ask(
    url: str,
    config: Mapping[str, object] | None = None,
    *,
    kind: str = "wire",
    ssl_enabled: bool = False,
) -> Answer:
    made = plan(url, config, ssl_enabled=ssl_enabled)
    return await postgresql_probe(kind).ask(made)


async def fault(
    url: str,
    config: Mapping[str, object] | None = None,
    *,
    kind: str = "wire",
    ssl_enabled: bool = False,
) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await ask(url, config, kind=kind, ssl_enabled=ssl_enabled)
    return caught.value


@asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[str]:
    """Run a server that says these words to everybody, then listens in silence."""

    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        writer.write(words)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://user:secret-word@127.0.0.1:{port}/db"
        for writer in served:
            with suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture(scope="module")
def varied(certificates: Certificates) -> Iterator[PostgreSQLServer]:
    """A server with TLS and a way of signing in for each user."""
    options = PostgreSQLOptions(
        certificate=certificates.good,
        hba=(
            "host all trusted all trust",
            "host all md5user all md5",
            "host all clear all password",
            "host all refused all reject",
            "host all all all scram-sha-256",
        ),
    )
    with PostgreSQLServer(options) as server:
        server.execute("create role trusted login; create role refused login")
        server.execute("create role clear login password 'clear-secret'")
        server.execute(
            "set password_encryption = md5; create role md5user login password 'md5-secret'"
        )
        yield server


@either
async def test_a_server_that_answers(postgresql_target: PostgreSQLServer, kind: str) -> None:
    assert await ask(postgresql_target.url(), kind=kind)


async def test_a_server_that_answers_tells_its_phases(postgresql_target: PostgreSQLServer) -> None:
    answer = await ask(postgresql_target.url())
    assert {Phase.CONNECT, Phase.AUTH, Phase.PING} <= answer.phases.keys()


async def test_every_way_of_signing_in(varied: PostgreSQLServer) -> None:
    assert await ask(varied.url("trusted", None, sslmode="disable"))
    assert await ask(varied.url("trusted", "needless", sslmode="disable"))
    assert await ask(varied.url("md5user", "md5-secret", sslmode="disable"))
    assert (await fault(varied.url("md5user", "no", sslmode="disable"))).reason is Reason.AUTH
    assert await ask(varied.url("clear", "clear-secret", sslmode="require"))
    error = await fault(varied.url("clear", "clear-secret", sslmode="disable"))
    assert error.reason is Reason.AUTH
    assert "clear text" in error.text
    error = await fault(varied.url("refused", "x", sslmode="disable"))
    assert (error.reason, "pg_hba" in error.text) == (Reason.AUTH, True)


@either
async def test_tls_modes(varied: PostgreSQLServer, certificates: Certificates, kind: str) -> None:
    trusts = {"tls": {"ca": certificates.ca.decode()}}
    for mode in ("allow", "prefer", "require"):
        assert await ask(varied.url(sslmode=mode), kind=kind)
    for mode in ("verify-ca", "verify-full"):
        assert await ask(varied.url(sslmode=mode), trusts, kind=kind)
        assert (await fault(varied.url(sslmode=mode), kind=kind)).reason is Reason.TLS
    assert await ask(varied.url(), trusts, ssl_enabled=True, kind=kind)
    assert (await fault(varied.url(), ssl_enabled=True, kind=kind)).reason is Reason.TLS
    lax = {"tls": {"rejectUnauthorized": False}}
    assert await ask(varied.url(), lax, ssl_enabled=True, kind=kind)
    elsewhere = {"tls": {**trusts["tls"], "servername": "elsewhere.test"}}
    assert await ask(varied.url(sslmode="verify-ca"), elsewhere, kind=kind)
    assert (
        await fault(varied.url(sslmode="verify-full"), elsewhere, kind=kind)
    ).reason is Reason.TLS


@either
async def test_a_server_without_tls(postgresql_target: PostgreSQLServer, kind: str) -> None:
    for mode in ("allow", "prefer"):
        assert await ask(postgresql_target.url(sslmode=mode), kind=kind)
    assert (await fault(postgresql_target.url(sslmode="require"), kind=kind)).reason is Reason.TLS


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"R\x7f\xff\xff\xff",
        b"R\0\0\0\4",
        b"R\0\0\0\x08\0\0\0\x0a",
        b"E\0\0\0\4",
        b"N\0\0\0\4" * 1000,
        b"Z\0\0\0\5I",
        b"\0" * 100,
    ],
)
async def test_what_is_no_postgresql_is_protocol_or_refused(words: bytes) -> None:
    async with saying(words) as url:
        error = await fault(url, SHORT)
    assert error.reason in {Reason.PROTOCOL, Reason.AUTH}
    assert "secret-word" not in str(error)
    if words != b"R\0\0\0\x08\0\0\0\x0a":
        assert error.reason is Reason.PROTOCOL


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("28P01", Reason.AUTH),
        ("28000", Reason.AUTH),
        ("42501", Reason.AUTH),
        ("3D000", Reason.MISSING),
        ("53300", Reason.SATURATED),
        ("57P01", Reason.NOT_READY),
        ("57P02", Reason.NOT_READY),
        ("57P03", Reason.NOT_READY),
        ("XX000", Reason.NOT_READY),
    ],
)
async def test_sqlstates(code: str, reason: Reason) -> None:
    body = b"SFATAL\0C" + code.encode() + b"\0Mwords\0\0"
    async with saying(b"E" + (len(body) + 4).to_bytes(4, "big") + body) as url:
        error = await fault(url, SHORT)
    assert error.reason is reason
    assert code in error.text


async def test_a_server_that_cannot_fork_is_saturated_in_its_own_words() -> None:
    """So report_fork_failure_to_client() says it, in protocol 2.0 and before it has read a byte."""
    words = "could not fork new process for connection: Cannot allocate memory"
    async with saying(f"E{words}\n\0".encode()) as url:
        error = await fault(url, SHORT)
    assert error.reason is Reason.SATURATED
    assert f'"{words}"' in error.text


@pytest.mark.parametrize(
    "words", [b"ERROR\r\n", b"E" * 1_500, b"Error\nno", b"E\x7f\xff\xff\xff\0"]
)
async def test_not_all_that_begins_with_an_e_is_an_error_of_postgresqls(words: bytes) -> None:
    async with saying(words) as url:
        assert (await fault(url, SHORT)).reason is Reason.PROTOCOL


@pytest.mark.parametrize(
    "option",
    [
        "service",
        "passfile",
        "sslkey",
        "sslcert",
        "sslrootcert",
        "sslcrl",
        "host",
        "hostaddr",
        "krbsrvname",
        "unheard_of",
    ],
)
def test_an_option_that_could_reach_further_is_misconfigured_by_name(option: str) -> None:
    with pytest.raises(ProbeError) as caught:
        plan(f"postgresql://user@host/db?{option}=/secret-value")
    assert caught.value.reason is Reason.MISCONFIGURED
    assert option in caught.value.text
    assert "secret-value" not in caught.value.text


def test_what_is_left_out_is_filled_in() -> None:
    made = plan("postgres://user@host?application_name=a&connect_timeout=3&keepalives_idle=1")
    assert (made.hosts[0].port, made.database, made.tls) == (5432, "user", None)
    assert (made.connect_timeout, made.command_timeout) == (10, 5)


@pytest.mark.parametrize(
    ("url", "config"),
    [
        ("mysql://user@host/db", {}),
        ("postgresql://host/db", {}),
        ("postgresql://user@host/db?sslmode=perhaps", {}),
        ("postgresql://user@host/db", {"connectTimeout": 0}),
        ("postgresql://user@host/db", {"commandTimeout": "5"}),
        ("postgresql://user@host/db", {"tls": {"ca": 1}}),
    ],
)
def test_unusable_rows(url: str, config: Mapping[str, object]) -> None:
    with pytest.raises(ProbeError) as caught:
        plan(url, config)
    assert caught.value.reason is Reason.MISCONFIGURED
