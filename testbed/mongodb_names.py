"""A nameserver on loopback that tells the hosts and options of `mongodb+srv` names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar, cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from testbed.ports import free_port, release_port

R = TypeVar("R", bound=dns.resolver.BaseResolver)
Records = Mapping[tuple[str, str], Sequence[str]]
"""Texts of records by name and kind: `("a.test", "A"): ["127.0.0.1"]`."""


class Nameserver:
    """Answers by a table; of any other name it says that there is none, or nothing at all."""

    host = "127.0.0.1"

    def __init__(self, records: Records, *, is_silent: bool = False) -> None:
        self.port = free_port()
        self._records = records
        self._is_silent = is_silent
        self._thread = threading.Thread(target=self._run, name="misbehaving", daemon=True)
        self._listens = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()

    def resolver(self) -> dns.asyncresolver.Resolver:
        """Make a resolver that asks here."""
        return self._pointed(dns.asyncresolver.Resolver(configure=False))

    @contextmanager
    def for_everybody(self) -> Iterator[None]:
        """Make dnspython and `socket` ask here, whoever calls them."""
        before = dns.resolver.default_resolver, dns.asyncresolver.default_resolver
        dns.asyncresolver.default_resolver = self.resolver()  # type: ignore[assignment]  # untyped there, None at first
        dns.resolver.default_resolver = self._pointed(dns.resolver.Resolver(configure=False))
        dns.resolver.override_system_resolver(dns.resolver.default_resolver)
        try:
            yield
        finally:
            dns.resolver.restore_system_resolver()
            dns.resolver.default_resolver, dns.asyncresolver.default_resolver = before

    def answer(self, wire: bytes) -> bytes | None:
        """Answer one question."""
        if self._is_silent:
            return None
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query, recursion_available=True)
        asked = query.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        texts = self._records.get((name, kind), ())
        if texts:
            response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", kind, *texts))
        elif not any(known == name for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

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

    def _pointed(self, resolver: R) -> R:
        resolver.nameservers = [self.host]
        resolver.port = self.port
        return resolver

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        transport, _ = await self._loop.create_datagram_endpoint(
            lambda: _Desk(self), (self.host, self.port)
        )
        self._listens.set()
        await self._end.wait()
        transport.close()


class _Desk(asyncio.DatagramProtocol):
    def __init__(self, server: Nameserver) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if answer := self._server.answer(data):
            self._transport.sendto(answer, addr)
