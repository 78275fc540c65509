"""The registry's clock is told apart from a registry that keeps us waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.registry import Pace, Registry
from worker.registry_connection import RegistryConnection

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = 60.0


class Line:
    """A way to a registry that lies still before and after the registry reads its clock."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.clock = START
        self.before = self.after = 0.0
        self.expected: list[datetime | None] = []

    def go(self, seconds: float) -> None:
        self.monotonic += seconds
        self.clock += timedelta(seconds=seconds)

    async def read(
        self, reading: Callable[[Sequence[Any]], Any], _: str, __: str, *arguments: Any
    ) -> Any:
        self.expected.append(arguments[-1])
        self.go(self.before)
        now = self.clock
        self.go(self.after)
        return reading([{"next_after": None, "registry_now": now}])


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr("worker.registry.time", SimpleNamespace(monotonic=lambda: line.monotonic))
    return line


@pytest.fixture
async def registry(line: Line) -> Registry:
    """A registry whose clock was read a second ago."""
    registry = Registry(cast("RegistryConnection", line), Pace.of(1, 30))
    await registry.tend()
    line.go(1)
    line.expected.clear()
    return registry


@pytest.mark.parametrize(("before", "after"), [(MINUTE, 0.0), (0.0, MINUTE), (MINUTE, MINUTE)])
async def test_a_registry_that_answers_late_is_not_one_whose_clock_was_set(
    registry: Registry, line: Line, before: float, after: float
) -> None:
    line.before, line.after = before, after
    await registry.tend()
    line.before = line.after = 0.0
    for _ in range(2):
        line.go(1)
        await registry.tend()
    assert line.expected == [None] * 3


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_was_set_is_noticed_once_with_what_it_would_show(
    registry: Registry, line: Line, hours: int
) -> None:
    would_show = line.clock
    line.clock += timedelta(hours=hours)
    await registry.tend()
    await registry.tend()
    assert line.expected == [None, would_show, None]


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_was_set_is_noticed_though_the_registry_answers_late(
    registry: Registry, line: Line, hours: int
) -> None:
    line.before = MINUTE
    line.clock += timedelta(hours=hours)
    await registry.tend()
    assert len(line.expected) == 2
    assert line.expected[1] is not None
