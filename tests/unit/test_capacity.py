"""What is said of too few slots is what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testbed.fakes import Lines, make_result, make_row
from worker.capacity import Capacity
from worker.model import CheckResult
from worker.words import Event, Reason

INTERVAL = 10.0


def late(seconds: float, reason: Reason) -> CheckResult:
    row = make_row(due_in=-seconds, reason=reason)
    return replace(make_result(row, reason, INTERVAL), started=row.lease.claimed_monotonic)


def test_slow_rows_that_wait_while_all_others_are_on_time_tell_how_many_slots_are_missing() -> None:
    log = Lines()
    capacity = Capacity(20, log)
    capacity._began -= 60
    capacity.look(5, 20, is_short=True)
    for _ in range(90):
        capacity.checked(late(0, Reason.OK))
    for _ in range(10):
        capacity.checked(late(INTERVAL, Reason.TIMEOUT))
    capacity.look(5, 20, is_short=True)
    (line,) = log.of(Event.CAPACITY_SHORT)
    assert line.facts["missing_slots"] in {20, 21}
    checks, missing = line.facts["checks_per_second"], line.facts["missing_checks_per_second"]
    assert checks == pytest.approx(10 * missing, rel=0.01)
