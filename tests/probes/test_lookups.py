"""Look-ups that hang delay nobody else's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from testbed.fakes import Lines, make_row
from testbed.faulty_nameserver import HANGS, FaultyNameserver
from testbed.redis import RedisServer
from worker import probes
from worker.check import Checker
from worker.model import RawRow
from worker.network import AddressRules, Network
from worker.resolver import Resolver
from worker.words import Reason

GOOD = "good.test"
CONFIG = '{"connectTimeout": 20000, "commandTimeout": 20000, "retryStrategy": {"maxAttempts": 1}}'


def registered(url: str) -> RawRow:
    return replace(make_row(), connection_string=url, config=CONFIG)


async def test_a_hundred_look_ups_that_hang_delay_nobody_elses(redis_server: RedisServer) -> None:
    good = redis_server.url().replace(redis_server.host, GOOD)
    with FaultyNameserver({f"{GOOD}.": ["127.0.0.1"]}) as nameserver:
        network = Network(AddressRules.allow_everything(), Resolver(nameserver.resolver()))
        table = probes.table("wire", "pymongo", network)
        checker = Checker(table, Lines(), deadline=30, default_interval=60)
        row = registered(f"redis://{HANGS.rstrip('.')}:6379")
        hanging = [asyncio.create_task(checker.check(row)) for _ in range(100)]
        await asyncio.sleep(0.2)
        found = await asyncio.gather(*(checker.check(registered(good)) for _ in range(50)))
        assert {result.reason for result in found} == {Reason.OK}
        assert not any(task.done() for task in hanging), "the others were answered meanwhile"
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
