"""Faults of a MongoDB that stands alone: credentials, failpoints, what becomes of its process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.programs import wait_until
from tests.faults.matrix import Case, Make
from tests.faults.mongodb_cases import CONNECT_SECONDS, QUICK, case
from tests.faults.stage import Stage

MOST = 5
"""The least that mongod takes as its greatest number of clients; it lets one more in."""
BLOCK_MS = 1_500
"""Longer than any row of these is patient."""
COMMANDS = ("hello", "saslContinue", "ping")
_FAILURES: dict[str, dict[str, Any]] = {
    "fails for a shutdown": {"errorCode": 91},
    "fails for an unknown error": {"errorCode": 8},
    "closes the connection": {"closeConnection": True},
    "blocks": {"blockTimeMS": BLOCK_MS},
}


class FullMongoDB(MongoDBServer):
    """A MongoDB that has as many clients as it takes."""

    def __init__(self) -> None:
        super().__init__(MongoDBOptions(arguments=("--maxConns", str(MOST))))
        self._clients = ExitStack()

    def start(self) -> None:
        super().start()
        for _ in range(MOST + 2):
            self._clients.enter_context(socket.create_connection((self.host, self.port)))
        wait_until(lambda: "too many open connections" in self.log, "a full server")

    def stop(self) -> None:
        self._clients.close()
        super().stop()


def strange(write: Callable[[MongoDBServer, str], str]) -> Make:
    """Make a row's case of a URL with a strange secret at the shared server."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server, secret = stage.mongodb(), stage.secret()
        yield case(server, write(server, secret), secret)

    return make


@asynccontextmanager
async def wrong_source(stage: Stage) -> AsyncIterator[Case]:
    server, secret = stage.mongodb(), stage.mongodb().options.password
    yield case(server, server.url("root", secret, authSource="elsewhere"), secret)


@asynccontextmanager
async def needless_credentials(stage: Stage) -> AsyncIterator[Case]:
    server, secret = _open(stage), stage.secret()
    yield case(server, server.url("nobody", secret), secret)


@asynccontextmanager
async def in_no_set(stage: Stage) -> AsyncIterator[Case]:
    server = stage.mongodb()
    yield case(server, server.url(replicaSet="rs0"), server.options.password, config=QUICK)


@asynccontextmanager
async def not_balanced(stage: Stage) -> AsyncIterator[Case]:
    server = stage.mongodb()
    yield case(server, server.url(loadBalanced="true"), server.options.password, config=QUICK)


@asynccontextmanager
async def several_alone(stage: Stage) -> AsyncIterator[Case]:
    one, other = stage.mongodb(), _open(stage)
    hosts = f"{one.host}:{one.port},{other.host}:{other.port}"
    yield case(one, f"mongodb://{hosts}", config=QUICK)


@asynccontextmanager
async def full(stage: Stage) -> AsyncIterator[Case]:
    server = stage.shared("full mongodb", FullMongoDB)
    yield case(server, server.url(), config=QUICK)


@asynccontextmanager
async def paused(stage: Stage) -> AsyncIterator[Case]:
    server = stage.mongodb()
    server.pause()
    secret = server.options.password
    yield case(server, server.url(), secret, config=QUICK, seconds=CONNECT_SECONDS)
    server.resume()


def _failpoint(command: str, fault: dict[str, Any]) -> Make:
    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server = stage.mongodb()
        with server.failpoint(command, **fault):
            yield case(server, server.url(), server.options.password, config=QUICK)

    return make


def _open(stage: Stage) -> MongoDBServer:
    """Share a MongoDB that asks nobody for credentials."""
    return stage.shared("open mongodb", MongoDBServer)


MAKERS: dict[str, Make] = {
    "wrong password": strange(lambda server, secret: server.url("root", secret)),
    "unknown user": strange(lambda server, secret: server.url("stranger", secret)),
    "wrong authSource": wrong_source,
    "no credentials where they are demanded": strange(
        lambda server, _: f"mongodb://{server.host}:{server.port}"
    ),
    "credentials where none are demanded": needless_credentials,
    "in no set, but replicaSet is given": in_no_set,
    "no load balancer, but loadBalanced is true": not_balanced,
    "several that are in no set": several_alone,
    "connection limit": full,
    "stopped by a signal": paused,
    **{
        f"{command} {name}": _failpoint(command, fault)
        for command in COMMANDS
        for name, fault in _FAILURES.items()
    },
}
