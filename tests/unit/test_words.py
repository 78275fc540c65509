"""The closed lists of the contract."""

from __future__ import annotations

from worker.words import Reason, Status

UNKNOWN = {Reason.MISCONFIGURED, Reason.UNDECRYPTABLE, Reason.BLOCKED}


def test_every_reason_means_the_status_of_the_contract() -> None:
    expected = dict.fromkeys(list(Reason), Status.UNHEALTHY)
    expected |= dict.fromkeys(UNKNOWN, Status.UNKNOWN)
    expected |= {Reason.OK: Status.HEALTHY, Reason.SLOW: Status.DEGRADED}
    del expected[Reason.INTERNAL]
    assert {reason: reason.status for reason in Reason if reason.status} == expected
    assert Reason.INTERNAL.status is None


def test_authentication_is_never_retried_nor_is_what_blames_the_row() -> None:
    assert {reason for reason in Reason if reason.is_retried} == {
        *(Reason.TIMEOUT, Reason.DNS, Reason.REFUSED, Reason.UNREACHABLE, Reason.CLOSED),
        *(Reason.NOT_READY, Reason.SATURATED),
    }


def test_slow_is_no_failure() -> None:
    assert {reason for reason in Reason if not reason.is_failure} == {Reason.OK, Reason.SLOW}
