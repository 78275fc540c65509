"""What the rows for MongoDB share: how to write a case, and how MongoDB speaks on a socket."""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack
from typing import Protocol

from testbed.mongodb_fake import MORE_TO_COME, Request, hello, reply
from tests.faults.dialects import Dialect
from tests.faults.matrix import Case
from tests.faults.stage import Stage
from worker.probes.mongodb_wire import REQUEST_ID
from worker.words import Engine

CONNECT_SECONDS = 0.5
QUICK: Mapping[str, object] = {"serverSelectionTimeoutMS": 500, "socketTimeoutMS": 500}
"""For what only time ends: libraries use up all of it wherever they find no server."""
HANDSHAKE: Mapping[str, object] = {"serverSelectionTimeoutMS": 1_200}
"""For handshakes that fail: the libraries do theirs in threads, and wait to the end anyway."""
PATIENT: Mapping[str, object] = {"serverSelectionTimeoutMS": 2_000}
"""For what a server answers."""


class Place(Protocol):
    """Where a server listens."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


def case(
    server: Place,
    url: str,
    *secrets: str | None,
    config: Mapping[str, object] = PATIENT,
    seconds: float | None = None,
) -> Case:
    """Write a case of this server's."""
    return Case(
        url=url,
        address=f"{server.host}:{server.port}",
        config=config,
        seconds=seconds,
        secrets=tuple(filter(None, secrets)),
    )


def _sign_in(stage: Stage) -> tuple[int, str, str]:
    server = stage.mongodb()
    return server.port, "mongodb://root:{secret}@{place}/", server.options.password or ""


_FIRST = Request(REQUEST_ID, False, {})

MONGODB = Dialect(
    engine=Engine.MONGODB,
    config=QUICK,
    patient={"serverSelectionTimeoutMS": 1_000},
    connect_seconds=CONNECT_SECONDS,
    template="mongodb://user:{secret}@{place}/",
    tls_template="mongodb://user:{secret}@{place}/?tls=true",
    sign_in=_sign_in,
    heard_before_sign_in=1,
    heard_before_ping=2,
    welcome=reply(_FIRST, hello()),
    flood=(b"", reply(_FIRST, hello(), MORE_TO_COME)),
    huge=pack("<iiii", 2**31 - 1, 1, REQUEST_ID, 2013),
)
