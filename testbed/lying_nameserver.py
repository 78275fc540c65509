"""A nameserver on loopback that is honest about one name, and lies about every other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rdatatype
import dns.rrset

from testbed.misbehaving import Conversation, MisbehavingServer

GOOD = "good.test."
"""The name that every question about is answered."""
Lie = Callable[[dns.message.Message], Iterable[bytes]]
"""Makes of a question the datagrams that answer it."""


class LyingNameserver(asyncio.DatagramProtocol):
    """Answers over UDP in the loop of the test."""

    def __init__(self, lie: Lie) -> None:
        """Take what it says of a name that is not GOOD."""
        self._lie = lie
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        query = dns.message.from_wire(data)
        asked = query.question[0]
        if asked.name.to_text() not in {GOOD, "."}:
            for datagram in self._lie(query):
                self._transport.sendto(datagram, addr)
            return
        answer = dns.message.make_response(query)
        if asked.rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(asked.name, 0, "IN", "A", "127.0.0.1"))
        self._transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def lying_nameserver(
    lie: Lie, over_tcp: Conversation
) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """Lend a resolver that asks a liar, over UDP and, where it says so, over TCP."""
    with MisbehavingServer(over_tcp) as tcp:
        place = tcp.host, tcp.port
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: LyingNameserver(lie), place
        )
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [tcp.host], tcp.port
        try:
            yield resolver
        finally:
            transport.close()
