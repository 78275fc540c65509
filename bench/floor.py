"""The floor: the bytes that a probe exchanges, exchanged by the barest asyncio code.

No look-up, no address rule, no phases, no bound, nothing verified: the least that it could cost.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from worker.addresses import AddressRules
from worker.network import Connection, Network
from worker.plan import Host, Plan, TlsRules
from worker.stopwatch import Stopwatch

_CHALLENGE = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([0-9]+)")
_CLIENT_FIRST = re.compile(rb"n,,(n=[^,]*,r=[A-Za-z0-9+/=]+)")
_CLIENT_FINAL = re.compile(rb"c=biws,r=[!-+\--~]+,p=[A-Za-z0-9+/]{43}=")


class Tapped(Network):
    """The one door out, with everything that goes through it written down."""

    def __init__(self) -> None:
        super().__init__(AddressRules.allow_everything())
        self.writes: list[bytes] = []

    @asynccontextmanager
    async def connect(
        self, host: Host, tls: TlsRules | None, watch: Stopwatch
    ) -> AsyncIterator[Connection]:
        """Connect, and keep what is written from now on."""
        async with super().connect(host, tls, watch) as connection:
            yield _tap(connection, self.writes)


def _tap(connection: Connection, writes: list[bytes]) -> Connection:
    write = connection.write

    def keep(data: bytes) -> None:
        writes.append(data)
        write(data)

    connection.write = keep  # type: ignore[method-assign]  # it is this one connection's
    return connection


class Floor:
    """Says to one server what a probe said, again and again."""

    def __init__(self, plan: Plan, writes: Sequence[bytes]) -> None:
        (self._host,) = plan.hosts
        self.writes = writes
        self.scram = _Scram(plan.password or "", writes)

    async def ask(self) -> None:
        """Connect, say it, close."""
        _, talk = await asyncio.get_running_loop().create_connection(
            lambda: _Talk(self), self._host.name, self._host.port
        )
        await talk.ended


class _Talk(asyncio.Protocol):
    """One conversation: each answer calls for the next thing to say."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._said = 0
        self._transport: Any = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._say(b"")

    def data_received(self, data: bytes) -> None:
        if self._said < len(self._floor.writes):
            self._say(data)
        elif not self.ended.done():
            self.ended.set_result(None)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or EOFError("the server closed the connection"))

    def _say(self, heard: bytes) -> None:
        words = self._floor.writes[self._said]
        self._said += 1
        if b"c=biws," in words:
            words = self._floor.scram.prove(words, heard)
        self._transport.write(words)


class _Scram:
    """The proof in a conversation that is said again; the keys are derived once."""

    def __init__(self, password: str, said: Sequence[bytes]) -> None:
        self._password = password.encode()
        firsts = filter(None, map(_CLIENT_FIRST.search, said))
        self._first = next((first[1] for first in firsts), b"")
        self._keys: tuple[bytes, bytes] | None = None

    def prove(self, words: bytes, heard: bytes) -> bytes:
        """Put the proof that this challenge calls for in place of the one said before."""
        challenge = _CHALLENGE.search(heard)
        if challenge is None:
            raise ValueError("the server's answer holds no challenge")
        key, stored = self._keys or self._derive(challenge)
        final = b"c=biws,r=" + challenge[1]
        signature = hmac.digest(stored, b",".join((self._first, challenge[0], final)), "sha256")
        proof = int.from_bytes(key, "big") ^ int.from_bytes(signature, "big")
        return _CLIENT_FINAL.sub(final + b",p=" + b64encode(proof.to_bytes(32, "big")), words)

    def _derive(self, challenge: re.Match[bytes]) -> tuple[bytes, bytes]:
        salt, iterations = b64decode(challenge[2]), int(challenge[3])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        key = hmac.digest(salted, b"Client Key", "sha256")
        self._keys = key, hashlib.sha256(key).digest()
        return self._keys
