"""Which addresses the worker may contact: built-in rules, the operator's, the registry's own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self

from worker.connection import MAX_PORT

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

BLOCKED = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "100.100.100.200/32",  # Alibaba Cloud's metadata
            "168.63.129.16/32",  # Azure's wire server
            "192.0.0.192/32",  # Oracle Cloud's metadata
            "::/128",
            "::1/128",
            "fe80::/10",
            "ff00::/8",
            "fd00:ec2::/32",  # Amazon's metadata, credentials, names and time
            "fd20:ce::254/128",  # Google Cloud's metadata
            "fd00:c1::a9fe:a9fe/128",  # Oracle Cloud's metadata
            "fd00:a9fe:a9fe::1/128",  # Akamai's (Linode's) metadata
            "fd00:42::42/128",  # Scaleway's metadata
            "fd00:100::100:200/128",  # Alibaba Cloud's metadata
        ),
    )
)
_TRANSLATED = tuple(
    map(
        IPv6Network,
        ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96"),  # RFC 6052, 8215, 2765
    )
)
_COMPATIBLE = IPv6Network("::/96")
MAX_VERDICTS = 10_000
"""How many addresses' verdicts are remembered."""


def unwrap(address: IPAddress) -> IPAddress:
    """Take the IPv4 address out of an IPv6 one that carries it, and a zone off any other.

    Mapped, compatible (RFC 4291), 6to4 (3056), Teredo (4380), translated (2765, 6052, 8215).
    """
    if isinstance(address, IPv4Address):
        return address
    plain = IPv6Address(int(address))
    carried = plain.ipv4_mapped or plain.sixtofour or (plain.teredo or (None, None))[1]
    if carried is None and (
        any(plain in network for network in _TRANSLATED)
        or (plain in _COMPATIBLE and int(plain) > 1)
    ):
        carried = IPv4Address(int(plain) & 0xFFFF_FFFF)
    return carried or plain


class AddressRules:
    """Networks with a verdict each; the longer prefix wins, at equal length blocked."""

    def __init__(self, verdicts: Iterable[tuple[IPNetwork, bool]]) -> None:
        """Take the longest prefix first; True permits."""
        self._verdicts = tuple(verdicts)
        self._protected: frozenset[tuple[IPAddress, int]] = frozenset()
        self._verdict = lru_cache(maxsize=MAX_VERDICTS)(self._look_up)

    @classmethod
    def build(cls, allowed: Iterable[IPNetwork], blocked: Iterable[IPNetwork]) -> Self:
        """Lay the operator's networks beside the built-in ones."""
        verdicts = [(network, True) for network in allowed]
        verdicts += [(network, False) for network in (*blocked, *BLOCKED)]
        verdicts.sort(key=lambda rule: (-rule[0].prefixlen, rule[1]))
        return cls(verdicts)

    @classmethod
    def allow_everything(cls) -> Self:
        """Make rules for an operator's own connection string."""
        return cls(())

    def protect(self, addresses: Iterable[tuple[str, int]]) -> None:
        """Block these addresses and ports, whatever the networks say, in place of the last ones."""
        self._protected = frozenset((unwrap(ip_address(host)), port) for host, port in addresses)

    def permits(self, address: IPAddress, port: int) -> bool:
        """Whether the worker may contact this address and port, in every way to read it."""
        bare = unwrap(address)
        if (bare, port) in self._protected or not 0 < port <= MAX_PORT:  # uvloop would cut it
            return False
        return self._verdict(bare) and (bare is address or self._verdict(address))

    def _look_up(self, address: IPAddress) -> bool:
        return next((verdict for network, verdict in self._verdicts if address in network), True)
