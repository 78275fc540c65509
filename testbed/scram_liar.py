"""A PostgreSQL that lies while signing somebody in by SCRAM-SHA-256 (RFC 5802, protocol 3.0)."""

from __future__ import annotations

import re
from base64 import b64encode
from struct import pack

from testbed.misbehaving import Caller, Conversation, mute

_SASL, _CONTINUE, _FINAL, _SIGNED_IN = 10, 11, 12, 0
_NONCE = re.compile(rb"r=([!-+\--~]+)")


def demand(kind: int, words: bytes = b"") -> bytes:
    """Write an authentication message of the server's."""
    return b"R" + pack("!II", 8 + len(words), kind) + words


def lying(iterations: int) -> Conversation:
    """Ask for so many iterations, then prove nothing and welcome whoever believes it."""

    async def converse(caller: Caller) -> None:
        await caller.hear()
        await caller.say(demand(_SASL, b"SCRAM-SHA-256\0\0"))
        nonce = _NONCE.search(await caller.hear())
        if nonce is None:
            return
        salt = b64encode(b"salt of a liar")
        challenge = b"r=%bliar,s=%b,i=%d" % (nonce[1], salt, iterations)
        await caller.say(demand(_CONTINUE, challenge))
        if await caller.hear():
            signature = demand(_FINAL, b"v=" + b64encode(b"a signature of 32 bytes or so..."))
            await caller.say(signature + demand(_SIGNED_IN) + b"Z\0\0\0\5I")
            await mute(caller)

    return converse
