"""What PyMongo's exceptions mean; motor passes them on."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Any

from bson.errors import BSONError
from dns.exception import DNSException
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    ProtocolError,
)

from worker.errors import MAX_HOST, ProbeError, Reading, Rule, reading, translate
from worker.plan import Host
from worker.probes.mongodb_plan import unusable
from worker.probes.mongodb_wire import MAX_QUOTED, read_error
from worker.quoting import quoted
from worker.words import Reason

_UP_BUT_NO_PRIMARY = frozenset({"RSSecondary", "RSArbiter", "RSOther", "RSGhost"})
_ABSURD_SCRAM = "Server returned an invalid"
_WRONG_SET = "configured to connect to a replica set"
_ENDS = frozenset({"connection closed", "connection is already closed", "connection is closed"})
_TELLING = (ssl.SSLError, ConnectionRefusedError, TimeoutError)
_TLS = "SSL handshake failed"
_SYSTEM_ERROR = re.compile(r"\[Errno (-?\d{1,3})\]")
_BAD_CERTIFICATE = re.compile(r"certificate verify failed: ([^(]{1,80}) \(_ssl")


def _refusal(error: BaseException) -> Reading | None:
    """Read a command's error by its code, as our own probe does."""
    details = getattr(error, "details", None)
    if not isinstance(details, dict) or "code" not in details:
        return None
    fault = read_error(details["code"], details.get("codeName"), details.get("errmsg"))
    return fault.reason, fault.text


def _operation(error: BaseException) -> Reading:
    # SCRAM's faults come as an OperationFailure that has no code, told apart by its text alone.
    if str(error).startswith(_ABSURD_SCRAM):
        return Reason.PROTOCOL, quoted(str(error), MAX_QUOTED)
    return _refusal(error) or (
        Reason.NOT_READY,
        f"the server answers {quoted(str(error), MAX_QUOTED)}",
    )


def _reconnect(error: BaseException) -> Reading | None:
    if (read := _refusal(error)) is not None:
        return read
    cause = error.__cause__
    if isinstance(cause, _TELLING) and not isinstance(cause, ssl.SSLEOFError):
        return None
    # PyMongo's monitor strips the cause off (PYTHON-2433), so that the text alone is left of it;
    # and it calls a handshake failed whatever went wrong, a refused connection included.
    text = str(error)
    if (match := _SYSTEM_ERROR.search(text)) and int(match[1]) != errno.ECONNRESET:
        # The system's look-ups number their errors below zero.
        number = int(match[1])
        fault = translate(OSError(number, "") if number > 0 else socket.gaierror(number, ""), ())
        return (fault.reason, fault.text) if fault else None
    if match := _BAD_CERTIFICATE.search(text):
        return Reason.TLS, f"the certificate is not accepted: {quoted(match[1], MAX_QUOTED)}"
    if _TLS in text:
        return Reason.TLS, "the TLS handshake failed"
    return None if error.__cause__ else (Reason.CLOSED, "the server closed the connection")


def _configuration(error: BaseException) -> Reading | None:
    # A name that does not resolve is a ConfigurationError, too.
    if isinstance(error.__cause__, DNSException):
        return Reason.DNS, "the mongodb+srv name does not resolve"
    if _WRONG_SET in str(error):
        return Reason.MISCONFIGURED, "replicaSet is not the name of the server's set"
    return Reason.MISCONFIGURED, quoted(str(error), MAX_QUOTED)


def _closed(error: BaseException) -> Reading | None:
    # PyMongo makes an OSError without a number of an end of file.
    is_end = str(error).lower() in _ENDS
    return (Reason.CLOSED, "the server closed the connection") if is_end else None


RULES: tuple[Rule, ...] = (
    (OperationFailure, _operation),
    (NetworkTimeout, reading(Reason.TIMEOUT, "no answer in the configured time")),
    (AutoReconnect, _reconnect),
    (ConfigurationError, _configuration),
    (ProtocolError, reading(Reason.PROTOCOL, "the answer is not MongoDB's")),
    (BSONError, reading(Reason.PROTOCOL, "the server's message is not BSON")),
    # SCRAM's iterations may be more than hashlib can count.
    (OverflowError, reading(Reason.PROTOCOL, "the library can make nothing of the answer")),
    (ValueError, reading(Reason.PROTOCOL, "the library can make nothing of the answer")),
    (LookupError, reading(Reason.PROTOCOL, "the library can make nothing of the answer")),
    (InvalidOperation, reading(Reason.CLOSED, "the connection was closed")),
    (OSError, _closed),
)
"""The first match counts; the operating system's errors follow in `errors.NETWORK_RULES`."""


def read_topology(topology: Any, seconds: float, srv_name: str | None) -> ProbeError:
    """Say why no server answered in time; the exception itself says it in prose only.

    Until its look-up is answered, a `mongodb+srv` name stands there as if it were a server.
    """
    servers = topology.server_descriptions()
    if not servers:
        # Drivers strike hosts out that belong to another set, or to none.
        return unusable("replicaSet is not the name of the servers' set, or they are in none")
    if any(name == srv_name for name, _ in servers):
        return ProbeError(Reason.DNS, "the look-up of the mongodb+srv name was not answered")
    kinds = {server.server_type_name for server in servers.values()}
    if kinds & _UP_BUT_NO_PRIMARY and not topology.has_writable_server():
        return ProbeError(Reason.NOT_READY, "the replica set has no primary")
    for address, server in servers.items():
        fault = translate(server.error, RULES) if server.error else None
        if fault:
            if len(servers) == 1 or fault.reason is Reason.INTERNAL:
                return fault
            name = quoted(str(Host(*address)), MAX_HOST)
            return ProbeError(fault.reason, f"{fault.text} ({name})")
    return ProbeError(Reason.TIMEOUT, f"no answer within {seconds * 1000:.0f} ms")
