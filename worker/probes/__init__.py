"""The one table of engines: who asks what."""

from __future__ import annotations

from typing import Literal

from worker.network import Network
from worker.probes.mongodb import MongoDBProbe
from worker.probes.postgresql import PostgreSQLProbe
from worker.probes.redis import RedisProbe
from worker.target import Probes
from worker.words import Engine


def table(
    kind: Literal["wire", "drivers"], mongodb_driver: Literal["pymongo", "motor"], network: Network
) -> Probes:
    """Make a probe for every engine: our own handshakes, or the client libraries'."""
    match kind:
        case "wire":
            return {
                Engine.MONGODB: MongoDBProbe(network),
                Engine.REDIS: RedisProbe(network),
                Engine.POSTGRESQL: PostgreSQLProbe(network),
            }
        case "drivers":
            from worker.probes import drivers  # noqa: PLC0415 -- the libraries are large

            return drivers.table(mongodb_driver)
