"""The table's rows for Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.matrix import Case, Fault, every_way, expect
from tests.faults.stage import Stage
from worker.model import Engine, Reason

QUICK = {"connectTimeout": 500, "commandTimeout": 400}


@asynccontextmanager
async def wrong_password(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.redis(), stage.secret()
    yield Case(
        url=server.url(password=secret),
        address=f"127.0.0.1:{server.port}",
        config=QUICK,
        secrets=(secret,),
    )


ROWS: tuple[Fault, ...] = (
    Fault(
        name="wrong password",
        engine=Engine.REDIS,
        make=wrong_password,
        expected=every_way(Engine.REDIS, expect(Reason.AUTH, says="WRONGPASS")),
    ),
)
