"""The address that the rules have seen is the one that is connected to, however it is written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from testbed.nameserver import nameserver
from testbed.ports import free_port
from worker.connection import split
from worker.errors import ProbeError
from worker.network import AddressRules, Network
from worker.plan import Config
from worker.probes import table
from worker.resolver import Resolver
from worker.words import Engine, Reason

URLS = {
    Engine.REDIS: "redis://u:pw-secret@{}",
    Engine.MONGODB: "mongodb://u:pw-secret@{}",
    Engine.POSTGRESQL: "postgresql://u:pw-secret@{}",
}
every_engine = pytest.mark.parametrize("engine", list(Engine))
NOWHERE = AddressRules.build([], [])


def loopback(*allowed: str) -> AddressRules:
    return AddressRules.build([ip_network(each) for each in allowed], [])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen on loopback in both families, so that whoever knocks is noticed."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        server.setblocking(False)
        yield server


def was_knocked(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def fault(
    engine: Engine, place: str, rules: AddressRules, resolver: Resolver | None = None
) -> ProbeError:
    probe = table("wire", "pymongo", Network(rules, resolver))[engine]
    config = {"serverSelectionTimeoutMS": 500, "connectTimeout": 500, "commandTimeout": 500}
    plan = probe.plan(split(URLS[engine].format(place)), Config(config), ssl_enabled=False)
    with pytest.raises(ProbeError) as caught:
        await asyncio.wait_for(probe.ask(plan), 5)
    return caught.value


@every_engine
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LOCALHOST", "LocalHost.", "0.0.0.0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]", "[::127.0.0.1]"),
        *("[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[fe80::1%lo]", "[::1%lo]"),
    ],
)
async def test_no_spelling_of_loopback_is_contacted(
    engine: Engine, host: str, listener: socket.socket
) -> None:
    raised = await fault(engine, f"{host}:{listener.getsockname()[1]}", NOWHERE)
    assert raised.reason is Reason.BLOCKED
    assert not was_knocked(listener)


@pytest.mark.parametrize(
    "host",
    [
        *("0x7f.1", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "127.0.1"),
        *("127.0.0.1.", "0", "017700000001", "127.0.0.1.."),
    ],
)
async def test_numbers_that_only_the_c_library_takes_for_addresses_are_names(
    host: str, listener: socket.socket
) -> None:
    async with nameserver({}) as (_, resolver):
        place = f"{host}:{listener.getsockname()[1]}"
        raised = await fault(Engine.REDIS, place, NOWHERE, Resolver(resolver))
    assert raised.reason is Reason.DNS
    assert not was_knocked(listener)


@every_engine
@pytest.mark.parametrize(
    ("kind", "addresses"),
    [
        ("A", ["127.0.0.1"]),
        ("AAAA", ["::1"]),
        ("AAAA", ["::ffff:127.0.0.1"]),
        ("A", ["192.0.2.1", "127.0.0.1"]),
        ("A", ["127.0.0.1", "192.0.2.1"]),
        ("A", ["192.0.2.1", "169.254.169.254"]),
    ],
)
async def test_a_name_of_which_any_address_is_blocked_is_not_contacted(
    engine: Engine, kind: str, addresses: list[str], listener: socket.socket
) -> None:
    zone = {("db.example.", kind): [addresses]}
    async with nameserver(zone) as (_, resolver):
        place = f"db.example:{listener.getsockname()[1]}"
        raised = await fault(engine, place, NOWHERE, Resolver(resolver))
    assert raised.reason is Reason.BLOCKED
    assert not was_knocked(listener)


@every_engine
async def test_a_name_that_moves_to_a_blocked_address_after_it_was_checked_gains_nothing(
    engine: Engine, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    zone = {("db.example.", "A"): [["127.0.0.2"], ["127.0.0.1"]]}
    async with nameserver(zone) as (server, resolver):
        with socket.create_server(("127.0.0.2", free_port())) as permitted:
            permitted.setblocking(False)
            first = await fault(
                engine,
                f"db.example:{permitted.getsockname()[1]}",
                loopback("127.0.0.2/32"),
                Resolver(resolver),
            )
            assert was_knocked(permitted)
        asked = list(server.asked)
        second = await fault(
            engine, f"db.example:{port}", loopback("127.0.0.2/32"), Resolver(resolver)
        )
    assert first.reason is Reason.TIMEOUT
    assert asked.count(("db.example.", "A")) == 1
    assert second.reason is Reason.BLOCKED
    assert not was_knocked(listener)


async def test_a_mongodb_name_whose_srv_record_points_at_loopback_is_not_contacted(
    listener: socket.socket,
) -> None:
    port = listener.getsockname()[1]
    zone = {
        ("_mongodb._tcp.cluster.example.", "SRV"): [[f"0 0 {port} one.cluster.example."]],
        ("cluster.example.", "TXT"): [['"authSource=admin"']],
        ("one.cluster.example.", "A"): [["127.0.0.1"]],
    }
    probe_rules = NOWHERE
    async with nameserver(zone) as (_, resolver):
        probe = table("wire", "pymongo", Network(probe_rules, Resolver(resolver)))[Engine.MONGODB]
        url = "mongodb+srv://u:pw-secret@cluster.example/?tls=false"
        plan = probe.plan(split(url), Config({}), ssl_enabled=False)
        with pytest.raises(ProbeError) as caught:
            await probe.ask(plan)
    assert caught.value.reason is Reason.BLOCKED
    assert not was_knocked(listener)


@every_engine
async def test_blocked_tells_nothing_of_what_is_there(
    engine: Engine, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    zone = {
        ("one.example.", "A"): [["127.0.0.1"]],
        ("two.example.", "A"): [["192.0.2.1", "169.254.169.254"]],
    }
    async with nameserver(zone) as (_, resolver):
        texts = [
            (await fault(engine, place, NOWHERE, Resolver(resolver))).text.replace(place, "")
            for place in (
                f"127.0.0.1:{port}",
                f"127.0.0.1:{free_port()}",
                f"one.example:{port}",
                f"two.example:{port}",
                f"[fe80::1%lo]:{port}",
            )
        ]
    assert len(set(texts)) == 1, texts
    assert not was_knocked(listener)
