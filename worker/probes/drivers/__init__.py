"""The same asked through the client libraries; loaded only where they are asked for."""

from __future__ import annotations

from typing import Literal

from worker.probes.drivers.mongodb import MongoDBDriverProbe
from worker.probes.drivers.postgresql import PostgreSQLDriverProbe
from worker.probes.drivers.redis import RedisDriverProbe
from worker.target import Probes
from worker.words import Engine


def table(mongodb_driver: Literal["pymongo", "motor"]) -> Probes:
    """Make a probe for every engine."""
    return {
        Engine.MONGODB: MongoDBDriverProbe(mongodb_driver),
        Engine.REDIS: RedisDriverProbe(),
        Engine.POSTGRESQL: PostgreSQLDriverProbe(),
    }
