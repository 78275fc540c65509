"""Redis asked in its own words or through its library: all is read under its right name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from testbed.certificates import Certificates
from testbed.redis import RedisOptions, RedisServer
from worker.connection import split
from worker.errors import ProbeError
from worker.model import Answer
from worker.network import AddressRules, Network
from worker.plan import Config
from worker.ports import Probe
from worker.probes.drivers.redis import RedisDriverProbe
from worker.probes.redis import RedisPlan, RedisProbe, read_error
from worker.words import Phase, Reason

either = pytest.mark.parametrize("kind", ["wire", "drivers"])
SHORT: Mapping[str, object] = {"connectTimeout": 300, "commandTimeout": 300}


def plan(
    url: str, config: Mapping[str, object] | None = None, *, ssl_enabled: bool = False
) -> RedisPlan:
    probe = RedisProbe(Network(AddressRules.allow_everything()))
    return probe.plan(split(url), Config(config or {}), ssl_enabled=ssl_enabled)


def redis_probe(kind: str) -> Probe[RedisPlan]:
    if kind == "drivers":
        return RedisDriverProbe()
    return RedisProbe(Network(AddressRules.allow_everything()))


async def ask(
    url: str,
    config: Mapping[str, object] | None = None,
    *,
    kind: str = "wire",
) -> Answer:
    made = plan(url, config)
    return await redis_probe(kind).ask(made)


async def fault(
    url: str,
    config: Mapping[str, object] | None = None,
    *,
    kind: str = "wire",
) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await ask(url, config, kind=kind)
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
        yield f"redis://:secret-word@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in served:
            with suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture(scope="module")
def varied(certificates: Certificates) -> Iterator[RedisServer]:
    """A server with TLS, no password, and a user that may do nothing."""
    options = RedisOptions(
        certificate=certificates.good,
        users=("alice on >alice-secret ~* +@all", "idle on >idle-secret ~* -@all"),
    )
    with RedisServer(options) as server:
        yield server


@either
async def test_a_server_that_answers(redis_server: RedisServer, kind: str) -> None:
    assert await ask(redis_server.url(database="3"), kind=kind)


async def test_a_server_that_answers_tells_its_phases(redis_server: RedisServer) -> None:
    answer = await ask(redis_server.url(database="3"))
    assert {Phase.CONNECT, Phase.AUTH, Phase.PING} <= answer.phases.keys()


@either
async def test_users_and_tls(varied: RedisServer, certificates: Certificates, kind: str) -> None:
    trusts = {"tls": {"ca": certificates.ca.decode()}}
    assert await ask(varied.url("alice", "alice-secret"), trusts, kind=kind)
    assert (await fault(varied.url("idle", "idle-secret"), trusts, kind=kind)).reason is Reason.AUTH
    assert (await fault(varied.url(password="needless"), trusts, kind=kind)).reason is Reason.AUTH
    assert await ask(varied.url(), {"tls": {"rejectUnauthorized": False}}, kind=kind)
    assert await ask(varied.url(ssl_cert_reqs="none"), kind=kind)
    elsewhere = {"tls": {**trusts["tls"], "servername": "elsewhere.test"}}
    assert await ask(varied.url(ssl_check_hostname="false"), elsewhere, kind=kind)


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"$2147483647\r\n",
        b"x" * 200_000,
        b"+OK\r\n:1\r\n",
    ],
)
async def test_what_is_no_redis_is_protocol(words: bytes) -> None:
    async with saying(words) as url:
        error = await fault(url, SHORT)
    assert error.reason is Reason.PROTOCOL
    assert "secret-word" not in str(error)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("NOAUTH Authentication required.", Reason.AUTH),
        ("WRONGPASS invalid username-password pair", Reason.AUTH),
        ("NOPERM this user has no permissions", Reason.AUTH),
        ("DENIED Redis is running in protected mode", Reason.AUTH),
        ("ERR invalid password", Reason.AUTH),
        ("LOADING Redis is loading the dataset in memory", Reason.NOT_READY),
        ("BUSY Redis is busy running a script", Reason.NOT_READY),
        ("MASTERDOWN Link with MASTER is down", Reason.NOT_READY),
        ("MISCONF Errors writing to the AOF file", Reason.NOT_READY),
        ("ERR DB index is out of range", Reason.MISSING),
        ("ERR max number of clients reached", Reason.SATURATED),
        ("NEWCODE something", Reason.NOT_READY),
        ("", Reason.NOT_READY),
    ],
)
def test_error_replies(line: str, reason: Reason) -> None:
    assert read_error(line).reason is reason


def test_an_echoed_argument_is_not_quoted() -> None:
    line = "ERR unknown command 'AUTH', with args beginning with: 'secret-word'"
    assert "secret-word" not in read_error(line).text


@pytest.mark.parametrize(
    ("url", "config"),
    [
        ("http://host", {}),
        ("redis://one,two", {}),
        ("redis://host/zero", {}),
        ("redis://host/1?db=2", {}),
        ("redis://host", {"db": -1}),
        ("redis://host", {"connectTimeout": 300_001}),
        ("redis://host?ssl_cert_reqs=perhaps", {}),
        ("redis://host?ssl_ca_certs=/etc/secret-value", {}),
        ("rediss://host?ssl_keyfile=/etc/secret-value", {}),
        ("redis://host?unix_socket_path=/etc/secret-value", {}),
        ("redis://host?unheard_of=secret-value", {}),
    ],
)
def test_unusable_rows(url: str, config: Mapping[str, object]) -> None:
    with pytest.raises(ProbeError) as caught:
        plan(url, config)
    assert caught.value.reason is Reason.MISCONFIGURED
    assert "secret-value" not in caught.value.text
    option = url.partition("?")[2].partition("=")[0]
    assert "ssl_" not in option or option in caught.value.text


def test_the_url_wins_over_config() -> None:
    assert plan("redis://host/2", {"db": 3}).index == 2
    assert plan("redis://host?db=2", {"db": 3}).index == 2
    assert plan("redis://host", {"db": 3}).index == 3
    assert plan("redis://host?socket_timeout=1").hosts[0].port == 6379
    assert plan("redis://host").tls is None
    assert plan("rediss://host").tls is not None
    assert plan("redis://host", ssl_enabled=True).tls is not None
