"""Look-ups without threads: a name that hangs delays nobody else's."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver

from worker.errors import ProbeError
from worker.model import Reason

IPAddress = IPv4Address | IPv6Address

HOSTS_FILE = Path("/etc/hosts")
LIFETIME_SECONDS = 30.0
PROOF_SECONDS = 5.0
"""How long it counts that our nameservers answered somebody, or nobody."""
LOOPBACK: tuple[IPAddress, ...] = (IPv6Address("::1"), IPv4Address("127.0.0.1"))
_SILENT = "the look-up of the name was not answered"


class Resolver:
    """Asks the nameservers of resolv.conf, after /etc/hosts; tells their trouble from ours."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._resolver = resolver
        self._proof: tuple[float, bool] = (-PROOF_SECONDS, True)
        self._proving = asyncio.Lock()
        self._hosts: dict[str, tuple[IPAddress, ...]] = {}
        self._hosts_read_at = 0.0

    async def addresses(self, name: str) -> tuple[IPAddress, ...]:
        """Look up a name in both families.

        Raises:
            ProbeError: `dns`, or `internal` where our nameservers answer nobody.
        """
        if known := self._known(name):
            return known
        found = await asyncio.gather(
            self._ask(name, "AAAA"), self._ask(name, "A"), return_exceptions=True
        )
        addresses = [ip_address(text) for each in found if isinstance(each, list) for text in each]
        faults = [each for each in found if isinstance(each, BaseException)]
        if not addresses:
            raise faults[0] if faults else ProbeError(Reason.DNS, "the name does not resolve")
        return tuple(addresses)

    async def records(self, name: str, kind: str) -> list[str]:
        """Look up SRV or TXT records as text; raises as `addresses` does."""
        return await self._ask(name, kind)

    async def _ask(self, name: str, kind: str) -> list[str]:
        resolver = self._configured()
        try:
            answer = await resolver.resolve(
                name, kind, search=kind in {"A", "AAAA"}, lifetime=LIFETIME_SECONDS
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.resolver.LifetimeTimeout, dns.resolver.NoNameservers):
            if await self._is_anybody_there(resolver):
                raise ProbeError(Reason.DNS, _SILENT) from None
            raise ProbeError(Reason.INTERNAL, "the worker's resolver does not answer") from None
        except dns.exception.DNSException:
            raise ProbeError(Reason.DNS, "the name cannot be looked up") from None
        if kind == "TXT":
            return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
        return [record.to_text() for record in answer]

    def _configured(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            try:
                self._resolver = dns.asyncresolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                raise ProbeError(Reason.INTERNAL, "the worker has no nameserver") from None
            self._resolver.cache = dns.resolver.LRUCache(10_000)
        return self._resolver

    async def _is_anybody_there(self, resolver: dns.asyncresolver.Resolver) -> bool:
        """Whether our nameservers answer anything at all, asked once for all who wonder."""
        async with self._proving:
            if time.monotonic() - self._proof[0] > PROOF_SECONDS:
                query = dns.message.make_query(".", dns.rdatatype.NS)
                servers = [server for server in resolver.nameservers if not isinstance(server, str)]
                servers += [
                    dns.nameserver.Do53Nameserver(server, resolver.port)
                    for server in resolver.nameservers
                    if isinstance(server, str)
                ]
                answers = await asyncio.gather(
                    *(server.async_query(query, 2.0, None, 0, False, None) for server in servers),
                    return_exceptions=True,
                )
                is_there = any(isinstance(answer, dns.message.Message) for answer in answers)
                self._proof = (time.monotonic(), is_there)
            return self._proof[1]

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
