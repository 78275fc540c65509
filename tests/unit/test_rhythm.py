"""Replicas that know nothing of each other do equal parts of the work, in simulated minutes."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from random import Random

import pytest

from testbed.fakes import make_row
from worker.model import RawRow
from worker.rhythm import FEW, LONGEST, PULL, STRAY, STRAY_AMONG_FEW, Rhythm

TICK_SECONDS = 1.0
HORIZON_SECONDS = LONGEST * TICK_SECONDS
ROWS_A_SECOND = 200.0


class Fleet:
    """Rows that are due at random times, and the replicas that claim them."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._now = 0.0
        self._next_due = 0.0
        self._ticks: list[tuple[float, int]] = []
        self._rhythms: list[Rhythm] = []
        self.claims: dict[int, list[int]] = {}
        """By replica, how many rows each of its claims got."""

    def start(self, replicas: int) -> None:
        """Let so many come, all within a hundredth of a second."""
        for _ in range(replicas):
            began = self._now + self._random.uniform(0, 0.01)
            heapq.heappush(self._ticks, (began, len(self._rhythms)))
            self._rhythms.append(Rhythm(HORIZON_SECONDS, self._random.uniform))

    def kill(self, replica: int) -> None:
        self._ticks = [tick for tick in self._ticks if tick[1] != replica]
        heapq.heapify(self._ticks)

    def run(self, seconds: float) -> None:
        """Let time pass, and count anew."""
        self.claims = {replica: [] for _, replica in self._ticks}
        end = self._now + seconds
        while self._ticks[0][0] < end:
            self._now, replica = heapq.heappop(self._ticks)
            rows, rhythm = self._claim(), self._rhythms[replica]
            rhythm.note_claim(rows)
            self.claims[replica].append(len(rows))
            lasted = self._random.expovariate(250)
            heapq.heappush(self._ticks, (self._now + lasted + rhythm.gap(), replica))

    def shares(self) -> Mapping[int, float]:
        """Tell what part of the fair one each replica's share is."""
        fair = sum(map(sum, self.claims.values())) / len(self.claims)
        return {replica: sum(rows) / fair for replica, rows in self.claims.items()}

    def _claim(self) -> list[RawRow]:
        rows: list[RawRow] = []
        while self._next_due <= self._now + HORIZON_SECONDS:
            rows.append(make_row(due_in=self._next_due - self._now))
            self._next_due += self._random.expovariate(ROWS_A_SECOND)
        return rows


def minute_of(replicas: int, seed: int) -> Fleet:
    """Simulate a minute, some time after so many started at once."""
    fleet = Fleet(seed)
    fleet.start(replicas)
    fleet.run(20)
    fleet.run(60)
    return fleet


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("replicas", [2, 3, 4, 6])
def test_few_replicas_do_parts_of_a_minute_within_a_fifth_of_each_other(
    replicas: int, seed: int
) -> None:
    shares = minute_of(replicas, seed).shares()
    assert max(shares.values()) < 1.2 * min(shares.values())


def test_of_many_replicas_none_is_left_with_next_to_nothing() -> None:
    assert min(minute_of(40, seed=1).shares().values()) > 0.3


@pytest.mark.parametrize(
    ("replicas", "ticks"),
    [(FEW // 2, 1 + STRAY_AMONG_FEW + PULL * (1 - 2 / FEW)), (2 * FEW, LONGEST)],
)
def test_ticks_are_left_to_chance_only_among_many(replicas: int, ticks: float) -> None:
    rhythm = Rhythm(HORIZON_SECONDS, lambda _, most: most)
    for _ in range(50):
        rhythm.note_claim([make_row(due_in=HORIZON_SECONDS - TICK_SECONDS / replicas)])
    assert rhythm.gap() == pytest.approx(ticks * TICK_SECONDS, abs=1e-3)


def test_the_ticks_of_a_single_replica_last_what_is_set_on_average() -> None:
    (claims,) = minute_of(1, seed=1).claims.values()
    assert 57 <= len(claims) <= 63


def test_who_is_left_and_who_comes_share_evenly_soon_after() -> None:
    fleet = Fleet(seed=1)
    fleet.start(4)
    fleet.run(20)
    fleet.kill(1)
    fleet.kill(2)
    fleet.start(1)
    fleet.run(20)
    fleet.run(60)
    shares = fleet.shares()
    assert shares.keys() == {0, 3, 4}
    assert max(shares.values()) < 1.2 * min(shares.values())


@pytest.mark.parametrize("ahead", [[], [-3600.0], [0.001], [0.7], [HORIZON_SECONDS], [9e9]])
def test_no_gap_is_longer_than_rows_are_claimed_ahead(ahead: list[float]) -> None:
    rhythm = Rhythm(HORIZON_SECONDS)
    for _ in range(50):
        rhythm.note_claim([make_row(due_in=seconds) for seconds in ahead])
        assert 0.4 * TICK_SECONDS < rhythm.gap() <= HORIZON_SECONDS


@pytest.mark.parametrize("ahead", [[-0.5, -0.1], [-3600.0]])
def test_rows_that_have_waited_for_long_make_no_tick_longer(ahead: list[float]) -> None:
    rhythm = Rhythm(HORIZON_SECONDS, lambda least, _: least)
    rhythm.note_claim([make_row(due_in=0.1)])
    rhythm.gap()
    rhythm.note_claim([make_row(due_in=seconds) for seconds in ahead])
    assert rhythm.gap() == pytest.approx((1 - STRAY) * TICK_SECONDS)


def test_a_claim_between_ticks_is_not_taken_for_another_replicas() -> None:
    rhythm = Rhythm(HORIZON_SECONDS, lambda _, most: most)
    known = HORIZON_SECONDS - TICK_SECONDS
    rhythm.note_claim([make_row(due_in=known)])
    rhythm.gap()
    with rhythm.between_ticks():
        rhythm.note_claim([make_row(due_in=1.3)])
    rhythm.note_claim([make_row(due_in=1.3)])
    assert rhythm.gap() == pytest.approx((1 + STRAY) * TICK_SECONDS)
    rhythm.note_claim([make_row(due_in=known)])
    assert rhythm.gap() == pytest.approx((1 + STRAY_AMONG_FEW) * TICK_SECONDS, abs=1e-3)


def test_without_a_claim_that_tells_a_gap_is_left_to_chance() -> None:
    rhythm = Rhythm(HORIZON_SECONDS, lambda _, most: most)
    rhythm.note_claim([make_row(due_in=0.1)])
    assert rhythm.gap() < TICK_SECONDS
    assert rhythm.gap() == pytest.approx((1 + STRAY) * TICK_SECONDS)
