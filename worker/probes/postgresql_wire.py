"""PostgreSQL: the conversation of protocol 3.0 and its error table.

Source: the manual's chapter "Frontend/Backend Protocol" and its appendix of error codes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from struct import Struct

from worker.errors import ProbeError, Reading
from worker.network import MAX_REPLY, Connection
from worker.plan import Host, TlsRules
from worker.quoting import quoted
from worker.scram import SaltedPasswords, ScramClient
from worker.stopwatch import Stopwatch
from worker.words import Phase, Reason

MAX_MESSAGES = 200
"""Messages in answer to one of ours; a start-up brings about 20."""
MAX_QUOTED = 100
"""Characters of a stranger's words that are worth passing on."""

_HEAD = Struct("!cI")
_INT = Struct("!I")
_SSL_REQUEST = Struct("!II").pack(8, 80877103)
_PROTOCOL_3_0 = _INT.pack(196608)
_TERMINATE = b"X\0\0\0\4"
_SKIPPED = frozenset({b"A", b"K", b"N", b"S", b"v"})
"""Notices, settings and the key for cancelling: everybody is told them unasked."""
_KNOWN = _SKIPPED | {b"C", b"D", b"E", b"I", b"R", b"T", b"Z"}

_MAX_OLD_ERROR = 1_000
"""Bytes of an error in protocol 2.0; PostgreSQL's are no longer."""
_BLANK = 0x20
"""All below it are control characters."""

_SIGNED_IN, _CLEAR, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_FOREIGN = {2: "Kerberos", 4: "crypt", 6: "SCM", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}
_SCRAM = "SCRAM-SHA-256"


class ElsewhereError(ProbeError):
    """This host cannot serve now; of several, libpq then asks the next."""


_ERRORS: Mapping[str, Reading] = {
    "28P01": (Reason.AUTH, "wrong user name or password"),
    "28000": (Reason.AUTH, "the server does not let this user or this client in (pg_hba.conf)"),
    "42501": (Reason.AUTH, "the user may not connect to this database"),
    "3D000": (Reason.MISSING, "the server has no such database"),
    "53300": (Reason.SATURATED, "too many clients"),
    "57P01": (Reason.NOT_READY, "the server is shutting down"),
    "57P02": (Reason.NOT_READY, "the server recovers from a crash"),
    "57P03": (Reason.NOT_READY, "the server is starting, stopping or in recovery"),
}
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")


def read_error(code: str, message: str) -> ProbeError:
    """Read an SQLSTATE and what came with it by the one table."""
    if code == "28000" and "certificate" in message:
        return ProbeError(Reason.TLS, "the server demands a client certificate (28000)")
    if (found := _ERRORS.get(code)) is None:
        text = f"{quoted(message, MAX_QUOTED)} ({quoted(code, MAX_QUOTED)})"
        return ProbeError(Reason.NOT_READY, text)
    kind = ElsewhereError if code == "57P03" else ProbeError
    return kind(found[0], f"{found[1]} ({code})")


def _error(body: bytes) -> ProbeError:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0")}
    code = fields.get(b"C", "")
    if not _SQLSTATE.fullmatch(code):
        return _absurd("the server's error has no code")
    return read_error(code, fields.get(b"M", ""))


def _absurd(text: str) -> ProbeError:
    return ProbeError(Reason.PROTOCOL, text)


def _refused(text: str) -> ProbeError:
    return ProbeError(Reason.AUTH, text)


async def ask_for_tls(
    connection: Connection, host: Host, rules: TlsRules, watch: Stopwatch, *, is_optional: bool
) -> bool:
    """Turn TLS on; tell whether it is on, which only an optional one may not be."""
    with watch(Phase.TLS):
        connection.write(_SSL_REQUEST)
        answer = await connection.read_exactly(1)
    if answer == b"S":
        await connection.start_tls(rules, host, watch)
        return True
    if answer == b"E":
        # Anybody could have put words in here, so none is believed (CVE-2024-10977).
        raise ProbeError(Reason.NOT_READY, "the server answers the request for TLS with an error")
    if answer != b"N":
        raise _absurd("the answer to the request for TLS is not PostgreSQL's")
    if not is_optional:
        raise ProbeError(Reason.TLS, "the server does not speak TLS")
    return False


