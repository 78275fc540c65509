"""SCRAM proves both sides, within bounds, and keeps what it derived to itself."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Iterator

import pytest

from worker.errors import ProbeError
from worker.saslprep import prepare
from worker.scram import MAX_ITERATIONS, Keys, SaltedPasswords, ScramClient
from worker.words import Reason

SHA_256 = "SCRAM-SHA-256"
SERVER_NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r={SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.fixture
def store() -> Iterator[SaltedPasswords]:
    salted = SaltedPasswords()
    yield salted
    salted.close()


def rfc_7677(store: SaltedPasswords) -> ScramClient:
    client = ScramClient(SHA_256, "user", "pencil", store)
    client._nonce = b"rOprNGfwEbeRWgbNEkqO"
    return client


async def test_the_example_of_rfc_7677_comes_out(store: SaltedPasswords) -> None:
    client = rfc_7677(store)
    assert client.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert await client.final(SERVER_FIRST) == (
        f"c=biws,r={SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    )
    client.verify(SERVER_FINAL)


async def test_the_example_of_rfc_5802_comes_out(store: SaltedPasswords) -> None:
    client = ScramClient("SCRAM-SHA-1", "user", "pencil", store)
    client._nonce = b"fyko+d2lbbFgONRv9qkxdawL"
    assert client.first() == b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
    nonce = b"fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j"
    final = await client.final(b"r=" + nonce + b",s=QSXCR+Q6sek8bf92,i=4096")
    assert final == b"c=biws,r=" + nonce + b",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    client.verify(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")


def test_commas_and_equals_signs_of_a_user_name_are_escaped(store: SaltedPasswords) -> None:
    assert ScramClient(SHA_256, "a=b,c", "x", store).first().startswith(b"n,,n=a=3Db=2Cc,r=")


def test_two_conversations_never_share_a_nonce(store: SaltedPasswords) -> None:
    clients = [ScramClient(SHA_256, "user", "pencil", store) for _ in range(50)]
    assert len({client.first() for client in clients}) == 50


@pytest.mark.parametrize(
    "iterations", [0, 1, 4_095, MAX_ITERATIONS + 1, 20_000_000, 2**31 - 1, 9_999_999_999]
)
async def test_iterations_out_of_bounds_are_refused_before_any_derivation(
    store: SaltedPasswords, iterations: int
) -> None:
    first = f"r={SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i={iterations}".encode()
    with pytest.raises(ProbeError) as caught:
        await rfc_7677(store).final(first)
    assert caught.value.reason is Reason.PROTOCOL
    assert str(iterations) in caught.value.text
    assert store.stored == 0


async def test_the_caller_may_accept_fewer_iterations(store: SaltedPasswords) -> None:
    client = ScramClient(SHA_256, "", "pencil", store, min_iterations=1)
    nonce = client.first().rpartition(b"=")[2]
    assert await client.final(b"r=" + nonce + b"x,s=c2FsdA==,i=1")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"r=,s=c2FsdA==,i=4096",
        b"r=somebody-else,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=====,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=-5",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=" + b"9" * 5_000,
        b"m=extension,r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=" + b64encode(b"x" * 2_000) + b",i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO" + b"x" * 2_000 + b",s=c2FsdA==,i=4096",
    ],
)
async def test_a_challenge_that_is_none_is_a_protocol_error(
    store: SaltedPasswords, message: bytes
) -> None:
    with pytest.raises(ProbeError) as caught:
        await rfc_7677(store).final(message)
    assert caught.value.reason is Reason.PROTOCOL
    assert store.stored == 0


@pytest.mark.parametrize(
    "message",
    [b"", b"v=", b"v=AAAA", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", b"x=y", b"\xff"],
)
async def test_a_server_that_cannot_prove_itself_is_a_protocol_error(
    store: SaltedPasswords, message: bytes
) -> None:
    client = rfc_7677(store)
    await client.final(SERVER_FIRST)
    with pytest.raises(ProbeError) as caught:
        client.verify(message)
    assert caught.value.reason is Reason.PROTOCOL
    assert "cannot prove that it knows the user" in caught.value.text


def test_a_proof_before_our_own_is_not_accepted(store: SaltedPasswords) -> None:
    with pytest.raises(ProbeError, match="cannot prove"):
        rfc_7677(store).verify(SERVER_FINAL)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"e=invalid-proof", "the server refuses the credentials: invalid-proof"),
        (b"e=pencil is\x00wrong", "the server refuses the credentials"),
    ],
)
async def test_a_servers_refusal_is_an_auth_error_without_its_own_words(
    store: SaltedPasswords, message: bytes, text: str
) -> None:
    client = rfc_7677(store)
    with pytest.raises(ProbeError) as caught:
        client.verify(message)
    assert (caught.value.reason, caught.value.text) == (Reason.AUTH, text)
    with pytest.raises(ProbeError) as caught:
        await client.final(message)
    assert caught.value.reason is Reason.AUTH


async def test_a_password_is_derived_once_a_salt(
    store: SaltedPasswords, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.keys("sha256", b"pencil", b"salt", 4_096)
    monkeypatch.setattr("worker.scram._derive", None)
    await store.keys("sha256", b"pencil", b"salt", 4_096)
    assert store.stored == 1


async def test_every_part_of_the_key_counts(store: SaltedPasswords) -> None:
    derived = {
        await store.keys(algorithm, password, salt, iterations)
        for algorithm in ("sha1", "sha256")
        for password, salt in [(b"pencil", b"salt"), (b"tpencil", b"sal"), (b"pen", b"salt")]
        for iterations in (1, 2)
    }
    assert len(derived) == store.stored == 12


async def test_the_store_forgets_the_least_recently_used() -> None:
    store = SaltedPasswords(size=2)
    first = await store.keys("sha1", b"a", b"salt", 1)
    await store.keys("sha1", b"b", b"salt", 1)
    await store.keys("sha1", b"a", b"salt", 1)
    await store.keys("sha1", b"c", b"salt", 1)
    assert store.stored == 2
    assert first in store._keys.values()
    store.close()
    assert store.stored == 0


async def test_the_loop_goes_on_while_a_password_is_derived(store: SaltedPasswords) -> None:
    task = asyncio.create_task(store.keys("sha256", b"pencil", b"salt", MAX_ITERATIONS))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert any(thread.name.startswith("scram-dear") for thread in threading.enumerate())


@pytest.mark.parametrize("servers", [1, 20])
async def test_dear_derivations_do_not_delay_cheap_ones(
    store: SaltedPasswords, servers: int
) -> None:
    dear = [
        asyncio.create_task(store.keys("sha256", b"pencil", bytes([i]), MAX_ITERATIONS))
        for i in range(20)
    ]
    await asyncio.sleep(0)
    for number in range(servers):
        await store.keys("sha256", b"shared", b"salt %d" % number, 4_096)
    assert not dear[-1].done()
    for task in dear:
        task.cancel()
    await asyncio.gather(*dear, return_exceptions=True)
    assert store.stored < servers + 4


async def test_who_makes_up_a_salt_each_time_delays_nobody_else(store: SaltedPasswords) -> None:
    async def sign_in(password: bytes, number: int, iterations: int = 15_000) -> None:
        await store.keys("sha256", password, b"salt %d" % number, iterations)

    hostile = [b"hostile %d" % number for number in range(20)]
    for number in range(8):  # as many as servers may share a password
        await asyncio.gather(*(sign_in(each, number, 1) for each in hostile))
    fresh = [asyncio.create_task(sign_in(each, 8)) for each in hostile * 5]
    await asyncio.sleep(0)
    await sign_in(b"good", 0)
    assert sum(task.done() for task in fresh) < len(hostile)
    for task in fresh:
        task.cancel()
    await asyncio.gather(*fresh, return_exceptions=True)


def test_derived_keys_show_nothing() -> None:
    assert f"{Keys(b'client', b'server')!r} {Keys(b'client', b'server')}" == "Keys() Keys()"


def test_neither_client_nor_store_shows_a_secret(store: SaltedPasswords) -> None:
    client = ScramClient(SHA_256, "user", "pencil", store)
    assert "pencil" not in f"{client!r}{client}{store!r}{store}"


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("pencil", b"pencil"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("\u0007", b"\x07"),
        ("\u06271", "\u06271".encode()),
        ("\u0627\u0628", "\u0627\u0628".encode()),
        ("\u00e9\u0007", "\u00e9\u0007".encode()),
        ("\u00ad", "\u00ad".encode()),
        ("\U0001f511", "\U0001f511".encode()),
        ("pässwörd", "pässwörd".encode()),
    ],
)
def test_passwords_are_prepared_as_libpq_does(password: str, prepared: bytes) -> None:
    assert prepare(password) == prepared
