"""A nameserver on loopback that says what it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Zone = Mapping[tuple[str, str], Sequence[Sequence[str]]]
"""By name and kind: what to answer at first, then, and from the last one on for ever."""


class Nameserver(asyncio.DatagramProtocol):
    """Answers from a zone; a name that is not in it does not exist."""

    def __init__(self, zone: Zone) -> None:
        """Take the zone; names in lower case, with the dot at the end."""
        self.asked: list[tuple[str, str]] = []
        self._zone = {key: deque(answers) for key, answers in zone.items()}
        self._names = {name for name, _ in zone}
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        reply = dns.message.make_response(query)
        answers = self._zone.get((name, kind))
        if answers:
            words = answers.popleft() if len(answers) > 1 else answers[0]
            reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", kind, *words))
        elif name not in self._names:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(reply.to_wire(), addr)


@asynccontextmanager
async def nameserver(
    zone: Zone,
) -> AsyncIterator[tuple[Nameserver, dns.asyncresolver.Resolver]]:
    """Run a nameserver in this loop, and lend a resolver that asks it alone."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Nameserver(zone), ("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    try:
        yield server, resolver
    finally:
        transport.close()