class Session:
    """One conversation over an open connection; shows nothing."""

    def __init__(self, connection: Connection, *, is_encrypted: bool) -> None:
        self._connection = connection
        self._is_encrypted = is_encrypted
        self._messages = self._bytes = 0

    def start(self, parameters: Mapping[str, str]) -> None:
        """Say who asks for what."""
        pairs = [f"{name}\0{value}\0".encode() for name, value in parameters.items()]
        body = b"".join((_PROTOCOL_3_0, *pairs, b"\0"))
        self._connection.write(_INT.pack(len(body) + 4) + body)

    async def sign_in(
        self, username: str, password: str | None, store: SaltedPasswords, *, only_scram: bool
    ) -> None:
        """Prove what the server demands, nothing included, and wait until it takes queries.

        Raises:
            ProbeError: what the server says by the table above; `auth`, too, for a way of signing
                in that is not spoken here or would give the password away.
        """
        demand, rest = await self._demand()
        if demand != _SIGNED_IN:
            if demand in _FOREIGN:
                raise _refused(f"the server demands {_FOREIGN[demand]}, not spoken here")
            if password is None:
                raise _refused("the server demands a password, the connection string has none")
            if demand == _SASL:
                await self._prove(rest, password, store)
            elif only_scram:
                raise _refused("the server offers no SCRAM, which channel_binding=require asks for")
            else:
                self._send_password(demand, rest, username, password)
            demand, _ = await self._demand()
        if demand != _SIGNED_IN:
            raise _absurd("the server is not content with what it demanded")
        if await self._read() != (b"Z", b"I"):
            raise _absurd("the server is not ready for a query after signing in")

    async def query(self, statement: bytes) -> bytes | None:
        """Run a statement by simple query; return the first column of its last row, as text.

        The goodbye goes out in the same write, for it has no answer and a write costs 30 us; the
        server reads it after it has answered the query.
        """
        self._write(b"Q", statement + b"\0", _TERMINATE)
        row: bytes | None = None
        while True:
            kind, body = await self._read()
            if kind == b"D":
                row = body
            elif kind == b"Z":
                break
            elif kind not in {b"T", b"C"}:
                raise _absurd("the answer to the query is none")
        if row is None:
            raise _absurd("the query brought no row")
        return _first_column(row)

    def _send_password(self, demand: int, salt: bytes, username: str, password: str) -> None:
        if demand == _MD5:
            proof = _md5(username.encode(), password.encode(), salt)
        elif demand != _CLEAR:
            raise _absurd("the server demands an unknown way of signing in")
        elif self._is_encrypted:
            proof = password.encode()
        else:
            raise _refused("the server demands the password in clear text, without TLS")
        self._write(b"p", proof + b"\0")

    async def _prove(self, mechanisms: bytes, password: str, store: SaltedPasswords) -> None:
        if _SCRAM.encode() not in mechanisms.split(b"\0"):
            raise _refused(f"the server offers no {_SCRAM}")
        # The name is empty as libpq's is: the server knows it from the start.
        client = ScramClient(_SCRAM, "", password, store, min_iterations=1)
        first = client.first()
        self._write(b"p", b"%b\0%b%b" % (_SCRAM.encode(), _INT.pack(len(first)), first))
        self._write(b"p", await client.final(await self._sasl(_SASL_CONTINUE)))
        client.verify(await self._sasl(_SASL_FINAL))

    async def _sasl(self, expected: int) -> bytes:
        demand, message = await self._demand()
        if demand != expected:
            raise _absurd("the server cannot prove that it knows the user")
        return message

    async def _demand(self) -> tuple[int, bytes]:
        kind, body = await self._read()
        if kind != b"R" or len(body) < _INT.size:
            raise _absurd("the server does not say how to sign in")
        return _INT.unpack_from(body)[0], body[_INT.size :]

    def _write(self, kind: bytes, body: bytes, goodbye: bytes = b"") -> None:
        self._messages = self._bytes = 0
        self._connection.write(_HEAD.pack(kind, len(body) + _INT.size) + body + goodbye)

    async def _read(self) -> tuple[bytes, bytes]:
        """Read up to a message that matters; an error is raised as what the table says."""
        read = self._connection.read_exactly
        head = await read(_HEAD.size)
        while True:
            kind, size = _HEAD.unpack(head)
            if kind == b"E" and min(head[1:]) >= _BLANK:
                raise await self._old_error(head[1:])
            if kind not in _KNOWN or size < _INT.size:
                raise _absurd("the answer is not PostgreSQL's")
            self._messages += 1
            self._bytes += size
            if self._messages > MAX_MESSAGES or self._bytes > MAX_REPLY:
                raise _absurd("the server's answer is too long")
            if kind in _SKIPPED:
                # Another message follows every one of these: its head comes in the same read.
                head = (await read(size - _INT.size + _HEAD.size))[-_HEAD.size :]
                continue
            body = await read(size - _INT.size)
            if kind == b"E":
                raise _error(body)
            return kind, body

    async def _old_error(self, words: bytes) -> ProbeError:
        """Read on in protocol 2.0, which has no lengths: a server that cannot fork speaks it."""
        while words[-1] >= _BLANK and len(words) < _MAX_OLD_ERROR:
            words += await self._connection.read_exactly(1)
        if words[-1:] != b"\n" or await self._connection.read_exactly(1) != b"\0":
            return _absurd("the answer is not PostgreSQL's")
        said = quoted(words[:-1].decode(errors="replace"), MAX_QUOTED)
        return ProbeError(Reason.SATURATED, f"the server cannot take us: {said}")


def _md5(username: bytes, password: bytes, salt: bytes) -> bytes:
    def digest(text: bytes) -> bytes:
        return hashlib.md5(text, usedforsecurity=False).hexdigest().encode()

    return b"md5" + digest(digest(password + username) + salt)


def _first_column(row: bytes) -> bytes | None:
    """Read a DataRow: two bytes of count, then four bytes of length (-1 for null) and the value."""
    length = int.from_bytes(row[2:6], "big", signed=True)
    if row[:2] == b"\0\0" or len(row) < 6 or length > len(row) - 6:  # noqa: PLR2004 -- see above
        raise _absurd("the query's row is none")
    return None if length < 0 else row[6 : 6 + length]
