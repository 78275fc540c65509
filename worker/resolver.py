"""Look-ups without threads: a name that hangs delays nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver

from worker.errors import ProbeError
from worker.words import Reason

IPAddress = IPv4Address | IPv6Address

HOSTS_FILE = Path("/etc/hosts")
LIFETIME_SECONDS = 30.0
AGAIN_SECONDS = 0.05
"""After how long a look-up that was cancelled is cancelled again."""
WONDER_SECONDS = 0.1
"""How long a look-up is waited for before our nameservers are asked whether they answer at all."""
PROOF_SECONDS = 2.0
"""How long they have to prove it."""
OTHER_FAMILY_SECONDS = 0.3
"""How long the one family's addresses are waited for once the other's are there (RFC 8305)."""
MAX_ANSWER = 8_192
"""Bytes of an answer over TCP, some five hundred addresses: reading 64 KB keeps the loop for 0.35 s
at each look-up, and a stranger's nameserver may forbid that it be remembered."""
MAX_REMEMBERED = 10_000
"""Answers."""
MAX_REMEMBERED_ANSWER = 512
"""Bytes, what DNS began with."""
LOOPBACK: tuple[IPAddress, ...] = (IPv6Address("::1"), IPv4Address("127.0.0.1"))
SILENT_RESOLVER = "the worker's resolver does not answer"
_SILENT = "the look-up of the name was not answered"


class BoundedNameserver(dns.nameserver.Do53Nameserver):
    """A nameserver that is asked again over TCP where its answer is long, but not read for ever."""

    async def async_query(self, request: dns.message.QueryMessage, **how: Any) -> Any:  # type: ignore[override]  # dnspython names all that it passes
        """Ask as dnspython does, which has no bound of its own on an answer over TCP."""
        if not how["max_size"]:
            return await super().async_query(request, **how)
        async with asyncio.timeout(how["timeout"]):
            return await self._ask_over_tcp(request)

    async def _ask_over_tcp(self, request: dns.message.QueryMessage) -> dns.message.Message:
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            words = request.to_wire()
            writer.write(len(words).to_bytes(2) + words)
            size = int.from_bytes(await reader.readexactly(2))
            if size > MAX_ANSWER:
                raise dns.exception.FormError
            answer = dns.message.from_wire(await reader.readexactly(size))
        finally:
            writer.transport.abort()
        if not request.is_response(answer):
            raise dns.exception.FormError
        return answer


class ShortAnswers(dns.resolver.LRUCache):
    """Remembers answers that are short: a hundred times as much would be kept of long ones."""

    def __init__(self) -> None:
        super().__init__(MAX_REMEMBERED)

    def put(self, key: Any, value: dns.resolver.Answer) -> None:
        """Remember an answer unless it is long; who has such a one is asked at each check."""
        response = value.response
        if len(response.wire or b"") > MAX_REMEMBERED_ANSWER:
            return
        response.wire = None
        response.index.clear()
        for aside in (*response.sections[1:], value.chaining_result.cnames):
            aside.clear()  # a chain of aliases takes more memory than what it leads to
        super().put(key, value)


