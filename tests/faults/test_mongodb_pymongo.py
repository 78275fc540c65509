"""Every fault of a MongoDB under its right name, asked through PyMongo."""

from __future__ import annotations

import pytest

from tests.faults.cell import run
from tests.faults.matrix import Fault, Way, cells
from tests.faults.mongodb_faults import asked
from tests.faults.stage import Stage

# The library leaves sockets that could not connect to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@cells(asked(Way.DRIVERS))
async def test_every_fault_has_its_right_name(fault: Fault, way: Way, stage: Stage) -> None:
    await run(fault, way, stage)
