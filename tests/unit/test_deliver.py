"""What is said at once of a result, and how often."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from worker import fleet_series
from worker.deliver import MAX_TROUBLES, REPEAT_SECONDS, Sinks
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.model import CheckResult, Identity, Lease, RawRow
from worker.ports import Level
from worker.words import Event, Reason, Status


class Clock:
    """Stands still until it is told."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Lines:
    """Keeps the events that were logged."""

    def __init__(self) -> None:
        self.kept: list[tuple[Event, Level, str, Mapping[str, object]]] = []

    def __call__(self, event: Event, level: Level, message: str, **facts: object) -> None:
        self.kept.append((event, level, message, facts))

    def complaints(self) -> list[Mapping[str, object]]:
        return [facts for event, *_, facts in self.kept if event is Event.CHECKS_IMPAIRED]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def sinks(lines: Lines, clock: Clock) -> Sinks:
    fleet = Fleet(fleet_series.write)
    return Sinks(Metrics(fleet, "0", "test"), lines, fleet, clock)


def deliver(sinks: Sinks, reason: Reason, text: str) -> None:
    """Deliver a result of a row that no other call delivers."""
    now = datetime.now(UTC)
    identity = Identity(uuid4(), uuid4(), "a database", "redis")
    lease = Lease(1, now, now, now, time.monotonic())
    row = RawRow(identity, "redis://host", True, "{}", False, lease, Status.HEALTHY, Reason.OK)
    address = f"{identity.database_id}:6379"
    result = CheckResult(
        identity=identity,
        lease=lease,
        reason=reason,
        status=reason.status,
        error=f"{reason}: {text} ({address})",
        latency=None,
        phases={},
        attempts=1,
        started=0,
        finished=0,
        interval=60,
        address=address,
    )
    sinks.take(row, result)


def test_a_trouble_of_ours_is_said_once_and_not_once_a_row(sinks: Sinks, lines: Lines) -> None:
    for _ in range(50):
        deliver(sinks, Reason.INTERNAL, "the worker ran short: EMFILE")
    assert [facts["checks"] for facts in lines.complaints()] == [1]
    assert [level for event, level, *_ in lines.kept if event is Event.CHECKS_IMPAIRED] == ["warn"]


def test_a_trouble_of_ours_that_lasts_is_said_once_a_minute(
    sinks: Sinks, lines: Lines, clock: Clock
) -> None:
    for _ in range(3):
        for _ in range(10):
            deliver(sinks, Reason.INTERNAL, "the worker ran short: EMFILE")
        clock.now += REPEAT_SECONDS
    assert [facts["checks"] for facts in lines.complaints()] == [1, 10, 10]


def test_each_trouble_of_ours_is_said(sinks: Sinks, lines: Lines) -> None:
    for text in ("the worker ran short: EMFILE", "the worker's resolver does not answer"):
        deliver(sinks, Reason.INTERNAL, text)
    assert [facts["cause"] for facts in lines.complaints()] == [
        "internal: the worker ran short: EMFILE",
        "internal: the worker's resolver does not answer",
    ]


@pytest.mark.parametrize(
    "hosts", ["", " (b.example:27017)", f" ({'x.example:1,' * 30}y.example:1)"]
)
def test_hosts_in_the_text_do_not_make_a_trouble_another_one(
    sinks: Sinks, lines: Lines, hosts: str
) -> None:
    for number in range(20):
        deliver(sinks, Reason.INTERNAL, f"the worker ran short: EMFILE{hosts}{number * ' (h:1)'}")
    assert [facts["cause"] for facts in lines.complaints()] == [
        "internal: the worker ran short: EMFILE"
    ]


def test_of_too_many_different_troubles_the_rest_is_said_as_one(
    sinks: Sinks, lines: Lines, clock: Clock
) -> None:
    for minute in range(1, 4):
        for number in range(1000):
            deliver(sinks, Reason.INTERNAL, f"trouble {number} of minute {minute}")
        assert len(lines.complaints()) == minute * (MAX_TROUBLES + 1)
        assert lines.complaints()[-1]["cause"] == "internal: many things at once"
        clock.now += REPEAT_SECONDS


def test_a_trouble_of_the_server_is_none_of_ours(sinks: Sinks, lines: Lines) -> None:
    deliver(sinks, Reason.REFUSED, "nothing listens there")
    assert not lines.complaints()
