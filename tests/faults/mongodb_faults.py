"""The table's rows for MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.matrix import Case, Fault, every_way, expect
from tests.faults.stage import Stage
from worker.model import Engine, Reason

QUICK = {"serverSelectionTimeoutMS": 700}


@asynccontextmanager
async def wrong_password(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.mongodb(), stage.secret()
    yield Case(
        url=server.url(server.options.root, secret),
        address=f"127.0.0.1:{server.port}",
        config=QUICK,
        secrets=(secret,),
    )


ROWS: tuple[Fault, ...] = (
    Fault(
        name="wrong password",
        engine=Engine.MONGODB,
        make=wrong_password,
        expected=every_way(Engine.MONGODB, expect(Reason.AUTH)),
    ),
)
