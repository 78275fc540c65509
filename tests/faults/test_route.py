"""Every fault of packets and routes under its right name."""

from __future__ import annotations

import pytest

from testbed.namespace import may_make_namespaces
from tests.faults.cell import run
from tests.faults.matrix import Fault, Way, cells
from tests.faults.route_faults import ROWS
from tests.faults.stage import Stage


@pytest.mark.skipif(
    not may_make_namespaces(),
    reason="only root can move a running process into another network; "
    "full backlogs stand in for swallowed packets in the other rows",
)
@cells(ROWS)
async def test_every_fault_has_its_right_name(fault: Fault, way: Way, stage: Stage) -> None:
    await run(fault, way, stage)
