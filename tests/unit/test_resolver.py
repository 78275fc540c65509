"""Names are looked up as the machine would, and a fault is told from ours."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import dns.asyncresolver
import dns.resolver
import pytest

from testbed.nameserver import nameserver
from worker import resolver as module
from worker.errors import ProbeError
from worker.resolver import Resolver
from worker.words import Reason


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    path.write_text("10.1.1.1 One.test alias.test # a comment\n::7 one.test\nnonsense\n\n# none\n")
    monkeypatch.setattr(module, "HOSTS_FILE", path)
    return path


@pytest.fixture
def mute() -> Iterator[dns.asyncresolver.Resolver]:
    """A nameserver that answers nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], server.getsockname()[1]
        yield made


def rewrite(path: Path, text: str | None) -> None:
    """Replace a file as if some time had passed, or remove it."""
    if text is None:
        path.unlink()
        return
    later = path.stat().st_mtime + 10
    path.write_text(text)
    os.utime(path, (later, later))


async def test_the_hosts_file_goes_first_whatever_the_spelling(hosts: Path) -> None:
    async with nameserver({}) as (server, asked):
        resolver = Resolver(asked)
        found = await resolver.addresses("ONE.test.")
        assert set(found) == {ip_address("10.1.1.1"), ip_address("::7")}
        assert await resolver.addresses("alias.test") == (ip_address("10.1.1.1"),)
        assert not server.asked


async def test_a_hosts_file_that_changed_is_read_again(hosts: Path) -> None:
    async with nameserver({}) as (_, asked):
        resolver = Resolver(asked)
        await resolver.addresses("one.test")
        rewrite(hosts, "10.2.2.2 one.test\n")
        assert await resolver.addresses("one.test") == (ip_address("10.2.2.2"),)
        rewrite(hosts, None)
        with pytest.raises(ProbeError):
            await resolver.addresses("one.test")


async def test_localhost_is_loopback_even_where_nobody_says_so(hosts: Path) -> None:
    async with nameserver({}) as (server, asked):
        found = await Resolver(asked).addresses("LocalHost.")
        assert set(found) == {ip_address("127.0.0.1"), ip_address("::1")}
        assert not server.asked


async def test_both_families_are_asked(hosts: Path) -> None:
    zone = {("db.test.", "A"): [["10.0.0.1"]], ("db.test.", "AAAA"): [["fd12::1"]]}
    async with nameserver(zone) as (_, asked):
        found = await Resolver(asked).addresses("db.test")
    assert set(found) == {ip_address("10.0.0.1"), ip_address("fd12::1")}


async def test_records_of_a_text_are_joined(hosts: Path) -> None:
    zone = {("db.test.", "TXT"): [['"authSource=" "admin"']]}
    async with nameserver(zone) as (_, asked):
        assert await Resolver(asked).records("db.test", "TXT") == ["authSource=admin"]
        assert await Resolver(asked).records("other.test", "TXT") == []


@pytest.mark.parametrize("name", ["nowhere.test", "a" * 64 + ".test", "a..test", "x" * 250])
async def test_a_name_that_does_not_exist_or_cannot_is_dns(hosts: Path, name: str) -> None:
    async with nameserver({}) as (_, asked):
        with pytest.raises(ProbeError) as caught:
            await Resolver(asked).addresses(name)
    assert caught.value.reason is Reason.DNS


async def test_nameservers_that_answer_nobody_are_our_trouble(
    hosts: Path, mute: dns.asyncresolver.Resolver
) -> None:
    with pytest.raises(ProbeError) as caught:
        await Resolver(mute).addresses("db.test")
    assert caught.value.reason is Reason.INTERNAL


async def test_a_look_up_that_loses_its_cancel_is_cancelled_again() -> None:
    class Losing(dns.asyncresolver.Resolver):
        """Loses a cancel, as wait_for of Python 3.11 does when it meets an answer."""

        async def resolve(self, *_: object, **__: object) -> dns.resolver.Answer:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()
            raise AssertionError

    before = asyncio.all_tasks()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await Resolver(Losing(configure=False)).records("db.test", "TXT")
    if left := asyncio.all_tasks() - before:
        await asyncio.wait(left, timeout=2)
    assert not asyncio.all_tasks() - before
