"""What holds for the table of faults as a whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults import shortfalls
from tests.faults.matrix import Expected, Shortfall, Way
from tests.faults.table import ROWS
from worker.words import Engine, Reason

README = Path(__file__).parent.parent.parent / "README.md"
NOT_A_FAULT_TO_MAKE = {Reason.SLOW, Reason.UNDECRYPTABLE}
"""Read off a row's own settings and ciphertext; no server makes them."""


def test_no_two_rows_have_one_name() -> None:
    assert [name for name, times in Counter(map(str, ROWS)).items() if times > 1] == []


def test_every_reason_that_a_server_can_give_is_in_the_table() -> None:
    expected = {
        reason
        for row in ROWS
        for cell in row.expected.values()
        if isinstance(cell, Expected)
        for reason in cell.reasons
    }
    assert set(Reason) - NOT_A_FAULT_TO_MAKE - expected == set()


def test_every_row_says_what_is_expected_of_each_way() -> None:
    for row in ROWS:
        libraries = {Way.DRIVERS, Way.MOTOR} if row.engine is Engine.MONGODB else {Way.DRIVERS}
        assert set(row.expected) == {Way.WIRE, *libraries}, row


def test_the_readme_tells_what_the_libraries_cannot_do_better() -> None:
    section = README.read_text().partition("## What `PROBES=drivers` does not promise")[2]
    words = " ".join(section.replace("\n- ", "\n").split())
    known = {each for each in vars(shortfalls).values() if isinstance(each, Shortfall)}
    named = {
        shortfall
        for row in ROWS
        for cell in row.expected.values()
        for shortfall in (cell.shortfalls if isinstance(cell, Expected) else [cell])
    }
    assert named == known
    assert [each.words for each in named if each.words not in words] == []
