"""A clock that is set under a running worker neither starves nor storms its rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.clocks import Whose, jump
from chaos.finding import Finding

JUMPS: tuple[tuple[Whose, int], ...] = (
    ("worker", 1),
    ("worker", -1),
    ("registry", 1),
    ("registry", -1),
)


@pytest.mark.timeout(120)
async def test_rows_are_checked_evenly_when_a_clock_is_set_by_an_hour(tmp_path: Path) -> None:
    def run(whose: Whose, hours: int) -> Finding:
        return asyncio.run(jump(whose, hours, 40, tmp_path))

    found = await asyncio.gather(*(asyncio.to_thread(run, *each) for each in JUMPS))
    assert {finding.fault: finding.lost for finding in found if finding.lost} == {}
