"""The table's rows for packets and routes, made in a network of our own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from testbed.faulty_nameserver import FaultyNameserver
from testbed.misbehaving import MisbehavingServer, mute
from testbed.namespace import NO_IPV6, NO_ROUTE, OWN, SWALLOWED, Namespace, only_port
from testbed.ports import free_port, release_port
from testbed.redis import RedisOptions, RedisServer
from tests.faults.dialects import POSTGRESQL, REDIS, Dialect
from tests.faults.matrix import Case, Expected, Fault, Make, Shortfall, every_way, expect, ways
from tests.faults.shortfalls import LOOK_UP, OWN_NETWORK
from tests.faults.stage import Stage
from worker.network import AddressRules
from worker.resolver import Resolver
from worker.words import Engine, Reason

NAME = "database.test"


def towards(
    dialect: Dialect, address: str, *, seconds: float | None = None, is_cut_off: bool = False
) -> Make:
    """Make a row's case of an address, asked from within such a network."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        with Namespace(is_cut_off=is_cut_off) as network, network.entered():
            yield Case(
                url=dialect.url(secret, address, 6400),
                address=f"{address}:6400",
                config=dialect.patient if seconds is None else dialect.config,
                seconds=seconds,
                secrets=(secret,),
                rules=AddressRules.allow_everything(),
            )

    return case


def named(dialect: Dialect, addresses: Sequence[str]) -> Make:
    """Make a row's case of a name with these addresses, at whose port nothing listens."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret, port = stage.secret(), free_port()
        with (
            Namespace() as network,
            network.entered(),
            FaultyNameserver({f"{NAME}.": addresses}) as nameserver,
        ):
            yield Case(
                url=dialect.url(secret, NAME, port),
                address=f"{NAME}:{port}",
                config=dialect.patient,
                secrets=(secret,),
                rules=AddressRules.allow_everything(),
                resolver=Resolver(nameserver.resolver()),
            )
        release_port(port)

    return case


def no_free_port(dialect: Dialect) -> Make:
    """Make a row's case of a worker whose ports are all in use."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        with (
            Namespace() as network,
            network.entered(),
            MisbehavingServer(mute) as server,
            only_port(60_000),
            socket.create_connection((server.host, server.port)),
        ):
            yield Case(
                url=dialect.url(secret, server.host, server.port),
                address=f"{server.host}:{server.port}",
                config=dialect.patient,
                secrets=(secret,),
            )

    return case


@asynccontextmanager
async def protected_mode(stage: Stage) -> AsyncIterator[Case]:
    # The server takes whoever comes from 127.0.0.1 for a friend, so that another address calls.
    settings = {"bind": f"127.0.0.1 {OWN}", "protected-mode": "yes"}
    with (
        Namespace() as network,
        network.entered(),
        RedisServer(RedisOptions(settings=settings)) as server,
    ):
        yield Case(
            url=f"redis://{OWN}:{server.port}",
            address=f"{OWN}:{server.port}",
            config=REDIS.config,
        )


def _makers(dialect: Dialect) -> Mapping[str, Make]:
    at_its_time = dialect.connect_seconds
    return {
        "packets are swallowed": towards(dialect, SWALLOWED, seconds=at_its_time),
        "no route": towards(dialect, NO_ROUTE),
        "one family without route, nothing listens": named(dialect, (NO_IPV6, "127.0.0.1")),
        "our network is down": towards(dialect, NO_ROUTE, is_cut_off=True),
        "no free port": no_free_port(dialect),
    }


_EXPECTED: Mapping[str, tuple[Expected, Expected | Shortfall]] = {
    "packets are swallowed": (expect(Reason.TIMEOUT), expect(Reason.TIMEOUT)),
    "no route": (expect(Reason.UNREACHABLE), expect(Reason.UNREACHABLE)),
    "one family without route, nothing listens": (expect(Reason.REFUSED), LOOK_UP),
    "our network is down": (
        expect(Reason.INTERNAL, says="network is down"),
        expect(Reason.UNREACHABLE, but=[OWN_NETWORK]),
    ),
    "no free port": (
        expect(Reason.INTERNAL, says="EADDRNOTAVAIL"),
        expect(Reason.INTERNAL, says="EADDRNOTAVAIL"),
    ),
}

ROWS: tuple[Fault, ...] = (
    *(
        Fault(name=name, engine=dialect.engine, make=make, expected=ways(*_EXPECTED[name]))
        for dialect in (REDIS, POSTGRESQL)
        for name, make in _makers(dialect).items()
    ),
    Fault(
        name="protected mode",
        engine=Engine.REDIS,
        make=protected_mode,
        expected=every_way(Engine.REDIS, expect(Reason.AUTH, says="protected mode")),
    ),
)
