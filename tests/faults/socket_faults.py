"""Rows that are the same for every engine: servers that misbehave on the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Protocol

from testbed.misbehaving import (
    Conversation,
    FullBacklog,
    MisbehavingServer,
    answering,
    babbling,
    dripping,
    hang_up,
    late,
    mute,
    relaying,
    reset,
    saying,
)
from testbed.ports import free_port, release_port
from tests.faults.dialects import Dialect
from tests.faults.matrix import Case, Make
from tests.faults.stage import Stage

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
MYSQL = b"J\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0\xff\xff\xff\2\0\xff\xdf\x15" + bytes(10)
"""How a MySQL introduces itself, without the end of its line."""
LATE_SECONDS = 3.0
"""Longer than any row of these is patient."""


class _Listener(Protocol):
    host: str
    port: int


def at(
    dialect: Dialect,
    make: Callable[[], AbstractContextManager[_Listener]],
    *,
    seconds: float | None = None,
    tls: bool = False,
) -> Make:
    """Make a row's case of a server at which a strange secret is tried."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        with make() as server:
            yield Case(
                url=dialect.url(secret, server.host, server.port, tls=tls),
                address=f"{server.host}:{server.port}",
                config=dialect.patient if seconds is None else dialect.config,
                seconds=seconds,
                secrets=(secret,),
            )

    return case


def talking(dialect: Dialect, conversation: Conversation, *, in_time: bool = False) -> Make:
    """Make a row's case of a server that talks like this; `in_time` where only time ends it."""
    seconds = dialect.connect_seconds if in_time else None
    return at(dialect, lambda: MisbehavingServer(conversation), seconds=seconds)


def before_a_real_one(
    dialect: Dialect, heard: int, then: Conversation, *, in_time: bool = False
) -> Make:
    """Make a row's case of a real server that goes wrong after hearing so many messages."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        port, template, secret = dialect.sign_in(stage)
        with MisbehavingServer(relaying(port, heard, then)) as server:
            place = f"{server.host}:{server.port}"
            yield Case(
                url=template.format(secret=secret, place=place),
                address=place,
                config=dialect.config if in_time else dialect.patient,
                secrets=(secret,),
            )

    return case


def tls_only(dialect: Dialect) -> Make:
    """Make a row's case of a server that takes nothing but TLS, reached in clear text."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret = stage.secret()
        context = stage.certificates.good.server_context()
        with MisbehavingServer(mute, tls=context) as server:
            yield Case(
                url=dialect.url(secret, server.host, server.port),
                address=f"{server.host}:{server.port}",
                config=dialect.patient,
                secrets=(secret,),
            )

    return case


def another_engine(dialect: Dialect, other: Dialect) -> Make:
    """Make a row's case of a real server of another engine."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret, (port, _, _) = stage.secret(), other.sign_in(stage)
        yield Case(
            url=dialect.url(secret, "127.0.0.1", port),
            address=f"127.0.0.1:{port}",
            config=dialect.config,
            seconds=dialect.connect_seconds,
            secrets=(secret,),
        )

    return case


def nothing_listens(dialect: Dialect) -> Make:
    """Make a row's case of a port at which nobody is."""

    @asynccontextmanager
    async def case(stage: Stage) -> AsyncIterator[Case]:
        secret, port = stage.secret(), free_port()
        yield Case(
            url=dialect.url(secret, "127.0.0.1", port),
            address=f"127.0.0.1:{port}",
            config=dialect.config,
            secrets=(secret,),
        )
        release_port(port)

    return case


def makers(dialect: Dialect) -> dict[str, Make]:
    """List these rows' makers by name."""
    return {
        **makers_of_sockets(dialect),
        "closes during authentication": before_a_real_one(
            dialect, dialect.heard_before_sign_in, hang_up
        ),
        "closes during ping": before_a_real_one(dialect, dialect.heard_before_ping, hang_up),
        "never answers the ping": before_a_real_one(
            dialect, dialect.heard_before_ping, mute, in_time=True
        ),
    }


def makers_of_sockets(dialect: Dialect) -> dict[str, Make]:
    """List the makers of the rows that need no real server."""
    speech = [
        ("closes during connect", hang_up, False),
        ("resets during connect", reset, False),
        ("is silent", mute, True),
        ("sends a byte a second", dripping(dialect.welcome), True),
        ("answers after the time", late(LATE_SECONDS, saying(dialect.welcome)), True),
        ("answers HTTP", answering(then=saying(HTTP, then=hang_up)), False),
        ("greets as SSH does", saying(SSH), False),
        ("greets as MySQL does", saying(MYSQL), False),
        ("replies without end", babbling(*dialect.flood), True),
        ("declares 2 GB", answering(dialect.huge), True),
    ]
    return {
        "nothing listens": nothing_listens(dialect),
        **{name: talking(dialect, talk, in_time=in_time) for name, talk, in_time in speech},
        "TLS alone reached in clear text": tls_only(dialect),
        "its queue of callers is full": at(dialect, FullBacklog, seconds=dialect.connect_seconds),
        "clear text reached with TLS": at(
            dialect, lambda: MisbehavingServer(answering(dialect.welcome)), tls=True
        ),
    }
