"""Each workaround of MongoDB's probes is needed: without it, its row of the table fails."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.faults.cell import run
from tests.faults.matrix import Way
from tests.faults.mongodb_faults import ROWS
from tests.faults.stage import Stage
from worker.probes import mongodb, mongodb_wire
from worker.probes.drivers import mongodb as driver
from worker.probes.drivers import mongodb_errors

Break = Callable[[pytest.MonkeyPatch], None]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def read_no_number_in_a_text(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mongodb_errors, "_SYSTEM_ERROR", re.compile("(?!)"))


def take_every_value_error_for_ours(patch: pytest.MonkeyPatch) -> None:
    rules = tuple(rule for rule in mongodb_errors.RULES if rule[0] is not ValueError)
    patch.setattr(driver, "RULES", rules)


def know_no_end_without_a_number(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mongodb_errors, "_ENDS", frozenset())


def look_only_once(patch: pytest.MonkeyPatch) -> None:
    async def nobody(*_: object) -> None:
        return None

    patch.setattr(mongodb, "recognize", nobody)


def keep_silent_with_the_silent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mongodb_wire, "_NUDGE", b"")


@pytest.mark.parametrize(
    ("row", "way", "undo"),
    [
        ("nothing listens", Way.DRIVERS, read_no_number_in_a_text),
        ("no SCRAM challenge", Way.DRIVERS, take_every_value_error_for_ours),
        ("closes during ping", Way.DRIVERS, know_no_end_without_a_number),
        ("a PostgreSQL", Way.WIRE, look_only_once),
        ("client certificate demanded", Way.WIRE, look_only_once),
        ("a real one reached with TLS that has none", Way.WIRE, look_only_once),
        ("a Redis", Way.WIRE, keep_silent_with_the_silent),
    ],
)
async def test_a_row_fails_without_its_workaround(
    row: str, way: Way, undo: Break, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fault,) = (each for each in ROWS if each.name == row)
    undo(monkeypatch)
    with pytest.raises(AssertionError):
        await run(fault, way, stage)
