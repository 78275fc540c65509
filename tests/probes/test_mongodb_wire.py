"""Messages as MongoDB writes them, and as strangers do: an answer or a ProbeError, nothing else."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.mongodb_fake import MORE_TO_COME, Request, reply
from worker.errors import ProbeError
from worker.network import MAX_REPLY
from worker.probes.mongodb_wire import REQUEST_ID, CommandError, Conversation, encode, read_error
from worker.words import Reason

OURS = Request(REQUEST_ID, is_legacy=False, command={})
OP_MSG = 2013
PATIENT = 60.0


class Said:
    """A pipe whose other side has said all that it ever will."""

    def __init__(self, words: bytes) -> None:
        self.left = words
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    async def read_exactly(self, count: int) -> bytes:
        if count > MAX_REPLY:
            raise ProbeError(Reason.PROTOCOL, f"the server announced more than {MAX_REPLY} bytes")
        if len(self.left) < count:
            raise ProbeError(Reason.CLOSED, "the server closed the connection")
        taken, self.left = self.left[:count], self.left[count:]
        return taken


async def answer(*words: bytes) -> Mapping[str, Any]:
    return await Conversation(Said(b"".join(words))).run({"ping": 1, "$db": "admin"})


async def fault(*words: bytes) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await answer(*words)
    return caught.value


def header(length: int, *, answered: int = REQUEST_ID, code: int = OP_MSG) -> bytes:
    return struct.pack("<iiii", length, 1, answered, code)


def message(body: bytes, flags: int = 0, kind: int = 0) -> bytes:
    return header(21 + len(body)) + struct.pack("<IB", flags, kind) + body


OK = bson.encode({"ok": 1.0})
BODY = bytes(5) + OK
SIZE = 16 + len(BODY)


async def test_an_answer_is_its_document() -> None:
    assert await answer(reply(OURS, {"ok": 1.0, "n": 7})) == {"ok": 1.0, "n": 7}


async def test_a_checksum_is_no_part_of_the_document() -> None:
    assert await answer(message(OK + bytes(4), flags=1)) == {"ok": 1.0}


async def test_optional_flags_are_no_fault() -> None:
    assert await answer(message(OK, flags=1 << 16)) == {"ok": 1.0}


@pytest.mark.parametrize(
    "words",
    [
        header(0),
        header(-1),
        header(25),
        header(2**31 - 1),
        header(MAX_REPLY + 17),
        header(SIZE, answered=REQUEST_ID + 1) + BODY,
        header(SIZE, code=1) + BODY,
        header(SIZE, code=2012) + BODY,
        message(OK, kind=1),
        message(OK, flags=MORE_TO_COME),
        message(OK, flags=4),
        message(OK[:-1] + b"\1"),
        message(b"\xff\xff\xff\x7f" + OK[4:]),
        message(OK + b"\0"),
        message(OK, flags=1),
    ],
)
async def test_what_is_no_answer_of_mongodbs_is_protocol(words: bytes) -> None:
    assert (await fault(words, bytes(64))).reason is Reason.PROTOCOL


@pytest.mark.parametrize(
    ("words", "who"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"-ERR Protocol error: too big inline request\r\n", "Redis"),
    ],
)
async def test_a_stranger_is_known_by_its_first_words(words: bytes, who: str) -> None:
    told = await fault(words)
    assert told.reason is Reason.PROTOCOL
    assert who in told.text


async def test_an_answer_cut_short_is_closed() -> None:
    assert (await fault(reply(OURS, {"ok": 1.0})[:-1])).reason is Reason.CLOSED


@pytest.mark.parametrize("document", [{}, {"errmsg": "no such command"}, {"within": {"ok": 1}}])
async def test_an_answer_that_does_not_say_whether_it_is_ok_is_protocol(
    document: Mapping[str, Any],
) -> None:
    assert (await fault(reply(OURS, document))).reason is Reason.PROTOCOL


async def test_documents_within_documents_without_end_are_protocol() -> None:
    nested = OK
    while len(nested) < MAX_REPLY - 100:
        nested = struct.pack("<i", len(nested) + 8) + b"\3x\0" + nested + b"\0"
    assert (await fault(message(nested))).reason is Reason.PROTOCOL


@pytest.mark.parametrize(
    "document",
    [
        {"ok": 1, "at": bson.DatetimeMS(2**62)},
        {"ok": 1, "re": bson.Regex("(((", "zz")},
        {"ok": 1, "code": bson.Code("x", {})},
        {"ok": True},
    ],
)
async def test_a_value_that_nobody_reads_does_no_harm(document: Mapping[str, Any]) -> None:
    assert (await answer(reply(OURS, document)))["ok"]


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_fault(words: bytes) -> None:
    _ask(words)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_any_body_is_an_answer_or_a_fault(body: bytes, flags: int, kind: int) -> None:
    _ask(message(body, flags, kind))


@given(st.binary(max_size=200))
def test_any_elements_are_an_answer_or_a_fault(elements: bytes) -> None:
    _ask(message(struct.pack("<i", len(elements) + 5) + elements + b"\0"))


TEXTS = ("", "message", "\n\r\t\x1b[0m", "\u2028\u202e\ufeff", "\U0010ffff", "x" * 500)
KEYS = st.sampled_from(["ok", "code", "codeName", "errmsg", "x", "$ref", "$id"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats()
    | st.sampled_from(TEXTS) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.integers(0, 400), st.integers(0, 255))
def test_any_document_with_a_byte_wrong_is_an_answer_or_a_fault(
    document: dict[str, Any], place: int, byte: int
) -> None:
    body = bytearray(bson.encode(document))
    body[place % len(body)] = byte
    _ask(message(bytes(body)))


def _ask(words: bytes) -> None:
    """Run without a loop: a pipe that has said all never waits."""
    run = Conversation(Said(words)).run({"ping": 1, "$db": "admin"})
    with pytest.raises((StopIteration, ProbeError)) as caught:
        run.send(None)
    if isinstance(caught.value, ProbeError):
        assert caught.value.text.isprintable()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (18, Reason.AUTH),
        (13, Reason.AUTH),
        (91, Reason.NOT_READY),
        (10107, Reason.NOT_READY),
        (13436, Reason.NOT_READY),
        (59, Reason.NOT_READY),
        (None, Reason.NOT_READY),
    ],
)
def test_an_error_is_read_by_its_code(code: int | None, reason: Reason) -> None:
    assert read_error(code, "Name", "message").reason is reason


@given(VALUES, VALUES, VALUES)
def test_an_error_of_any_shape_is_one_printable_line(code: Any, name: Any, text: Any) -> None:
    told = read_error(code, name, text)
    assert told.text.isprintable()
    assert len(told.text) < 300


async def test_an_older_server_is_asked_in_the_older_words() -> None:
    unknown = {"ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command"}
    pipe = Said(reply(OURS, unknown) + reply(OURS, {"ok": 1.0, "ismaster": True}))
    assert (await Conversation(pipe).hello({}, PATIENT))["ismaster"]
    assert b"hello\0" in pipe.sent[0]
    assert b"isMaster\0" in pipe.sent[1]


async def test_another_refusal_of_hello_is_no_reason_to_ask_again() -> None:
    pipe = Said(reply(OURS, {"ok": 0.0, "code": 91, "errmsg": "bye"}))
    with pytest.raises(CommandError):
        await Conversation(pipe).hello({}, PATIENT)
    assert len(pipe.sent) == 1


async def test_no_nudge_is_left_once_hello_is_answered() -> None:
    pipe = Said(reply(OURS, {"ok": 1.0}))
    await Conversation(pipe).hello({}, 0.0)
    await asyncio.sleep(0.01)
    assert len(pipe.sent) == 1


def test_a_command_is_one_message_with_one_document() -> None:
    words = encode({"ping": 1, "$db": "admin"})
    length, number, answered, code, flags, kind = struct.unpack_from("<iiiiIB", words)
    assert (length, number, answered, code, flags, kind) == (
        len(words), REQUEST_ID, 0, OP_MSG, 0, 0,
    )  # fmt: skip
    assert bson.decode(words[21:]) == {"ping": 1, "$db": "admin"}
