"""The nouns of the table of faults: rows, what is expected of each way of asking, one cell's case.

A row makes one fault on a real server, or on a misbehaving socket where no real one does it. Its
`make` opens a `Case` from a `Stage`; each way of asking that it names an expectation for is a cell.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from ipaddress import ip_network

import pytest

from tests.faults.stage import Stage
from worker.model import CheckResult
from worker.network import AddressRules
from worker.resolver import Resolver
from worker.words import Engine, Reason


class Way(StrEnum):
    """How a server is asked; `drivers` is redis-py, asyncpg or PyMongo."""

    WIRE = "wire"
    DRIVERS = "drivers"
    MOTOR = "motor"


class Promise(Enum):
    """What a cell proves; a library may be unable to keep one of them."""

    REASON = "the fault has its right name"
    TIME = "the check ends by its configured time, half a second allowed"
    LEAK = "two seconds later no task and no thread of it is left"
    CLOSED = "and no connection"
    TEXT = "the text names host and port"
    ATTEMPTS = "retried as configured, authentication once"


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a library cannot do better, told in the README in these words, and what that waives."""

    words: str
    waives: frozenset[Promise] = frozenset()


@dataclass(frozen=True, slots=True)
class Expected:
    """What one way of asking must make of a fault."""

    reasons: frozenset[Reason]
    says: str = ""
    """Words that the text must hold, beside host and port."""
    shortfalls: tuple[Shortfall, ...] = ()

    def waives(self, promise: Promise) -> bool:
        """Whether the library is known to be unable to keep this promise here."""
        return any(promise in each.waives for each in self.shortfalls)


def expect(*reasons: Reason, says: str = "", but: Sequence[Shortfall] = ()) -> Expected:
    """Write an expectation: one of these reasons, these words in the text, but these shortfalls."""
    return Expected(frozenset(reasons), says, tuple(but))


async def nothing_more(result: CheckResult) -> None:
    """Ask nothing beyond what every cell proves."""


def _loopback_only() -> AddressRules:
    return AddressRules.build([ip_network("127.0.0.1/32"), ip_network("::1/128")], [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault that has been made: what to check, and what must hold beside the name."""

    url: str
    address: str
    """Host and port that the text must name."""
    config: Mapping[str, object]
    """The row's `config`, retries left out: every cell allows two attempts, 50 ms apart."""
    seconds: float | None = None
    """When one attempt must have ended; None means the plan's own bound."""
    secrets: tuple[str, ...] = ()
    """What may appear nowhere; made by `Stage.secret`."""
    ssl_enabled: bool = False
    deadline: float = 10.0
    """Seconds, of the whole check."""
    rules: AddressRules = field(default_factory=_loopback_only)
    resolver: Resolver | None = None
    during: AbstractContextManager[object] = field(default_factory=nullcontext)
    """What is wrong with our own side while the check runs."""
    afterwards: Callable[[CheckResult], Awaitable[None]] = nothing_more
    """Asserts what else the row promises."""


Make = Callable[[Stage], AbstractAsyncContextManager[Case]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table."""

    name: str
    engine: Engine
    make: Make
    expected: Mapping[Way, Expected | Shortfall]
    """A shortfall in place of an expectation: asking in this way would harm the test itself."""

    def __str__(self) -> str:
        """Write it as in a test's name."""
        return f"{self.engine}: {self.name}"


def ways(
    wire: Expected,
    drivers: Expected | Shortfall | None = None,
    motor: Expected | Shortfall | None = None,
) -> Mapping[Way, Expected | Shortfall]:
    """Lay out a row; None where there is no such library, or it has no part in the fault."""
    cells = {Way.WIRE: wire, Way.DRIVERS: drivers, Way.MOTOR: motor}
    return {way: cell for way, cell in cells.items() if cell is not None}


def every_way(engine: Engine, expected: Expected) -> Mapping[Way, Expected | Shortfall]:
    """Expect the same of our own handshake and of every library for this engine."""
    libraries = [Way.DRIVERS, Way.MOTOR] if engine is Engine.MONGODB else [Way.DRIVERS]
    return dict.fromkeys([Way.WIRE, *libraries], expected)


def cells(rows: Sequence[Fault]) -> pytest.MarkDecorator:
    """Parametrize a test over every cell of these rows, as `fault` and `way`."""
    return pytest.mark.parametrize(("fault", "way"), list(_cells(rows)))


def _cells(rows: Sequence[Fault]) -> Iterator[object]:
    for row in rows:
        for way, expected in row.expected.items():
            if isinstance(expected, Expected):
                yield pytest.param(row, way, id=f"{row}, {way}")
