"""The table's rows for PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from testbed.misbehaving import MisbehavingServer, mute
from tests.faults.matrix import Case, Fault, every_way, expect
from tests.faults.stage import Stage
from worker.model import Engine, Reason

QUICK = {"connectTimeout": 500, "commandTimeout": 400}


@asynccontextmanager
async def silent(stage: Stage) -> AsyncIterator[Case]:
    secret = stage.secret()
    with MisbehavingServer(mute) as server:
        yield Case(
            url=f"postgresql://user:{quote(secret, safe='')}@{server.host}:{server.port}/db",
            address=f"{server.host}:{server.port}",
            config=QUICK,
            seconds=0.5,
            secrets=(secret,),
        )


ROWS: tuple[Fault, ...] = (
    Fault(
        name="silent",
        engine=Engine.POSTGRESQL,
        make=silent,
        expected=every_way(Engine.POSTGRESQL, expect(Reason.TIMEOUT)),
    ),
)
