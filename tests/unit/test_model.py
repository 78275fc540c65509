"""What the nouns tell of themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.nouns import identity, result, row
from worker.model import Lease


def test_the_registrys_time_goes_on_with_the_monotonic_clock() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    lease = Lease(1, now - timedelta(seconds=3), now, now, 100.0)
    assert lease.registry_time(107.5) == now.timestamp() + 7.5


@pytest.mark.parametrize(("early", "expected"), [(-2.0, 2.0), (2.0, 0.0)])
def test_lateness_is_never_negative(early: float, expected: float) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    lease = Lease(1, now + timedelta(seconds=early), now, now, 100.0)
    assert result(lease=lease, started=100.0).lateness == pytest.approx(expected)


def test_nothing_that_holds_a_secret_shows_it() -> None:
    made = row("redis://u:the-secret@h", {"key": "the-secret"})
    assert "the-secret" not in f"{made!r} {made!s}"
    assert "name" in repr(identity("name"))
