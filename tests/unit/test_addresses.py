"""Whom the worker may contact, in whatever way an address is written."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.addresses import BLOCKED, AddressRules, IPNetwork, unwrap

DEFAULT = AddressRules.build([], [])
IPV4_BLOCKED = [network for network in BLOCKED if network.version == 4]


def rules(allowed: str = "", blocked: str = "") -> AddressRules:
    return AddressRules.build(
        [ip_network(text) for text in allowed.split()],
        [ip_network(text) for text in blocked.split()],
    )


def permits(text: str, given_rules: AddressRules = DEFAULT, port: int = 6379) -> bool:
    return given_rules.permits(ip_address(text), port)


def carriers(inner: IPv4Address) -> list[IPv6Address]:
    """Write an IPv4 address in every way in which an IPv6 one may carry it."""
    number = int(inner)
    return [
        IPv6Address(f"::ffff:{inner}"),
        IPv6Address(f"::{inner}"),
        IPv6Address(f"::ffff:0:{inner}"),
        IPv6Address(f"64:ff9b::{inner}"),
        IPv6Address(f"64:ff9b:1::{inner}"),
        IPv6Address((0x2002 << 112) | (number << 80) | 1),
        IPv6Address((0x2001_0000 << 96) | (0x0808_0808 << 64) | (number ^ 0xFFFF_FFFF)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254"),
        *("169.254.170.2", "224.0.0.1", "239.255.255.250", "255.255.255.255"),
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "ff02::1", "::1%1"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe"),
        *("fd00:a9fe:a9fe::1", "fd00:42::42", "fd00:100::100:200"),
        *("FD00:EC2::254", "0:0:0:0:0:0:0:1", "::FFFF:127.0.0.1", "::ffff:7f00:1%lo"),
    ],
)
def test_loopback_link_local_multicast_unspecified_and_metadata_are_blocked(text: str) -> None:
    assert not permits(text)


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.199", "8.8.8.8"),
        *("128.0.0.1", "126.255.255.255", "223.255.255.255", "fd12::1", "2001:4860::1"),
        *("fec0::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"),
    ],
)
def test_private_and_public_addresses_are_permitted(text: str) -> None:
    assert permits(text)


@settings(derandomize=True, max_examples=100)
@given(network=st.sampled_from(IPV4_BLOCKED), offset=st.integers(0, 2**24 - 1))
def test_a_blocked_ipv4_address_is_blocked_inside_every_ipv6_one(
    network: IPNetwork, offset: int
) -> None:
    inner = IPv4Address(int(network.network_address) + offset % network.num_addresses)
    for outer in carriers(inner):
        if int(outer) > 1:
            assert unwrap(outer) == inner, outer
        assert not DEFAULT.permits(outer, 6379), outer


def test_an_operator_may_block_the_carrier_as_well_as_what_it_carries() -> None:
    assert permits("64:ff9b::8.8.8.8")
    assert not permits("64:ff9b::8.8.8.8", rules(blocked="64:ff9b::/96"))
    assert not permits("64:ff9b::8.8.8.8", rules(blocked="8.8.8.0/24"))
    assert not permits("::ffff:127.0.0.1", rules(allowed="::ffff:127.0.0.1/128"))


@pytest.mark.parametrize(
    ("allowed", "blocked", "text", "is_permitted"),
    [
        ("127.0.0.1/32", "", "127.0.0.1", True),
        ("127.0.0.1/32", "", "127.0.0.2", False),
        ("127.0.0.1/32", "", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8", "", "127.0.0.1", False),  # equal length: blocked
        ("127.0.0.0/9", "", "127.0.0.1", True),
        ("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", False),
        ("10.1.0.0/16", "10.1.0.0/16", "10.1.2.3", False),
        ("0.0.0.0/0", "", "127.0.0.1", False),
        ("0.0.0.0/0", "", "10.0.0.1", True),
        ("10.0.0.0/8", "0.0.0.0/0", "10.0.0.1", True),
        ("10.0.0.0/8", "0.0.0.0/0", "8.8.8.8", False),
        ("::1/128", "", "::1", False),
        ("fd00:ec2::254/128", "", "fd00:ec2::254", True),
        ("fd00::/8", "::/0", "fd12::1", True),
        ("fd00::/8", "::/0", "2001:4860::1", False),
    ],
)
def test_the_longer_prefix_wins_and_at_equal_length_blocked(
    allowed: str, blocked: str, text: str, *, is_permitted: bool
) -> None:
    assert permits(text, rules(allowed, blocked)) is is_permitted


@pytest.mark.parametrize("spelling", ["10.9.8.7", "::ffff:10.9.8.7", "64:ff9b::10.9.8.7"])
def test_the_registrys_own_address_is_blocked_at_its_port_alone(spelling: str) -> None:
    made = rules(allowed="10.9.8.7/32")
    made.protect([(spelling, 5432)])
    for outer in ["10.9.8.7", *map(str, carriers(IPv4Address("10.9.8.7")))]:
        assert not permits(outer, made, 5432), outer
    assert permits("10.9.8.7", made, 5433)
    assert permits("10.9.8.8", made, 5432)


def test_a_registry_that_moved_is_protected_where_it_is_now() -> None:
    made = rules()
    made.protect([("10.0.0.1", 5432)])
    made.protect([("10.0.0.2", 5432), ("fd12::2%eth0", 5432)])
    assert permits("10.0.0.1", made, 5432)
    assert not permits("10.0.0.2", made, 5432)
    assert not permits("fd12::2", made, 5432)


def test_rules_for_an_operators_own_connection_string_permit_loopback() -> None:
    assert permits("127.0.0.1", AddressRules.allow_everything())
