"""Servers that speak enough of each protocol to be told everything, and remember every byte."""

from __future__ import annotations

import re
import ssl
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager
from tempfile import NamedTemporaryFile
from typing import Any

import bson

from testbed.certificates import Certificates
from testbed.misbehaving import Caller, MisbehavingServer

_REDIS_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n")
_OP_QUERY, _OP_MSG, _OP_REPLY = 2004, 2013, 1
_REFUSED = {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "no"}
_HELLO = {
    "ok": 1.0,
    "ismaster": True,
    "isWritablePrimary": True,
    "helloOk": True,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "saslSupportedMechs": ["SCRAM-SHA-256", "SCRAM-SHA-1"],
    "databases": [],
}
_SSL_REQUEST, _GSS_REQUEST = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)
_SIGNED_IN = (
    b"R\0\0\0\x08\0\0\0\0"
    b"S\0\0\0\x18server_version\x0016.0\0"
    b"S\0\0\0\x19client_encoding\0UTF8\0"
    b"K\0\0\0\x0c\0\0\0\1\0\0\0\1"
    b"Z\0\0\0\x05I"
)
_ONE = (
    b"T\0\0\0\x21\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0"
    b"D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"
)
DEMANDS: Mapping[str, bytes] = {
    "trust": b"",
    "clear": b"R\0\0\0\x08\0\0\0\x03",
    "md5": b"R\0\0\0\x0c\0\0\0\x05salt",
    "gss": b"R\0\0\0\x08\0\0\0\x07",
    "scram": b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
}
"""How PostgreSQL may ask for a proof."""
MD5_SALT = b"salt"


class Recorder:
    """What one server was told, and whether anybody showed it a certificate."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        """Speak TLS where certificates are given, and ask the client for its own."""
        self.heard = bytearray()
        self.shown: list[bytes] = []
        self._tls = _context(certificates) if certificates else None

    def redis(self) -> AbstractContextManager[MisbehavingServer]:
        """Serve as a Redis that is content with everything."""
        return MisbehavingServer(self._redis, tls=self._tls)

    def mongodb(self) -> AbstractContextManager[MisbehavingServer]:
        """Serve as a MongoDB that does not know the user, and lets anybody else do everything."""
        return MisbehavingServer(self._mongodb, tls=self._tls)

    def postgresql(self, demand: str) -> AbstractContextManager[MisbehavingServer]:
        """Serve as a PostgreSQL with this demand, one of DEMANDS."""

        async def converse(caller: Caller) -> None:
            await self._postgresql(caller, DEMANDS[demand])

        return MisbehavingServer(converse)

    async def _hear(self, caller: Caller) -> bytes:
        words = await caller.hear()
        self.heard += words
        self._look(caller)
        return words

    def _look(self, caller: Caller) -> None:
        secured = caller.writer.get_extra_info("ssl_object")
        if secured is not None and (shown := secured.getpeercert(True)):
            self.shown.append(shown)

    async def _redis(self, caller: Caller) -> None:
        while words := await self._hear(caller):
            for command in _REDIS_COMMAND.findall(words):
                await caller.say(b"+PONG\r\n" if command == b"PING" else b"+OK\r\n")

    async def _mongodb(self, caller: Caller) -> None:
        while words := await self._hear(caller):
            _, request, _, code = struct.unpack_from("<iiii", words)
            reply: dict[str, Any] = _HELLO
            if b"saslStart\0" in words and b"speculativeAuthenticate\0" not in words:
                reply = _REFUSED
            body = bson.encode(reply)
            if code == _OP_QUERY:
                head, kind = struct.pack("<iqii", 8, 0, 0, 1), _OP_REPLY
            else:
                head, kind = b"\0\0\0\0\0", _OP_MSG
            size = 16 + len(head) + len(body)
            await caller.say(struct.pack("<iiii", size, 1, request, kind) + head + body)

    async def _postgresql(self, caller: Caller, demand: bytes) -> None:
        words = await self._hear(caller)
        while words in {_SSL_REQUEST, _GSS_REQUEST}:
            is_secured = words == _SSL_REQUEST and self._tls is not None
            await caller.say(b"S" if is_secured else b"N")
            if is_secured and self._tls is not None:
                await caller.writer.start_tls(self._tls)
            words = await self._hear(caller)
        if demand and words:
            await caller.say(demand)
            words = await self._hear(caller)
        if words:
            await caller.say(_SIGNED_IN)
        while words := await self._hear(caller):
            if words.startswith(b"Q"):
                await caller.say(_ONE)


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificates.good.bundle)
        file.flush()
        context.load_cert_chain(file.name)
    context.load_verify_locations(cadata=certificates.ca.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
