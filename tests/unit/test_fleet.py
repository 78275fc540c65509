"""The newest state of every database, wherever it comes from."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.nouns import identity, result
from worker.fleet import Fleet
from worker.model import DatabaseState, Identity, Reason, Status


def state(who: Identity, status: Status, checked_at: float) -> DatabaseState:
    return DatabaseState(who, status, None, None, checked_at)


def statuses(fleet: Fleet) -> set[Status]:
    return {each.status for each in fleet.states().values()}


def test_a_newer_result_lies_over_the_snapshot_and_a_newer_snapshot_over_the_result() -> None:
    fleet, made = Fleet(), result(Reason.REFUSED)
    at = made.lease.registry_time(made.finished)
    fleet.lay(made)
    fleet.replace([state(made.identity, Status.HEALTHY, at - 10)], at + 1)
    assert statuses(fleet) == {Status.UNHEALTHY}
    fleet.replace([state(made.identity, Status.HEALTHY, at + 10)], at + 11)
    assert statuses(fleet) == {Status.HEALTHY}


def test_a_row_that_the_snapshot_no_longer_holds_is_gone() -> None:
    fleet, made = Fleet(), result()
    at = made.lease.registry_time(made.finished)
    fleet.lay(made)
    fleet.replace([], at - 1)
    assert len(fleet.states()) == 1
    fleet.replace([], at + 1)
    assert not fleet.states()


def test_what_changed_is_taken_unless_a_result_is_newer_and_the_rest_holds_still() -> None:
    fleet, made, other = Fleet(), result(Reason.REFUSED), identity("another")
    at = made.lease.registry_time(made.finished)
    fleet.lay(made)
    fleet.update([state(made.identity, Status.HEALTHY, at - 10)], at + 1)
    assert statuses(fleet) == {Status.UNHEALTHY}
    fleet.update([state(other, Status.DEGRADED, at)], at + 1)
    assert statuses(fleet) == {Status.UNHEALTHY, Status.DEGRADED}
    fleet.update([state(made.identity, Status.HEALTHY, at + 10)], at + 11)
    fleet.update([], at + 12)
    assert statuses(fleet) == {Status.HEALTHY, Status.DEGRADED}
    assert len(fleet) == 2


def test_our_own_trouble_leaves_the_last_state() -> None:
    fleet, made = Fleet(), result()
    fleet.lay(made)
    fleet.lay(replace(made, reason=Reason.INTERNAL, status=None))
    assert statuses(fleet) == {Status.HEALTHY}


def test_a_database_that_is_forgotten_shows_no_more() -> None:
    fleet, made = Fleet(), result()
    fleet.lay(made)
    fleet.forget(made.identity)
    fleet.forget(identity())
    assert not fleet.states()


def test_a_fleet_that_is_too_large_shows_nothing_until_the_next_snapshot() -> None:
    fleet, made = Fleet(), result()
    fleet.lay(made)
    fleet.close()
    fleet.lay(made)
    assert not fleet.states()
    fleet.replace([state(made.identity, Status.HEALTHY, 1)], 1)
    assert len(fleet.states()) == 1


def test_a_result_from_before_the_registrys_clock_was_set_back_hides_no_newer_one() -> None:
    fleet, made = Fleet(), result(Reason.REFUSED)
    at = made.lease.registry_time(made.finished)
    for take in (fleet.replace, fleet.update):
        fleet.lay(replace(made, finished=made.finished + 3600))
        assert statuses(fleet) == {Status.UNHEALTHY}
        take([state(made.identity, Status.HEALTHY, at + 1)], at + 2)
        assert statuses(fleet) == {Status.HEALTHY}
