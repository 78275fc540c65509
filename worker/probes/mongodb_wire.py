"""MongoDB's words: OP_MSG with BSON, hello, ping, and the table of error codes.

Facts: the MongoDB specifications "OP_MSG" and "MongoDB Handshake"; codes from
the server's `src/mongo/base/error_codes.yml`.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from worker import __version__
from worker.errors import ProbeError, Reading
from worker.quoting import quoted
from worker.words import Reason

Document = Mapping[str, Any]

MAX_QUOTED = 120
"""Characters of a stranger's words that are worth passing on."""
MAX_NAME = 40
"""Characters of an error's name."""

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_SMALLEST = _HEADER.size + 4 + 1 + 5
"""Header, flags, kind of section, an empty document."""
_CHECKSUM_PRESENT, _MORE_TO_COME = 1, 2
REQUEST_ID = int.from_bytes(b"\r\n\r\n", "little")
"""Line ends, for a server that waits for a line (HTTP) answers and is known by that."""
_LONGEST_LINE = 65_536
"""Bytes that Redis reads in vain for the end of a line before it says so: a NUL hides ours."""

# A stranger's dates may lie outside of Python's; nobody reads them.
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS
)
_CLIENT = {
    "application": {"name": "database-health-worker"},
    "driver": {"name": "database-health-worker", "version": __version__},
    "os": {"type": "unknown"},
}
_READ_ANYWHERE = {"mode": "primaryPreferred"}

_ERRORS_BY_CODE: Mapping[int, Reading] = {
    11: (Reason.AUTH, "unknown user (UserNotFound, 11)"),
    13: (Reason.AUTH, "the user may not do this (Unauthorized, 13)"),
    18: (Reason.AUTH, "wrong user name, password or authSource (AuthenticationFailed, 18)"),
    91: (Reason.NOT_READY, "the server is shutting down (ShutdownInProgress, 91)"),
    94: (Reason.NOT_READY, "the replica set is not initiated (NotYetInitialized, 94)"),
    189: (Reason.NOT_READY, "the primary has stepped down (PrimarySteppedDown, 189)"),
    334: (Reason.AUTH, "the server does not offer the mechanism (MechanismUnavailable, 334)"),
    391: (Reason.AUTH, "the server wants to be signed in to anew (ReauthenticationRequired, 391)"),
    8000: (Reason.AUTH, "Atlas refuses the credentials (AtlasError, 8000)"),
    10107: (Reason.NOT_READY, "the server is not the primary (NotWritablePrimary, 10107)"),
    11600: (Reason.NOT_READY, "the server is shutting down (InterruptedAtShutdown, 11600)"),
    11602: (
        Reason.NOT_READY,
        "the server changes its role (InterruptedDueToReplStateChange, 11602)",
    ),
    13435: (Reason.NOT_READY, "the server is not the primary (NotPrimaryNoSecondaryOk, 13435)"),
    13436: (
        Reason.NOT_READY,
        "the server is neither primary nor secondary (NotPrimaryOrSecondary, 13436)",
    ),
}
AUTHENTICATION_FAILED = 18
_COMMAND_NOT_FOUND = 59


class Pipe(Protocol):
    """What the conversation needs of a connection."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    async def read_exactly(self, count: int) -> bytes:
        """Read so many bytes."""
        ...


class CommandError(ProbeError):
    """A server's refusal of one command."""

    def __init__(self, code: int | None, reading: Reading) -> None:
        super().__init__(*reading)
        self.code = code

    @property
    def is_known(self) -> bool:
        """Whether the code stands in the table; another one may mean that a command is missing."""
        return self.code in _ERRORS_BY_CODE


def read_error(code: object, name: object, message: object) -> CommandError:
    """Read an error reply by its code; one that is not in the table means `not_ready`."""
    number = code if isinstance(code, int) else None
    if number is not None and (known := _ERRORS_BY_CODE.get(number)):
        return CommandError(number, known)
    what = name if isinstance(name, str) else "error"
    words = message if isinstance(message, str) else "no message"
    told = "" if number is None else f" ({quoted(str(number), MAX_NAME)})"
    text = f"the server answers {quoted(what, MAX_NAME)}{told}: {quoted(words, MAX_QUOTED)}"
    return CommandError(number, (Reason.NOT_READY, text))


