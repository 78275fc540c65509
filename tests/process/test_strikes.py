"""Small versions of `make chaos`: what strikes a worker costs no row, status or change."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.strikes import Way, strike


@pytest.mark.parametrize("way", ["kill -9", "connections cut"])
@pytest.mark.timeout(180)
async def test_nothing_is_lost_whatever_is_struck_at_random(tmp_path: Path, way: Way) -> None:
    finding = await strike(way, times=5, rows=60, folder=tmp_path)
    assert not finding.lost
