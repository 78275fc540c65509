"""Nameservers that a stranger runs: whatever they answer, the name is at fault, in its time."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from testbed.lying_nameserver import GOOD, Lie, lying_nameserver
from testbed.misbehaving import (
    Caller,
    Conversation,
    MisbehavingServer,
    answering,
    babbling,
    dripping,
    hang_up,
    mute,
)
from testbed.ports import free_port, release_port
from tests.faults.cell import Outcome, carry, judge
from tests.faults.dialects import PATIENT, QUICK, REDIS
from tests.faults.matrix import Case, Expected, Way, expect
from tests.faults.mongodb_cases import MONGODB
from worker.dialing import MAX_ADDRESSES
from worker.probes.mongodb_members import MAX_HOSTS
from worker.resolver import Resolver
from worker.words import Engine, Reason

NAME = "lies.db.test"
SRV = "_mongodb._tcp."
SECRET = "cAnary-of-lying-names"
STALL_SECONDS = 0.3
"""Of the main thread's own CPU time, in which nobody else is served."""
MANY = 3_500
"""Addresses, about as many as an answer of 64 KB holds."""
SOME = 450
"""About as many as are read."""


def truncated(query: dns.message.Message) -> Iterable[bytes]:
    """Ask to be asked over TCP."""
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.TC
    yield answer.to_wire()


def telling(*records: tuple[str, str, Sequence[str]]) -> Lie:
    """Answer every question with these: names, kinds and texts."""

    def lie(query: dns.message.Message) -> Iterable[bytes]:
        answer = dns.message.make_response(query)
        for name, kind, texts in records:
            answer.answer.append(dns.rrset.from_text_list(name, 0, "IN", kind, texts))
        yield answer.to_wire(max_size=65_535)

    return lie


def bare(*words: bytes, flags: int = 0x8180, answers: int = 1) -> Lie:
    """Put these words where the answer should be."""

    def lie(query: dns.message.Message) -> Iterable[bytes]:
        header = struct.pack("!6H", query.id, flags, 1, answers, 0, 0)
        question = query.to_wire()[12 : query.to_wire().index(b"\0", 12) + 5]
        yield header + question + b"".join(words)

    return lie


def with_wrong_ids(query: dns.message.Message) -> Iterable[bytes]:
    """Guess at the number of the question, as who answers in another's name does."""
    for number in range(100):
        answer = dns.message.make_response(query)
        answer.id = query.id ^ (number + 1)
        answer.answer.append(dns.rrset.from_text(f"{NAME}.", 0, "IN", "A", "127.0.0.1"))
        yield answer.to_wire()


def no_such_name(query: dns.message.Message) -> Iterable[bytes]:
    """Say that there is none, and go on with what is no part of a message."""
    answer = dns.message.make_response(query)
    answer.set_rcode(dns.rcode.NXDOMAIN)
    yield answer.to_wire() + b"\xff" * 1_000


def over_tcp(kind: str, texts: Sequence[str], txt: Sequence[str] = ()) -> Conversation:
    """Answer over TCP, with so many records as 64 KB hold."""

    async def converse(caller: Caller) -> None:
        query = dns.message.from_wire((await caller.hear())[2:])
        asked = query.question[0]
        answer = dns.message.make_response(query)
        said = {dns.rdatatype.from_text(kind): texts, dns.rdatatype.TXT: txt}.get(asked.rdtype)
        if said:
            record = dns.rrset.from_text_list(asked.name, 0, "IN", asked.rdtype, said)
            answer.answer.append(record)
        words = answer.to_wire(max_size=65_535)
        await caller.say(struct.pack("!H", len(words)) + words)

    return converse


CHAIN = [(f"{n or ''}{NAME}.", "CNAME", [f"{n + 1}{NAME}."]) for n in range(40)]
POINTER = struct.pack("!H", 0xC000 + len(dns.message.make_query(NAME, "A").to_wire()))
"""To where it stands itself: after the header and the question."""
LIES: Mapping[str, tuple[Lie, Conversation]] = {
    "a truncated answer, then silence": (truncated, mute),
    "a truncated answer, then a byte at a time": (truncated, dripping(b"\xff\xff" + b"x", 0.1)),
    "wrong ids": (with_wrong_ids, hang_up),
    "a truncated answer, then one without end": (truncated, babbling(b"\xff\xff")),
    "a truncated answer, then empty ones": (truncated, answering(b"\0\0" * 1_000)),
    "a truncated answer, then a closed door": (truncated, hang_up),
    "an alias of itself": (telling((f"{NAME}.", "CNAME", [f"{NAME}."])), hang_up),
    "two aliases of each other": (
        telling((f"{NAME}.", "CNAME", ["b.test."]), ("b.test.", "CNAME", [f"{NAME}."])),
        hang_up,
    ),
    "forty aliases": (telling(*CHAIN, (f"40{NAME}.", "A", ["127.0.0.1"])), hang_up),
    "no such name, and garbage": (no_such_name, hang_up),
    "a label that is too long": (bare(b"\x7f" + b"x" * 127 + b"\0\0\x01\0\x01"), hang_up),
    "a name that points at itself": (bare(POINTER, b"\0\x01\0\x01"), hang_up),
    "nothing but a promise of 65,535 answers": (bare(answers=65_535), hang_up),
}


