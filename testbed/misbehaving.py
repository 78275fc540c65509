"""Servers that misbehave as no real one does: mute, endless, half-way closing, never accepting."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from testbed.ports import free_port, release_port

CHUNK = 65_536
_BACKLOG_FILLERS = 8


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has connected."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self) -> bytes:
        """Take what came, at least a byte; nothing once the caller has hung up."""
        return await self.reader.read(CHUNK)

    async def say(self, words: bytes) -> None:
        """Send these words, and wait while too many are on their way."""
        self.writer.write(words)
        await self.writer.drain()


Conversation = Callable[[Caller], Awaitable[None]]
"""What a server does with one caller; it hangs up when this returns."""


async def mute(caller: Caller) -> None:
    """Listen and never say a word."""
    while await caller.hear():
        pass


async def hang_up(_: Caller) -> None:
    """Close at once."""


async def reset(caller: Caller) -> None:
    """Break the connection off as a server that crashes does."""
    end: socket.socket = caller.writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.writer.transport.abort()


def saying(words: bytes, then: Conversation = mute) -> Conversation:
    """Greet everybody with these words, unasked."""

    async def converse(caller: Caller) -> None:
        await caller.say(words)
        await then(caller)

    return converse


def answering(*answers: bytes, then: Conversation = mute) -> Conversation:
    """Answer one thing heard with one of these each; once they are used up, hear one more."""

    async def converse(caller: Caller) -> None:
        for answer in answers:
            if not await caller.hear():
                return
            await caller.say(answer)
        if await caller.hear():
            await then(caller)

    return converse


def leaving_after(seconds: float) -> Conversation:
    """Say nothing for so long, then close."""

    async def converse(_: Caller) -> None:
        await asyncio.sleep(seconds)

    return converse


def dripping(words: bytes, seconds: float = 1.0) -> Conversation:
    """Say these words over and over, a byte in so many seconds."""

    async def converse(caller: Caller) -> None:
        while True:
            for byte in words:
                await caller.say(bytes((byte,)))
                await asyncio.sleep(seconds)

    return converse


def babbling(words: bytes, over_and_over: bytes = b"x") -> Conversation:
    """Say these words, then the others without end, as fast as they are taken."""
    flood = over_and_over * (CHUNK // len(over_and_over))

    async def converse(caller: Caller) -> None:
        await caller.say(words)
        while True:
            await caller.say(flood)
            await asyncio.sleep(0)  # with TLS, nothing else lets the loop see that they hung up

    return converse


def late(seconds: float, then: Conversation) -> Conversation:
    """Go on only after so many seconds."""

    async def converse(caller: Caller) -> None:
        await asyncio.sleep(seconds)
        await then(caller)

    return converse


def relaying(port: int, heard: int, then: Conversation) -> Conversation:
    """Stand before the server at this port; go one's own way after hearing so many messages."""

    async def converse(caller: Caller) -> None:
        server = Caller(*await asyncio.open_connection("127.0.0.1", port))
        answers = asyncio.create_task(_pass_on(server, caller))
        try:
            for _ in range(heard):
                await server.say(await caller.hear())
            is_more = await caller.hear()
        finally:
            answers.cancel()
            server.writer.close()
        if is_more:
            await then(caller)

    return converse


async def _pass_on(speaker: Caller, listener: Caller) -> None:
    while words := await speaker.hear():
        await listener.say(words)


_TURNS = 5
"""Of a loop, within which an accepted connection is greeted: a closed server would lose it."""


class MisbehavingServer:
    """A server on loopback with a thread of its own, so that nothing of its caller slows it."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        """Take what it does with each caller; with `tls` it does so after the handshake.

        The receive buffer is the kernel's, in bytes; it never makes one as small as 1.
        """
        self.host = host
        self.port = free_port()
        self.callers = 0
        """How many have connected (and shaken hands) so far."""
        self._conversation = conversation
        self._tls = tls
        self._receive_buffer = receive_buffer
        self._thread = threading.Thread(target=self._run, name="misbehaving", daemon=True)
        self._listens = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        release_port(self.port)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._greet, self.host, self.port, ssl=self._tls, backlog=1024
        )
        if self._receive_buffer is not None:
            for listener in server.sockets:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self._listens.set()
        await self._end.wait()
        for listener in server.sockets:
            self._loop.remove_reader(listener.fileno())
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        server.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)
        await asyncio.sleep(0)  # what is aborted is closed by the loop's next turn

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.callers += 1
        talk = self._loop.create_task(self._talk(Caller(reader, writer)))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)
        # One that is cancelled before its first step never comes to its own end.
        talk.add_done_callback(lambda _: writer.transport.abort())

    async def _talk(self, caller: Caller) -> None:
        try:
            with suppress(ConnectionError, ssl.SSLError):
                await self._conversation(caller)
        except asyncio.CancelledError:
            caller.writer.transport.abort()  # closing would wait for a caller who never reads
            raise
        finally:
            caller.writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await caller.writer.wait_closed()


class FullBacklog:
    """A port on loopback whose queue of callers is full: the kernel drops whoever knocks."""

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        """Take an address of either family, and a free port where none is named."""
        self.host = host
        self._own_port = free_port() if port is None else None
        self.port = port or self._own_port or 0
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sockets = ExitStack()

    def __enter__(self) -> Self:
        listener = self._sockets.enter_context(socket.socket(self._family))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(0)
        for _ in range(_BACKLOG_FILLERS):
            filler = self._sockets.enter_context(socket.socket(self._family))
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sockets.close()
        if self._own_port is not None:
            release_port(self._own_port)
