"""What the client libraries need so that a check ends in its time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from testbed.mongodb import MongoDBServer
from testbed.programs import clean_environment
from worker.connection import split
from worker.plan import Config
from worker.probes.drivers.mongodb import (
    CLOSE_SECONDS,
    GOODBYE_SECONDS,
    MOTOR_THREADS,
    MongoDBDriverProbe,
)

# PyMongo leaves sockets that could not connect to the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
MOTORS_THREADS = """
from worker.probes.drivers.mongodb import MongoDBDriverProbe
MongoDBDriverProbe("motor")
from motor.frameworks import asyncio
print(asyncio._EXECUTOR._max_workers)
"""


class HangingGoodbye:
    """PyMongo, but for the end of a client, which takes a minute."""

    async def open(self, uri: str, options: Mapping[str, Any]) -> Any:
        return AsyncMongoClient[dict[str, Any]](uri, **options)

    async def close(self, client: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await client.close()


async def test_a_client_that_does_not_close_holds_no_check_up(
    mongodb_server: MongoDBServer,
) -> None:
    probe = MongoDBDriverProbe("pymongo")
    probe._library = HangingGoodbye()
    plan = probe.plan(split(mongodb_server.url()), Config({}), ssl_enabled=False)
    loop = asyncio.get_running_loop()
    started = loop.time()
    answer = await probe.ask(plan)
    assert loop.time() - started < GOODBYE_SECONDS + 2
    assert answer.at < loop.time()
    async with asyncio.timeout(CLOSE_SECONDS + 2):
        await asyncio.gather(*probe._closing, return_exceptions=True)


def test_motor_has_a_thread_for_every_slot() -> None:
    command = [sys.executable, "-c", MOTORS_THREADS]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert int(run.stdout) == MOTOR_THREADS
