"""TLS for one connection: a record at a time is read, and no more than a server may send."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from itertools import pairwise

from worker.errors import ProbeError
from worker.plan import TlsRules
from worker.words import Reason

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL"
"""Those of TLS 1.2, without finite-field groups, whose size the server chooses: one of 10,000 bits
took five seconds. TLS 1.3 has such groups, too, of 8,192 bits at most."""
MAX_SILENT = 16
"""Records without data that a server may send once hands are shaken: tickets, new keys."""
MAX_SILENT_BYTES = 8_192
"""Of all of them; a ticket has some hundred bytes."""
RECORDS_AT_ONCE = 64
"""After so many the loop has to serve others."""
_HEADER = 5
_MAJOR_VERSION = 3
_MAX_RECORD = _HEADER + 16_384 + 256
_MAX_REQUEST = 64
"""Bytes of a record of TLS 1.2 that asks for another handshake: it may ask thousands of times."""
_HANDSHAKE, _ENCRYPTED_RECORD = b"\x16", b"\x17"
_CERTIFICATE = b"\x0b"
"""The first byte of the message that shows one."""
_CERTIFICATE_END = re.compile("-----END (?:X509 )?CERTIFICATE-----")
"""By both names that OpenSSL knows."""
_ENCRYPTED = "Proc-Type:"
"""In PEM text: OpenSSL asks for its pass phrase at the terminal, and Python waits with it."""


class TlsSession:
    """The TLS of one connection, without its bytes' way in and out."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        """Take the name that the server's certificate has to hold."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._received = bytearray()
        """What came after the handshake and was not decrypted yet."""
        self._silent = self._silent_bytes = 0
        self._quiet = 0
        """Bytes of the last record, as long as it has given no data."""
        self._fault: ssl.SSLError | EOFError | ProbeError | None = None
        self.is_asked_for_certificate = False
        """Whether the server wanted one of us in the handshake: it was shown none."""
        self.is_held = False
        """Whether there is more to decrypt that the loop should not do in the same turn."""

    @property
    def unread(self) -> int:
        """Bytes that wait to be decrypted."""
        return len(self._received)

    def shake_hands(self, received: bytes) -> bool:
        """Go on with what was received; tell whether that was all. Raises ssl.SSLError."""
        self._incoming.write(received)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            flight = self.to_send()
            self._outgoing.write(flight)
            self.is_asked_for_certificate |= _shows_certificate(flight)
        self._received += self._incoming.read()
        return True

    def to_send(self) -> bytes:
        """Take what the server is to be sent."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> None:
        """Put data among what is to be sent."""
        self._object.write(data)

    def decrypt(self, received: bytes, most: int) -> bytes:
        """Read at most so many bytes, now and from what was left before.

        A record at a time, for OpenSSL itself goes on until there is data, however long a server
        sends it everything else.

        Raises:
            ssl.SSLError: after the last of them, for what came then is broken.
            EOFError: after the last of them, for the server has said farewell.
            ProbeError: after the last of them, for what came then is no data, without end.
        """
        self._received += received
        clear = bytearray()
        records = RECORDS_AT_ONCE
        while len(clear) < most and self._fault is None:
            if piece := self._read(most - len(clear)):
                clear += piece
            elif self._fault is not None or records == 0 or not self._feed():
                break
            else:
                records -= 1
        self.is_held = records == 0
        if self._fault is not None and not clear:
            raise self._take_fault()
        return bytes(clear)

    def _take_fault(self) -> BaseException:
        """Keep another one instead: what was raised holds this, and would keep it in memory."""
        fault, self._fault = self._fault, EOFError()
        return fault or EOFError()

    def _read(self, most: int) -> bytes:
        """Read data of the last record; nothing where there is none, or where a fault is noted."""
        try:
            piece = self._object.read(min(most, _MAX_RECORD))
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            self._fault = error.with_traceback(None)  # whose frame holds this
            return b""
        if not piece:
            self._fault = EOFError()
        self._quiet = 0
        return piece

    def _feed(self) -> bool:
        """Give OpenSSL the next record, if it is there as a whole and may be read at all."""
        if self._quiet:
            self._silent += 1
            self._silent_bytes += self._quiet
            self._quiet = 0
        if self._silent > MAX_SILENT or self._silent_bytes > MAX_SILENT_BYTES:
            self._fault = ProbeError(Reason.TLS, "the server sends messages of TLS without end")
            return False
        record = self._next_record()
        if self._asks_for_much(record):
            self._fault = ProbeError(Reason.TLS, "the server asks for handshakes without end")
            return False
        self._quiet = len(record)
        self._incoming.write(record)
        return bool(record)

    def _asks_for_much(self, record: bytes) -> bool:
        is_request = record[:1] == _HANDSHAKE and self._object.version() == "TLSv1.2"
        return is_request and len(record) > _MAX_REQUEST

    def _next_record(self) -> bytes:
        """Take a whole record, or all that is there where it is none, so that OpenSSL says so."""
        received = self._received
        if len(received) < _HEADER:
            return b""
        size = _HEADER + int.from_bytes(received[3:_HEADER])
        if received[1] != _MAJOR_VERSION or size > _MAX_RECORD:
            size = len(received)
        if len(received) < size:
            return b""
        record = bytes(received[:size])
        del received[:size]
        return record


def _shows_certificate(flight: bytes) -> bool:
    """Tell whether our words hold a certificate, as an empty one, which only who is asked sends.

    In TLS 1.2 they begin with it, in clear; in TLS 1.3 nothing else but the end is encrypted.
    """
    encrypted = at = 0
    while at < len(flight):
        encrypted += flight[at : at + 1] == _ENCRYPTED_RECORD
        at += _HEADER + int.from_bytes(flight[at + 3 : at + _HEADER])
    is_in_clear = flight[:1] == _HANDSHAKE and flight[_HEADER : _HEADER + 1] == _CERTIFICATE
    return is_in_clear or encrypted > 1


def build_context(rules: TlsRules) -> ssl.SSLContext:
    """Make a context of one's own, in 18 ms with the system's authorities.

    Raises:
        ProbeError: `misconfigured` for authorities that are none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # a server could ask for it without end
    context.check_hostname = rules.verifies_chain and rules.verifies_name
    context.verify_mode = ssl.CERT_REQUIRED if rules.verifies_chain else ssl.CERT_NONE
    if rules.ca is None:
        if rules.verifies_chain:
            context.load_default_certs()
        return context
    if _ENCRYPTED in rules.ca:
        raise ProbeError(Reason.MISCONFIGURED, "config.tls.ca: encrypted, so nobody can read it")
    try:
        for piece in _certificates(rules.ca):
            context.load_verify_locations(cadata=piece)
    except (ssl.SSLError, ValueError, TypeError):
        raise ProbeError(
            Reason.MISCONFIGURED, "config.tls.ca: no certificate in PEM form"
        ) from None
    return context


def count_certificates(authorities: str) -> int:
    """Count what `build_context` has to read, one by one."""
    return len(_CERTIFICATE_END.findall(authorities))


def _certificates(authorities: str) -> Sequence[str]:
    """Cut between certificates: Python keeps the interpreter for as long as it reads one text."""
    cuts = [0, *(end.end() for end in _CERTIFICATE_END.finditer(authorities))]
    certificates = [authorities[start:end] for start, end in pairwise(cuts)]
    rest = authorities[cuts[-1] :]
    return [*certificates, rest] if "-----BEGIN" in rest or not certificates else certificates
