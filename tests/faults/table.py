"""The whole table of faults."""

from __future__ import annotations

from tests.faults import (
    mongodb_faults,
    network_faults,
    postgresql_faults,
    redis_faults,
    route_faults,
)
from tests.faults.matrix import Fault

ROWS: tuple[Fault, ...] = (
    *redis_faults.ROWS,
    *postgresql_faults.ROWS,
    *mongodb_faults.ROWS,
    *network_faults.ROWS,
    *route_faults.ROWS,
)
