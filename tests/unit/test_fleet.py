"""The newest state of every database, wherever it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tests.unit.nouns import identity, result
from worker import fleet_series
from worker.fleet import Fleet
from worker.model import DatabaseState, Identity
from worker.words import Reason, Status


def state(who: Identity, status: Status, checked_at: float) -> DatabaseState:
    return DatabaseState(who, status, None, None, checked_at)


def take_all(fleet: Fleet, states: Sequence[DatabaseState], taken_at: float) -> None:
    """Take a walk through the whole fleet."""
    fleet.take(states, taken_at)
    fleet.drop_all_but({state.identity.database_id for state in states}, taken_at)


def statuses(fleet: Fleet) -> set[Status]:
    return {each.status for each in fleet.states().values()}


def test_a_newer_result_lies_over_the_snapshot_and_a_newer_snapshot_over_the_result() -> None:
    fleet, made = Fleet(fleet_series.write), result(Reason.REFUSED)
    at = made.lease.registry_time(made.finished)
    fleet.lay(made)
    take_all(fleet, [state(made.identity, Status.HEALTHY, at - 10)], at + 1)
    assert statuses(fleet) == {Status.UNHEALTHY}
    take_all(fleet, [state(made.identity, Status.HEALTHY, at + 10)], at + 11)
    assert statuses(fleet) == {Status.HEALTHY}


def test_a_row_that_the_snapshot_no_longer_holds_is_gone() -> None:
    fleet, made = Fleet(fleet_series.write), result()
    at = made.lease.registry_time(made.finished)
    fleet.lay(made)
    take_all(fleet, [], at - 1)
    assert len(fleet.states()) == 1
    take_all(fleet, [], at + 1)
    assert not fleet.states()


def test_what_changed_is_taken_unless_a_result_is_newer_and_the_rest_holds_still() -> None:
    fleet, made, other = Fleet(fleet_series.write), result(Reason.REFUSED), identity("another")
    at = made.lease.registry_time(made.finished)
    fleet.lay(made)
    fleet.take([state(made.identity, Status.HEALTHY, at - 10)], at + 1)
    assert statuses(fleet) == {Status.UNHEALTHY}
    fleet.take([state(other, Status.DEGRADED, at)], at + 1)
    assert statuses(fleet) == {Status.UNHEALTHY, Status.DEGRADED}
    fleet.take([state(made.identity, Status.HEALTHY, at + 10)], at + 11)
    fleet.take([], at + 12)
    assert statuses(fleet) == {Status.HEALTHY, Status.DEGRADED}
    assert len(fleet) == 2


def test_what_the_registry_tells_counts_more_than_a_result_that_it_has_and_no_other() -> None:
    fleet, made, other = Fleet(fleet_series.write), result(Reason.REFUSED), result(Reason.REFUSED)
    at = made.lease.registry_time(made.finished)
    for each in (made, other):
        fleet.lay(each)
    fleet.note_recorded(made)
    theirs = [state(each.identity, Status.HEALTHY, at - 1) for each in (made, other)]
    fleet.take(theirs, at + 1)  # asked for before the record
    assert statuses(fleet) == {Status.UNHEALTHY}
    fleet.trust_registry()
    fleet.take(theirs, at + 1)
    assert {key: each.status for key, each in fleet.states().items()} == {
        made.identity.database_id: Status.HEALTHY,
        other.identity.database_id: Status.UNHEALTHY,
    }


def test_a_result_of_before_an_edit_is_taken_back_and_a_newer_one_is_not() -> None:
    fleet, made = Fleet(fleet_series.write), result()
    newer = replace(made, finished=made.finished + 1)
    fleet.lay(made)
    fleet.lay(newer)
    fleet.take_back(made)
    assert len(fleet) == 1
    fleet.take_back(newer)
    assert len(fleet) == 0


def test_our_own_trouble_leaves_the_last_state() -> None:
    fleet, made = Fleet(fleet_series.write), result()
    fleet.lay(made)
    fleet.lay(replace(made, reason=Reason.INTERNAL, status=None))
    assert statuses(fleet) == {Status.HEALTHY}


def test_a_database_that_is_forgotten_shows_no_more() -> None:
    fleet, made = Fleet(fleet_series.write), result()
    fleet.lay(made)
    fleet.forget(made.identity)
    fleet.forget(identity())
    assert not fleet.states()


def test_a_fleet_that_is_too_large_shows_nothing_until_the_next_snapshot() -> None:
    fleet, made = Fleet(fleet_series.write), result()
    fleet.lay(made)
    fleet.close()
    fleet.lay(made)
    assert not fleet.states()
    take_all(fleet, [state(made.identity, Status.HEALTHY, 1)], 1)
    assert len(fleet.states()) == 1


def test_a_result_from_before_the_registrys_clock_was_set_back_hides_no_newer_one() -> None:
    fleet, made = Fleet(fleet_series.write), result(Reason.REFUSED)
    at = made.lease.registry_time(made.finished)
    fleet.lay(replace(made, finished=made.finished + 3600))
    fleet.take([state(made.identity, Status.HEALTHY, at + 1)], at + 2)
    assert statuses(fleet) == {Status.HEALTHY}
    fleet.lay(replace(made, finished=made.finished + 3600))
    fleet.drop_all_but(set(), at + 2)
    assert not fleet.states()


def test_the_text_is_that_of_the_states_however_they_came_and_went() -> None:
    fleet, made, other = Fleet(fleet_series.write), result(Reason.REFUSED), identity("another")
    at = made.lease.registry_time(made.finished)

    def is_true() -> bool:
        return Counter(fleet.lines()) == Counter(map(fleet_series.write, fleet.states().values()))

    fleet.lay(made)
    fleet.take([state(other, Status.UNKNOWN, at), state(made.identity, Status.HEALTHY, 1)], at)
    assert len(fleet.lines()) == 2
    assert is_true()
    fleet.take([state(made.identity, Status.HEALTHY, at + 1)], at + 2)
    fleet.lay(replace(made, identity=other, finished=made.finished + 5))
    assert is_true()
    fleet.drop_all_but({made.identity.database_id}, at + 20)
    assert len(fleet.lines()) == 1
    fleet.forget(made.identity)
    assert len(fleet.lines()) == 0
    fleet.take([state(other, Status.HEALTHY, at)], at)
    fleet.close()
    assert len(fleet.lines()) == 0
