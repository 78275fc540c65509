"""The one door out: names, address rules, TCP, bounded reads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from ipaddress import ip_address

from worker.addresses import AddressRules, IPAddress
from worker.dialing import blame, open_first
from worker.errors import ProbeError, translate
from worker.handshakes import Handshakes
from worker.plan import Host, TlsRules
from worker.resolver import SILENT_RESOLVER, Resolver
from worker.stopwatch import Stopwatch
from worker.tls import TlsSession
from worker.words import Phase, Reason

__all__ = ["MAX_REPLY", "AddressRules", "Connection", "Network"]

MAX_REPLY = 65_536
"""Bytes that are read, or kept unread, of one reply."""


class Connection(asyncio.Protocol):
    """One connection to a target; keeps at most MAX_REPLY bytes and a read's worth unread."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._tls: TlsSession | None = None
        """Once its handshake is done: until then what comes is kept as it is."""
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._end: ProbeError | None = None
        self._is_paused = False

    @property
    def is_asked_for_certificate(self) -> bool:
        """Whether the server wanted a certificate of us when hands were shaken."""
        return self._tls is not None and self._tls.is_asked_for_certificate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "pause_reading")  # noqa: S101 -- uvloop's transports are no asyncio.Transport
        self._transport = transport  # type: ignore[assignment]  # as above

    def data_received(self, data: bytes) -> None:
        """Keep what came, and let no more come when that is too much."""
        self._keep(data)
        self._wake()

    def eof_received(self) -> None:
        """Note that the server has closed its side."""
        self._finish(ProbeError(Reason.CLOSED, "the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note why the connection ended, unless we have ended it."""
        if self._transport is None:
            return
        fault = translate(exc, ()) if exc else None
        self._finish(fault or ProbeError(Reason.CLOSED, "the server closed the connection"))

    def write(self, data: bytes) -> None:
        """Send, without waiting."""
        if self._end is not None:
            return
        if self._tls is not None:
            self._tls.encrypt(data)
            data = self._tls.to_send()
        self._send(data)

    async def read_exactly(self, count: int) -> bytes:
        """Read so many bytes; ProbeError `protocol` where that is absurd, `closed` at the end."""
        if count > MAX_REPLY:
            raise ProbeError(Reason.PROTOCOL, f"the server announced more than {MAX_REPLY} bytes")
        while len(self._buffer) < count:
            await self._more()
        return self._take(count)

    async def read_line(self, starts: bytes) -> bytes:
        """Read up to CRLF, which is left out; raises as `read_exactly` does.

        What begins with none of these bytes may have no end: it is returned as far as it came.
        """
        while (end := self._buffer.find(b"\r\n", 0, MAX_REPLY)) < 0:
            if self._buffer and self._buffer[0] not in starts:
                return self._take(len(self._buffer))
            if len(self._buffer) >= MAX_REPLY:
                raise ProbeError(Reason.PROTOCOL, "the server's reply has no end")
            await self._more()
        return self._take(end + 2)[:-2]

    async def start_tls(self, rules: TlsRules, host: Host, watch: Stopwatch) -> None:
        """Encrypt from now on; bytes that came in clear before count as an attack."""
        if self._buffer:
            raise ProbeError(Reason.PROTOCOL, "the server sent more than it was asked before TLS")
        with watch(Phase.TLS):
            session = await self._handshakes.begin(rules, host)
            outcome: bool | ssl.SSLError = session.shake_hands(b"")
            while outcome is not True:
                self._send(session.to_send())
                if isinstance(outcome, ssl.SSLError):  # why we refuse is sent
                    raise blame(outcome)
                received = self._take(len(self._buffer)) or await self._next()
                outcome = await self._handshakes.go_on(session, received, host)
            # Our last words leave with the first of the probe's: a server that refuses them closes,
            # and a write that came after that would lose its reason.
            received = self._take(len(self._buffer))
            self._tls = session
            if received:
                self._keep(received)

    def abort(self) -> None:
        """Close at once, whatever the server does."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        # A fault that was raised holds what held us: only a garbage collection would find that.
        self._tls = self._end = None
        self._buffer.clear()

    def _keep(self, data: bytes) -> None:
        """Put what came into the buffer, in clear; what there is no room for waits encrypted."""
        if self._tls is None:
            self._buffer += data
        else:
            try:
                self._buffer += self._tls.decrypt(data, MAX_REPLY + 1 - len(self._buffer))
            except (ssl.SSLError, EOFError, ProbeError) as error:
                self._finish(blame(error))
            self._send(self._tls.to_send())
        self._regulate()

    def _regulate(self) -> None:
        """Let no more come than one reply that waits to be read, and one to be decrypted."""
        unread = max(len(self._buffer), self._tls.unread if self._tls else 0)
        if self._transport is None or (unread > MAX_REPLY) is self._is_paused:
            return
        self._is_paused = not self._is_paused
        if self._is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _send(self, data: bytes) -> None:
        if data and self._transport is not None and self._end is None:
            self._transport.write(data)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._regulate()
        return taken

    async def _next(self) -> bytes:
        await self._more()
        return self._take(len(self._buffer))

    async def _more(self) -> None:
        if self._tls is not None:
            known = len(self._buffer)
            self._keep(b"")  # sends what waits, too
            if self._tls.is_held:
                await asyncio.sleep(0)
                return
            if len(self._buffer) > known:
                return
        if self._end is not None:
            raise self._end
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _finish(self, fault: ProbeError) -> None:
        self._end = self._end or fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Network:
    """Connects to targets; every byte of a probe, look-ups included, leaves through it."""

    def __init__(self, rules: AddressRules, resolver: Resolver | None = None) -> None:
        self._rules = rules
        self._resolver = resolver or Resolver()
        self._handshakes = Handshakes()

    @asynccontextmanager
    async def connect(
        self, host: Host, tls: TlsRules | None, watch: Stopwatch
    ) -> AsyncIterator[Connection]:
        """Connect, with TLS where rules are given; leaving closes at once.

        Raises:
            ProbeError: why there is no connection.
        """
        with watch(Phase.DNS):
            addresses = await self._addresses(host)
        connection = Connection(self._handshakes)
        try:
            with watch(Phase.CONNECT):
                await open_first(addresses, host.port, connection)
            if tls is not None:
                await connection.start_tls(tls, host, watch)
            yield connection
        finally:
            connection.abort()

    async def srv_hosts(self, name: str, watch: Stopwatch) -> tuple[Host, ...]:
        """Look up the hosts of a `mongodb+srv` name; ProbeError `dns` where there are none."""
        with watch(Phase.DNS):
            records = await self._resolver.records(f"_mongodb._tcp.{name}", "SRV")
        if not records:
            raise ProbeError(Reason.DNS, "the name has no SRV record")
        fields = (record.split() for record in records)
        return tuple(Host(target.rstrip("."), int(port)) for _, _, port, target in fields)

    async def txt(self, name: str, watch: Stopwatch) -> str | None:
        """Look up the options of a `mongodb+srv` name; None where there are none."""
        with watch(Phase.DNS):
            records = await self._resolver.records(name, "TXT")
        if len(records) > 1:
            raise ProbeError(Reason.MISCONFIGURED, "the name has more than one TXT record")
        return records[0] if records else None

    def too_late(self, watch: Stopwatch, seconds: float) -> ProbeError:
        """Say where these seconds went; a silence of our own resolver's is our trouble."""
        phase = watch.current
        if phase is Phase.DNS and self._resolver.is_silent(watch.started):
            return ProbeError(Reason.INTERNAL, SILENT_RESOLVER)
        reason = Reason.DNS if phase is Phase.DNS else Reason.TIMEOUT
        where = f" (in {phase})" if phase else ""
        return ProbeError(reason, f"not connected within {seconds * 1000:.0f} ms{where}")

    async def _addresses(self, host: Host) -> Sequence[IPAddress]:
        literal = _literal(host.name)
        addresses: Sequence[IPAddress] = (
            (literal,) if literal is not None else await self._resolver.addresses(host.name)
        )
        if not all(self._rules.permits(address, host.port) for address in addresses):
            raise ProbeError(Reason.BLOCKED, "the address is one that this worker must not contact")
        return addresses


@lru_cache(maxsize=10_000)
def _literal(name: str) -> IPAddress | None:
    """Read an address that stands where a name could; None for a name."""
    try:
        return ip_address(name)
    except ValueError:
        return None