class Resolver:
    """Asks the nameservers of resolv.conf, after /etc/hosts; tells their trouble from ours."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._resolver = _bounded(resolver) if resolver else None
        self._proving = asyncio.Lock()
        self._proved_at = self._failed_at = float("-inf")
        self._hosts: dict[str, tuple[IPAddress, ...]] = {}
        self._hosts_read_at = 0.0

    async def addresses(self, name: str) -> tuple[IPAddress, ...]:
        """Look up a name in both families.

        Raises:
            ProbeError: `dns`, or `internal` where our nameservers answer nobody.
        """
        if known := self._known(name):
            return known
        families = [asyncio.ensure_future(self._ask(name, kind)) for kind in ("AAAA", "A")]
        try:
            await _enough(families)
            ended = [each for each in families if each.done()]
        finally:
            for each in families:
                each.cancel()
        faults = [fault for each in ended if (fault := each.exception())]
        found = [each.result() for each in ended if not each.exception()]
        addresses = tuple(ip_address(text) for texts in found for text in texts)
        if not addresses:
            raise faults[0] if faults else ProbeError(Reason.DNS, "the name does not resolve")
        return addresses

    def is_silent(self, since: float) -> bool:
        """Whether, for all we know, our nameservers have answered nobody since these seconds."""
        is_doubted = self._proving.locked() or self._failed_at > self._proved_at
        return is_doubted and self._proved_at < since

    async def records(self, name: str, kind: str) -> list[str]:
        """Look up SRV or TXT records as text; raises as `addresses` does."""
        return await self._ask(name, kind)

    async def _ask(self, name: str, kind: str) -> list[str]:
        resolver, since = self._configured(), time.monotonic()
        search = kind in {"A", "AAAA"}
        looking = asyncio.ensure_future(
            resolver.resolve(name, kind, search=search, lifetime=LIFETIME_SECONDS)
        )
        looking.add_done_callback(_note)
        try:
            await asyncio.wait({looking}, timeout=WONDER_SECONDS)
            if not looking.done():
                await self._prove(resolver, since)
            answer = await looking
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.resolver.LifetimeTimeout, dns.resolver.NoNameservers):
            await self._prove(resolver, since)
            raise ProbeError(Reason.DNS, _SILENT) from None
        except dns.exception.DNSException:
            raise ProbeError(Reason.DNS, "the name cannot be looked up") from None
        finally:
            _end(looking)
        if kind == "TXT":
            return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
        return [record.to_text() for record in answer]

    def _configured(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            try:
                self._resolver = _bounded(dns.asyncresolver.Resolver())
            except dns.resolver.NoResolverConfiguration:
                raise ProbeError(Reason.INTERNAL, "the worker has no nameserver") from None
            self._resolver.cache = ShortAnswers()
        return self._resolver

    async def _prove(self, resolver: dns.asyncresolver.Resolver, since: float) -> None:
        """See that our nameservers answer anything at all, asked once for all who wonder.

        Raises:
            ProbeError: `internal` where they have answered nobody since these seconds.
        """
        async with self._proving:
            if self._proved_at < since and self._failed_at < since:
                if await _is_anybody_there(resolver):
                    self._proved_at = time.monotonic()
                else:
                    self._failed_at = time.monotonic()
            if self._proved_at < since:
                raise ProbeError(Reason.INTERNAL, SILENT_RESOLVER)

    def _known(self, name: str) -> tuple[IPAddress, ...]:
        """Read /etc/hosts again when it has changed; `localhost` is always known."""
        try:
            changed_at = HOSTS_FILE.stat().st_mtime
            if changed_at != self._hosts_read_at:
                self._hosts = _parse(HOSTS_FILE.read_text(encoding="utf-8", errors="replace"))
                self._hosts_read_at = changed_at
        except OSError:
            self._hosts = {}
        bare = name.rstrip(".").lower()
        return self._hosts.get(bare, LOOPBACK if bare == "localhost" else ())


def _end(looking: asyncio.Future[dns.resolver.Answer]) -> None:
    """Cancel until it has ended: wait_for of Python 3.11 loses a cancel that meets an answer."""
    if not looking.done():
        looking.cancel()
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, _end, looking)


def _note(looking: asyncio.Future[dns.resolver.Answer]) -> None:
    """Take a fault that nobody waits for any more."""
    if not looking.cancelled():
        looking.exception()


async def _enough(families: Sequence[asyncio.Future[list[str]]]) -> None:
    """Wait for both families, for the later one only a little once there is an address."""
    done, waiting = await asyncio.wait(families, return_when=asyncio.FIRST_COMPLETED)
    has_found = any(not each.exception() and each.result() for each in done)
    if waiting:
        await asyncio.wait(waiting, timeout=OTHER_FAMILY_SECONDS if has_found else None)


def _bounded(resolver: dns.asyncresolver.Resolver) -> dns.asyncresolver.Resolver:
    resolver.nameservers = [
        BoundedNameserver(server, resolver.port) if isinstance(server, str) else server
        for server in resolver.nameservers
    ]
    return resolver


async def _is_anybody_there(resolver: dns.asyncresolver.Resolver) -> bool:
    query = dns.message.make_query(".", dns.rdatatype.NS)
    asking = (
        server.async_query(
            query,
            timeout=PROOF_SECONDS,
            source=None,
            source_port=0,
            max_size=False,
            backend=dns.asyncbackend.get_default_backend(),
        )
        for server in resolver.nameservers
        if isinstance(server, dns.nameserver.Nameserver)
    )
    answers = await asyncio.gather(*asking, return_exceptions=True)
    # One that fails at everything has lost those whom it asks itself.
    return any(
        isinstance(answer, dns.message.Message) and answer.rcode() != dns.rcode.SERVFAIL
        for answer in answers
    )


def _parse(text: str) -> dict[str, tuple[IPAddress, ...]]:
    hosts: dict[str, tuple[IPAddress, ...]] = {}
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        try:
            address = ip_address(fields[0]) if fields else None
        except ValueError:
            continue
        for name in fields[1:] if address else ():
            hosts[name.lower()] = (*hosts.get(name.lower(), ()), *((address,) if address else ()))
    return hosts
