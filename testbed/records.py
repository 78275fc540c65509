"""A server of TLS that goes on with records of its own making once hands are shaken."""

from __future__ import annotations

import hashlib
import hmac
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from testbed.certificates import Certificate
from testbed.misbehaving import Caller

Writer = Callable[[bytes], bytes]
"""Makes a record of messages of the handshake's kind."""
HANDSHAKE = 22
TAG_BYTES = 16


@asynccontextmanager
async def after_a_handshake(
    caller: Caller, certificate: Certificate, version: ssl.TLSVersion
) -> AsyncIterator[Writer]:
    """Shake hands in this version with AES-GCM, and lend the way to write what comes next."""
    context = certificate.server_context()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    with tempfile.NamedTemporaryFile() as log:
        context.keylog_filename = log.name
        said = await _shake_hands(caller, context)
        secrets = _read(Path(log.name))
    if version is ssl.TLSVersion.TLSv1_3:
        yield _writer_of_13(secrets["SERVER_TRAFFIC_SECRET_0"][1])
    else:
        client_random, master = secrets["CLIENT_RANDOM"]
        yield _writer_of_12(master, said[11:43] + client_random)


async def _shake_hands(caller: Caller, context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    said = b""
    while True:
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            is_done = False
        else:
            is_done = True
        words = outgoing.read()
        said += words
        await caller.say(words)
        if is_done:
            return said
        incoming.write(await caller.hear())


def _read(log: Path) -> dict[str, tuple[bytes, bytes]]:
    """Read NSS's format of key logs: of each label the client's random bytes and the secret."""
    lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
    return {label: (bytes.fromhex(key), bytes.fromhex(value)) for label, key, value in lines}


def _writer_of_13(secret: bytes) -> Writer:
    """RFC 8446, 5.2 and 7.3."""
    is_long = len(secret) == hashlib.sha384().digest_size
    digest, key_bytes = ("sha384", 32) if is_long else ("sha256", 16)
    cipher = AESGCM(_expand_label(digest, secret, b"key", key_bytes))
    start = int.from_bytes(_expand_label(digest, secret, b"iv", 12))
    numbers = count()

    def write(messages: bytes) -> bytes:
        inner = messages + bytes([HANDSHAKE])
        header = b"\x17\x03\x03" + (len(inner) + TAG_BYTES).to_bytes(2)
        return header + cipher.encrypt((start ^ next(numbers)).to_bytes(12), inner, header)

    return write


def _expand_label(digest: str, secret: bytes, label: bytes, size: int) -> bytes:
    label = b"tls13 " + label
    info = size.to_bytes(2) + bytes([len(label)]) + label + b"\0\x01"
    return hmac.digest(secret, info, digest)[:size]


def _writer_of_12(master: bytes, randoms: bytes) -> Writer:
    """RFC 5246, 6.3, and RFC 5288."""
    keys = _expand(master, b"key expansion" + randoms, 40)
    cipher, salt = AESGCM(keys[16:32]), keys[36:40]
    numbers = count(1)  # the server's Finished was its first

    def write(messages: bytes) -> bytes:
        number = next(numbers).to_bytes(8)
        header = bytes([HANDSHAKE]) + b"\x03\x03"
        about = number + header + len(messages).to_bytes(2)
        sealed = number + cipher.encrypt(salt + number, messages, about)
        return header + len(sealed).to_bytes(2) + sealed

    return write


def _expand(secret: bytes, seed: bytes, size: int) -> bytes:
    found, link = b"", seed
    while len(found) < size:
        link = hmac.digest(secret, link, hashlib.sha256)
        found += hmac.digest(secret, link + seed, hashlib.sha256)
    return found[:size]
