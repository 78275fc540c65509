"""Servers that abuse TLS, or never read what they are sent: right name, in time, nothing left."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from testbed.certificates import Certificate
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
from testbed.records import after_a_handshake
from tests.faults.cell import carry, judge
from tests.faults.dialects import POSTGRESQL, REDIS, Dialect
from tests.faults.matrix import Case, Expected, Way, expect
from tests.faults.mongodb_cases import MONGODB
from tests.faults.stage import Stage
from worker.network import MAX_REPLY
from worker.plan import TlsRules
from worker.tls import build_context
from worker.words import Engine, Reason

every_engine = pytest.mark.parametrize(
    "dialect", [REDIS, POSTGRESQL, MONGODB], ids=lambda dialect: str(dialect.engine)
)
DRIP_SECONDS = 0.02
LONG = 7_000
"""Characters of a name; more than the smallest receive buffer takes."""
COPIES = 300
"""Of one certificate; more than the 100 KB that OpenSSL takes of a chain."""
FLOODS: Mapping[str, tuple[bytes, bytes]] = {
    "warnings": (b"", b"\x15\x03\x03\0\x02\x01\x5a"),
    "changes of the cipher": (b"", b"\x14\x03\x03\0\x01\x01"),
    "empty records": (b"", b"\x16\x03\x03\0\0"),
    "a greeting of 16 MB": (
        b"\x16\x03\x03\x40\0\x02\xff\xff\xff\x03\x03" + b"x" * 16_378,
        b"\x16\x03\x03\x40\0" + b"x" * 16_384,
    ),
    "records of another protocol": (b"", b"\x17\x03\x03\x40\0" + b"x" * 16_384),
}
"""How the server begins instead of a greeting, and goes on without end."""


TICKET = b"\x04\0\0\x0f\0\0\x1c\x20\0\0\0\0\x01a\0\x01t\0\0"
"""A new ticket for TLS 1.3, of one byte."""
REQUEST = b"\0\0\0\0"
"""For another handshake, in TLS 1.2."""
AFTER_HANDS_ARE_SHAKEN: Mapping[str, tuple[ssl.TLSVersion, bytes]] = {
    "a ticket in each record": (ssl.TLSVersion.TLSv1_3, TICKET),
    "records full of tickets": (ssl.TLSVersion.TLSv1_3, TICKET * 800),
    "a request for another handshake in each record": (ssl.TLSVersion.TLSv1_2, REQUEST),
    "records full of such requests": (ssl.TLSVersion.TLSv1_2, REQUEST * 4_000),
}
"""The version, and what each record holds that the server sends without end."""
ALLOWANCE_SECONDS = 0.5
"""Of CPU time for a check with its handshake, whatever the server sends."""


def instead_of_a_greeting(dialect: Dialect, then: Conversation) -> Conversation:
    """Grant TLS where it has to be asked for, hear the client's greeting, then go on."""
    granted = [b"S"] if dialect.engine is Engine.POSTGRESQL else []
    return answering(*granted, then=then)