def case_of(resolver: Resolver, config: Mapping[str, object], port: int = 6379) -> Case:
    return Case(
        url=REDIS.url(SECRET, NAME, port),
        address=f"{NAME}:{port}",
        config=config,
        secrets=(SECRET,),
        resolver=resolver,
    )


@contextmanager
def serving_others(resolver: Resolver) -> Iterator[None]:
    """See that an honest name is found meanwhile, and that no lie keeps the loop to itself."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    asking = asyncio.create_task(resolver.addresses(GOOD))
    try:
        yield
    finally:
        watching.cancel()
        asking.cancel()  # does nothing to one that has ended
    assert asking.result()
    assert longest < STALL_SECONDS


async def check(case: Case, engine: Engine = Engine.REDIS) -> Outcome:
    assert case.resolver
    return await carry(replace(case, during=serving_others(case.resolver)), engine, Way.WIRE)


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_about_a_name_is_dns_in_its_time_and_delays_nobody(name: str) -> None:
    lie, tcp = LIES[name]
    async with lying_nameserver(lie, tcp) as asked:
        resolver = Resolver(asked)
        case = case_of(resolver, QUICK)
        case = replace(case, seconds=REDIS.connect_seconds)
        judge(await check(case), case, expect(Reason.DNS))


@pytest.mark.parametrize(("count", "reason"), [(MANY, Reason.DNS), (SOME, Reason.REFUSED)])
async def test_a_name_of_very_many_addresses_costs_no_more_than_a_few(
    count: int, reason: Reason
) -> None:
    addresses = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(count)]
    beyond = addresses[MAX_ADDRESSES]
    with MisbehavingServer(mute, host=beyond) as listener:
        async with lying_nameserver(truncated, over_tcp("A", addresses)) as asked:
            resolver = Resolver(asked)
            case = case_of(resolver, PATIENT, listener.port)
            case = replace(case, rules=case.rules.allow_everything())
            judge(await check(case), case, expect(reason))
        assert not listener.callers


async def test_one_blocked_address_among_hundreds_blocks_the_name() -> None:
    addresses = [f"198.18.{n // 250}.{n % 250 + 1}" for n in range(SOME)]
    addresses[SOME // 2] = "169.254.169.254"
    async with lying_nameserver(truncated, over_tcp("A", addresses)) as asked:
        resolver = Resolver(asked)
        case = case_of(resolver, PATIENT)
        judge(await check(case), case, expect(Reason.BLOCKED))


@pytest.mark.parametrize(
    ("hosts", "txt", "expected"),
    [
        (
            1,
            [f"authSource=x{n}" for n in range(200)],
            expect(Reason.MISCONFIGURED, says="more than one TXT"),
        ),
        (1, ['"' + '" "'.join(["x" * 250] * 30) + '"'], expect(Reason.MISCONFIGURED, says="TXT")),
        (1, ['"' + '" "'.join(["x" * 250] * 250) + '"'], expect(Reason.DNS)),
        (200, [], expect(Reason.REFUSED)),
        (2_000, [], expect(Reason.DNS)),
    ],
    ids=[
        "hundreds of texts",
        "a text of 8 KB",
        "a text of 64 KB",
        "hundreds of hosts",
        "thousands of hosts",
    ],
)
async def test_a_seed_list_that_is_too_long_is_cut_or_refused(
    hosts: int, txt: Sequence[str], expected: Expected
) -> None:
    port = free_port()
    seeds = [f"0 0 {port} h{n}.db.test." for n in range(hosts)]
    asked_for: list[str] = []

    def lie(query: dns.message.Message) -> Iterable[bytes]:
        asked = query.question[0]
        if asked.rdtype in {dns.rdatatype.SRV, dns.rdatatype.TXT}:
            return truncated(query)
        asked_for.append(asked.name.to_text())
        return telling((asked.name.to_text(), "A", ["127.0.0.1"]))(query)

    async with lying_nameserver(lie, over_tcp("SRV", seeds, txt)) as asked:
        resolver = Resolver(asked)
        case = replace(
            case_of(resolver, MONGODB.patient),
            url=f"mongodb+srv://user:{SECRET}@{NAME}/?tls=false",
            address=NAME,
        )
        judge(await check(case, Engine.MONGODB), case, expected)
    release_port(port)
    assert len(set(asked_for)) <= 2 * MAX_HOSTS
