"""What a mongod says, put into the mouth of a `MisbehavingServer`."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import bson

from testbed.misbehaving import CHUNK, Caller, Conversation

Document = Mapping[str, Any]
Answer = Callable[[Document], "Document | bytes | None"]
"""What to answer a command: a document, bytes as they are, or nothing and hang up."""

MORE_TO_COME = 2
SALT = base64.b64encode(b"sixteen bytes .." * 2).decode()

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013


class Request(NamedTuple):
    """One command as it came."""

    number: int
    is_legacy: bool
    """Whether it came as OP_QUERY, as a library's first `isMaster` does."""
    command: Document


def hello(**more: Any) -> Document:
    """Describe a server that stands alone and takes writes, unless told otherwise."""
    return {
        "helloOk": True,
        "isWritablePrimary": True,
        "ismaster": True,
        "maxBsonObjectSize": 16_777_216,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0,
        "maxWireVersion": 17,
        "readOnly": False,
        "ok": 1.0,
        **more,
    }


def member(name: str, me: str, hosts: Sequence[str], **more: Any) -> Document:
    """Describe a member of a replica set that is secondary unless told otherwise."""
    role = {"isWritablePrimary": False, "ismaster": False, "secondary": True}
    about = {"setName": name, "setVersion": 1, "me": me, "hosts": list(hosts)}
    return hello(**{**role, **about, **more})


def greeting(about: Document) -> Answer:
    """Answer `hello` so and every other command with success."""

    def answer(command: Document) -> Document:
        return about if is_hello(command) else {"ok": 1.0}

    return answer


def is_hello(command: Document) -> bool:
    """Whether a command asks who is there."""
    return next(iter(command)).lower() in {"hello", "ismaster"}


def speaking(answer: Answer) -> Conversation:
    """Talk as mongod does, with these answers."""

    async def converse(caller: Caller) -> None:
        async for request in _requests(caller):
            words = answer(request.command)
            if words is None:
                return
            await caller.say(words if isinstance(words, bytes) else reply(request, words))

    return converse


def signing_in(first: str, final: Callable[[Document], Document]) -> Answer:
    """Offer SCRAM: answer its start with `first`, `{nonce}` filled in, and what follows by `final`.

    Without speculation, so that all ways of asking meet the same.
    """

    def answer(command: Document) -> Document:
        if is_hello(command):
            return hello(saslSupportedMechs=["SCRAM-SHA-256"])
        if "saslStart" in command:
            match = re.search(rb",r=([^,]+)", command["payload"])
            nonce = match[1].decode() if match else ""
            words = first.replace("{nonce}", nonce).encode()
            return {"conversationId": 1, "done": False, "payload": words, "ok": 1.0}
        if "saslContinue" in command:
            return final(command)
        return {"ok": 1.0}

    return answer


def refusing(code: int, name: str, text: str) -> Document:
    """Write an error."""
    return {"ok": 0.0, "code": code, "codeName": name, "errmsg": text}


def reply(request: Request, document: Document, flags: int = 0) -> bytes:
    """Write a document as the answer to a request, in the form that it came in."""
    body = bson.encode(document)
    if request.is_legacy:
        rest, code = struct.pack("<iqii", 8, 0, 0, 1) + body, _OP_REPLY
    else:
        rest, code = struct.pack("<IB", flags, 0) + body, _OP_MSG
    return _HEADER.pack(_HEADER.size + len(rest), 1, request.number, code) + rest


def announcing(size: int) -> Conversation:
    """Answer whatever comes with a header that declares so many bytes, then send without end."""

    async def converse(caller: Caller) -> None:
        async for request in _requests(caller):
            code = _OP_REPLY if request.is_legacy else _OP_MSG
            await caller.say(_HEADER.pack(size, 1, request.number, code) + bytes(5))
            while True:
                await caller.say(bytes(CHUNK))

    return converse


def repeating(document: Document) -> Conversation:
    """Answer the first command over and over, each time announcing one more answer."""

    async def converse(caller: Caller) -> None:
        async for request in _requests(caller):
            words = reply(request, document, MORE_TO_COME)
            while True:
                await caller.say(words * 100)

    return converse


async def _requests(caller: Caller) -> AsyncIterator[Request]:
    with suppress(asyncio.IncompleteReadError):
        while True:
            head = await caller.reader.readexactly(_HEADER.size)
            length, number, _, code = _HEADER.unpack(head)
            body = await caller.reader.readexactly(length - _HEADER.size)
            if code == _OP_QUERY:
                start = body.index(b"\0", 4) + 1 + 8
                yield Request(number, True, bson.decode(body[start:]))
            elif struct.unpack_from("<I", body)[0] != MORE_TO_COME:
                yield Request(number, False, bson.decode(body[5:]))
