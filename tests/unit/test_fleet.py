"""The metrics show the newest known state, whichever replica knows it."""

from __future__ import annotations

from dataclasses import replace

from testbed.fakes import make_result, make_row
from worker.fleet import Fleet
from worker.model import CheckResult, DatabaseState, Lease, Reason, Status

HOUR_SECONDS = 3600.0


def laid(fleet: Fleet, reason: Reason, ahead: float = 0.0) -> tuple[CheckResult, float]:
    """Lay a result that is so many seconds ahead, and return the registry's time."""
    result = make_result(make_row(), reason)
    lease: Lease = result.lease
    fleet.lay(replace(result, finished=result.finished + ahead))
    return result, lease.registry_time(result.finished)


def theirs(result: CheckResult, status: Status, at: float) -> DatabaseState:
    return DatabaseState(result.identity, status, Reason.OK, None, at)


def test_a_result_that_is_newer_than_the_snapshot_stays() -> None:
    fleet = Fleet()
    result, now = laid(fleet, Reason.REFUSED)
    fleet.replace([theirs(result, Status.HEALTHY, now - 10)], now + 1)
    (state,) = fleet.states().values()
    assert state.status is Status.UNHEALTHY


def test_a_snapshot_that_is_newer_than_the_result_takes_its_place() -> None:
    fleet = Fleet()
    result, now = laid(fleet, Reason.REFUSED)
    fleet.replace([theirs(result, Status.HEALTHY, now + 1)], now + 2)
    (state,) = fleet.states().values()
    assert state.status is Status.HEALTHY


def test_a_result_from_before_the_registrys_clock_was_set_back_hides_no_newer_one() -> None:
    fleet = Fleet()
    result, now = laid(fleet, Reason.REFUSED, ahead=HOUR_SECONDS)
    fleet.replace([theirs(result, Status.HEALTHY, now + 1)], now + 2)
    (state,) = fleet.states().values()
    assert state.status is Status.HEALTHY


def test_a_database_that_is_gone_from_the_snapshot_is_gone() -> None:
    fleet = Fleet()
    _, now = laid(fleet, Reason.OK)
    fleet.replace([], now + 1)
    assert fleet.states() == {}


def test_trouble_of_ours_leaves_the_last_state() -> None:
    fleet = Fleet()
    laid(fleet, Reason.INTERNAL)
    assert fleet.states() == {}
