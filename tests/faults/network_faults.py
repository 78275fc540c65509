"""The table's rows for names, routes and our own side, the same for every engine."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from testbed.faulty_nameserver import BROKEN, HANGS, FaultyNameserver
from testbed.misbehaving import FullBacklog, MisbehavingServer, mute
from testbed.ports import free_port, release_port
from tests.faults.dialects import POSTGRESQL, REDIS, Dialect
from tests.faults.matrix import Case, Expected, Fault, Make, Shortfall, expect, ways
from tests.faults.shortfalls import ADDRESS_RULES, LOOK_UP
from tests.faults.stage import Stage
from worker.model import CheckResult
from worker.network import AddressRules
from worker.resolver import Resolver
from worker.words import Reason

NAME = "database.test"


def named(
    dialect: Dialect,
    host: str,
    addresses: Sequence[str] = (),
    *,
    is_silent: bool = False,
    seconds: float | None = None,
) -> Make:
    """Make a row's case of a name, and what a nameserver of our own says of it."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret, port = stage.secret(), free_port()
        with FaultyNameserver({f"{host}.": addresses}, is_silent=is_silent) as nameserver:
            yield Case(
                url=dialect.url(secret, host, port),
                address=f"{host}:{port}",
                config=dialect.patient if seconds is None else dialect.config,
                seconds=seconds,
                secrets=(secret,),
                rules=AddressRules.allow_everything(),
                resolver=Resolver(nameserver.resolver()),
            )
        release_port(port)

    return case


def impossible_name(dialect: Dialect) -> Make:
    """Make a row's case of a name that no nameserver can be asked for."""
    return named(dialect, f"{'x' * 64}.test")


def second_family(dialect: Dialect) -> Make:
    """Make a row's case of a name whose IPv6 address swallows callers, and whose IPv4 answers."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        port, template, secret = dialect.sign_in(stage)
        zone = {f"{NAME}.": ("::1", "127.0.0.1")}
        with FullBacklog("::1", port), FaultyNameserver(zone) as nameserver:
            yield Case(
                url=template.format(secret=secret, place=f"{NAME}:{port}"),
                address=f"{NAME}:{port}",
                config=dialect.patient,
                secrets=(secret,),
                rules=AddressRules.allow_everything(),
                resolver=Resolver(nameserver.resolver()),
            )

    return case


def only_one_family(dialect: Dialect) -> Make:
    """Make a row's case of an IPv6 address alone that swallows callers."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        with FullBacklog("::1") as server:
            yield Case(
                url=dialect.url(secret, server.host, server.port),
                address=f"[::1]:{server.port}",
                config=dialect.config,
                seconds=dialect.connect_seconds,
                secrets=(secret,),
                rules=AddressRules.allow_everything(),
            )

    return case


def blocked(dialect: Dialect, name: str = "", addresses: Sequence[str] = ()) -> Make:
    """Make a row's case of a host that the rules forbid, and see that it is left alone."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        with (
            MisbehavingServer(mute) as server,
            FaultyNameserver({f"{name}.": addresses}) as nameserver,
        ):

            async def nobody_called(_: CheckResult) -> None:
                assert server.callers == 0

            host = name or server.host
            yield Case(
                url=dialect.url(secret, host, server.port),
                address=f"{host}:{server.port}",
                config=dialect.config,
                seconds=dialect.connect_seconds,
                secrets=(secret,),
                rules=AddressRules.build([], []),
                resolver=Resolver(nameserver.resolver()),
                afterwards=nobody_called,
            )

    return case


def out_of_descriptors(dialect: Dialect) -> Make:
    """Make a row's case of a worker that may open nothing more."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        with MisbehavingServer(mute) as server:
            yield Case(
                url=dialect.url(secret, server.host, server.port),
                address=f"{server.host}:{server.port}",
                config=dialect.patient,
                secrets=(secret,),
                during=no_descriptors(),
            )

    return case


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Use up the descriptors of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _makers(dialect: Dialect) -> Mapping[str, Make]:
    at_its_time = dialect.connect_seconds
    return {
        "unknown host": named(dialect, "nowhere.test"),
        "a name that cannot be": impossible_name(dialect),
        "a name without addresses": named(dialect, NAME),
        "a name whose nameservers are broken": named(dialect, BROKEN.rstrip(".")),
        "a look-up that hangs": named(dialect, HANGS.rstrip("."), seconds=at_its_time),
        "our resolver is silent": named(dialect, NAME, is_silent=True, seconds=at_its_time),
        "a name of two families, nothing listens": named(dialect, NAME, ("::1", "127.0.0.1")),
        "a second family answers": second_family(dialect),
        "the only family does not answer": only_one_family(dialect),
        "out of descriptors": out_of_descriptors(dialect),
        "a blocked address": blocked(dialect),
        "a name with a blocked address": blocked(dialect, NAME, ("198.51.100.1", "127.0.0.1")),
    }


_EXPECTED: Mapping[str, tuple[Expected, Expected | Shortfall]] = {
    "unknown host": (expect(Reason.DNS), LOOK_UP),
    "a name that cannot be": (expect(Reason.DNS), expect(Reason.DNS)),
    "a name without addresses": (expect(Reason.DNS), LOOK_UP),
    "a name whose nameservers are broken": (expect(Reason.DNS), LOOK_UP),
    "a look-up that hangs": (expect(Reason.DNS), LOOK_UP),
    "our resolver is silent": (expect(Reason.INTERNAL, says="resolver"), LOOK_UP),
    "a name of two families, nothing listens": (expect(Reason.REFUSED), LOOK_UP),
    "a second family answers": (expect(Reason.OK), LOOK_UP),
    "the only family does not answer": (expect(Reason.TIMEOUT), expect(Reason.TIMEOUT)),
    "out of descriptors": (
        expect(Reason.INTERNAL, says="EMFILE"),
        expect(Reason.INTERNAL, says="EMFILE"),
    ),
    "a blocked address": (expect(Reason.BLOCKED), ADDRESS_RULES),
    "a name with a blocked address": (expect(Reason.BLOCKED), ADDRESS_RULES),
}

ROWS: tuple[Fault, ...] = tuple(
    Fault(name=name, engine=dialect.engine, make=make, expected=ways(*_EXPECTED[name]))
    for dialect in (REDIS, POSTGRESQL)
    for name, make in _makers(dialect).items()
)
