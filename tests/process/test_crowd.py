"""Bad databases harm no good one: small versions of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.crowd import Scale, crowd, endless, holding_out


@pytest.mark.timeout(180)
async def test_silent_slow_and_swallowing_servers_delay_nobody_else(tmp_path: Path) -> None:
    scale = Scale(good=40, bad=40, slots=16, interval=5, deadline=2, rounds=2)
    finding = await crowd(scale, tmp_path)
    assert not finding.lost


@pytest.mark.timeout(180)
async def test_rows_that_hold_their_slots_on_purpose_delay_nobody_else(tmp_path: Path) -> None:
    scale = Scale(good=40, bad=90, slots=16, interval=5, deadline=2, rounds=2)
    finding = await crowd(scale, tmp_path, holding_out)
    assert not finding.lost


@pytest.mark.timeout(120)
async def test_servers_that_send_without_end_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    finding = await endless(targets=50, seconds=12, folder=tmp_path)
    assert not finding.lost