def greeting_of(certificate: Certificate) -> bytes:
    """Record what a server says to the first message of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = build_context(TlsRules(verifies_chain=False)).wrap_bio(theirs, ours)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(ours.read())
    server = certificate.server_context().wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    return outgoing.read()


async def deaf(caller: Caller) -> None:
    """Never read a byte."""
    caller.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
    await asyncio.Event().wait()


def case_at(
    dialect: Dialect, stage: Stage, server: MisbehavingServer, *, is_quick: bool = False
) -> Case:
    secret = stage.secret()
    trust = {"tls": {"ca": stage.certificates.ca.decode()}}
    return Case(
        url=dialect.url(secret, server.host, server.port, tls=True),
        address=f"{server.host}:{server.port}",
        config={**(dialect.config if is_quick else dialect.patient), **trust},
        seconds=dialect.connect_seconds if is_quick else None,
        secrets=(secret,),
    )


@every_engine
async def test_a_handshake_a_byte_at_a_time_is_a_timeout(dialect: Dialect, stage: Stage) -> None:
    trickle = dripping(greeting_of(stage.certificates.good), DRIP_SECONDS)
    with MisbehavingServer(instead_of_a_greeting(dialect, trickle)) as server:
        case = case_at(dialect, stage, server, is_quick=True)
        judge(await carry(case, dialect.engine, Way.WIRE), case, expect(Reason.TIMEOUT, says="tls"))


@every_engine
async def test_a_server_that_never_reads_is_a_timeout(dialect: Dialect, stage: Stage) -> None:
    with MisbehavingServer(deaf, receive_buffer=1) as server:
        case = case_at(dialect, stage, server, is_quick=True)
        name = "x" * LONG
        url = dialect.url(name, server.host, server.port).replace("postgres:", f"{name}:")
        case = replace(case, url=url, secrets=(name,))
        judge(await carry(case, dialect.engine, Way.WIRE), case, expect(Reason.TIMEOUT))


@pytest.mark.parametrize("dialect", [REDIS, MONGODB], ids=lambda dialect: str(dialect.engine))
async def test_an_encrypted_reply_without_end_is_protocol(dialect: Dialect, stage: Stage) -> None:
    context = stage.certificates.good.server_context()
    with MisbehavingServer(babbling(*dialect.flood), tls=context) as server:
        case = case_at(dialect, stage, server)
        # Nobody signs in: what follows a sign-in would not do for an answer to it anyway.
        case = replace(case, url=re.sub("//.*@", "//", case.url))
        judge(await carry(case, dialect.engine, Way.WIRE), case, expect(Reason.PROTOCOL))


@pytest.mark.parametrize("name", FLOODS)
async def test_a_handshake_without_end_is_tls(name: str, stage: Stage) -> None:
    with MisbehavingServer(instead_of_a_greeting(REDIS, babbling(*FLOODS[name]))) as server:
        case = case_at(REDIS, stage, server)
        judge(await carry(case, Engine.REDIS, Way.WIRE), case, expect(Reason.TLS))


@every_engine
@pytest.mark.parametrize("name", AFTER_HANDS_ARE_SHAKEN)
async def test_records_without_data_and_without_end_are_tls_and_cost_little(
    name: str, dialect: Dialect, stage: Stage
) -> None:
    version, messages = AFTER_HANDS_ARE_SHAKEN[name]

    async def flood(caller: Caller) -> None:
        if dialect.engine is Engine.POSTGRESQL:
            await caller.hear()
            await caller.say(b"S")
        async with after_a_handshake(caller, stage.certificates.good, version) as write:
            while True:
                await caller.say(b"".join(write(messages) for _ in range(50)))

    with MisbehavingServer(flood) as server:
        case = case_at(dialect, stage, server)
        began = time.thread_time()
        judge(await carry(case, dialect.engine, Way.WIRE), case, expect(Reason.TLS))
        assert time.thread_time() - began < ALLOWANCE_SECONDS


async def test_a_chain_of_certificates_that_is_too_long_is_tls(stage: Stage) -> None:
    good = stage.certificates.good
    chain = good.certificate * COPIES
    assert len(ssl.PEM_cert_to_DER_cert(good.certificate.decode())) * COPIES > MAX_REPLY
    context = replace(good, certificate=chain).server_context()
    with MisbehavingServer(mute, tls=context) as server:
        case = case_at(REDIS, stage, server)
        judge(await carry(case, Engine.REDIS, Way.WIRE), case, expect(Reason.TLS))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("group", [None, "secp521r1"])
@pytest.mark.parametrize(
    ("asks", "expected"),
    [
        (ssl.CERT_NONE, expect(Reason.CLOSED)),
        (ssl.CERT_OPTIONAL, expect(Reason.TLS, says="demands a certificate of us")),
    ],
)
async def test_who_hangs_up_after_the_handshake_demands_a_certificate_only_if_he_asked_for_one(
    asks: ssl.VerifyMode,
    expected: Expected,
    group: str | None,
    version: ssl.TLSVersion,
    stage: Stage,
) -> None:
    """So do a proxy without its server, and a mongod that says why in its log alone."""
    context = stage.certificates.good.server_context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = asks
    if group is not None:  # none that is offered first: it is greeted twice in TLS 1.3
        context.set_ecdh_curve(group)
    with MisbehavingServer(hang_up, tls=context) as server:
        case = case_at(MONGODB, stage, server)
        judge(await carry(case, Engine.MONGODB, Way.WIRE), case, expected)


def test_no_server_makes_us_shake_hands_again() -> None:
    assert build_context(TlsRules()).options & ssl.OP_NO_RENEGOTIATION


def test_no_server_chooses_the_size_of_our_sums() -> None:
    ciphers = build_context(TlsRules()).get_ciphers()
    assert {"kx-ecdhe"} < {cipher["kea"] for cipher in ciphers} <= {"kx-ecdhe", "kx-any"}