def encode(command: Document, flags: int = 0) -> bytes:
    """Write one command as a message."""
    body = bson.encode(command)
    head = _HEADER.pack(_SMALLEST - 5 + len(body), REQUEST_ID, 0, _OP_MSG)
    return head + struct.pack("<IB", flags, 0) + body


_NUDGE = encode({"ping": 1, "comment": "." * _LONGEST_LINE, "$db": "admin"}, _MORE_TO_COME)
"""A command that MongoDB does not answer, and that no Redis takes in silence."""


class Conversation:
    """One connection's commands, each answered before the next."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def run(self, command: Document) -> dict[str, Any]:
        """Send one command and take its answer.

        Raises:
            CommandError: the server refuses it.
            ProbeError: `protocol` for what is no answer, `closed` where it hangs up.
        """
        self._pipe.write(encode(command))
        header = await self._pipe.read_exactly(_HEADER.size)
        length, _, answered, code = _HEADER.unpack(header)
        if code != _OP_MSG or answered != REQUEST_ID or length < _SMALLEST:
            raise ProbeError(Reason.PROTOCOL, _stranger(header))
        reply = _decode(await self._pipe.read_exactly(length - _HEADER.size))
        if "ok" not in reply:
            raise ProbeError(Reason.PROTOCOL, "the server's message does not say whether it is ok")
        if reply["ok"] != 1:
            raise read_error(reply.get("code"), reply.get("codeName"), reply.get("errmsg"))
        return reply

    async def hello(self, more: Document, patience: float) -> dict[str, Any]:
        """Ask who is there; after so many seconds of silence say what Redis has to answer."""
        nudge = asyncio.get_running_loop().call_later(patience, self._pipe.write, _NUDGE)
        try:
            return await self._hello(more)
        finally:
            nudge.cancel()

    async def _hello(self, more: Document) -> dict[str, Any]:
        """Ask in the older words where the newer ones are unknown."""
        rest = {"client": _CLIENT, **more, "$db": "admin"}
        try:
            return await self.run({"hello": 1, **rest})
        except CommandError as error:
            if error.code != _COMMAND_NOT_FOUND:
                raise
        # Before 4.4 only the latest patch releases knew hello.
        return await self.run({"isMaster": 1, **rest})

    async def ping(self) -> None:
        """Ask for a sign of life from whatever role the server has."""
        await self.run({"ping": 1, "$db": "admin", "$readPreference": _READ_ANYWHERE})

    async def act_as_user(self) -> None:
        """Do what any signed-in user may do and a stranger may not; `ping` tells nothing of that.

        The filter keeps the answer small.
        """
        await self.run(
            {
                "listDatabases": 1,
                "nameOnly": True,
                "authorizedDatabases": True,
                "filter": {"name": "admin"},
                "$db": "admin",
                "$readPreference": _READ_ANYWHERE,
            }
        )


def _decode(data: bytes) -> dict[str, Any]:
    flags, kind = struct.unpack_from("<IB", data)
    if kind or flags & ~(_CHECKSUM_PRESENT | 0xFFFF0000) or flags & _MORE_TO_COME:
        raise ProbeError(Reason.PROTOCOL, "the server's message is not of the kind asked for")
    try:
        return bson.decode(data[5 : -4 if flags & _CHECKSUM_PRESENT else None], _CODEC)
    # RecursionError: documents within documents, thousands deep, fit into a bounded reply.
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError):
        raise ProbeError(Reason.PROTOCOL, "the server's message is not BSON") from None


def _stranger(start: bytes) -> str:
    for first, name in ((b"HTTP/", "an HTTP server"), (b"SSH-", "an SSH server"), (b"-", "Redis")):
        if start.startswith(first):
            return f"{name} answers there, no MongoDB"
    return "the answer is not MongoDB's"
