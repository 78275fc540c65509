"""Our exceptions; the one way a foreign error becomes ours."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.quoting import quoted
from worker.words import Reason


class ProbeError(Exception):
    """The target's trouble, found while probing: becomes data, never reaches the tick."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text


class WorkerError(Exception):
    """Our trouble, in one line that names the thing and says what to do."""


class SettingsError(WorkerError):
    """Environment variables that do not parse; `faults` holds a line each, without values."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class RegistryUnavailableError(WorkerError):
    """The registry cannot be used just now; worth waiting for."""


class RegistryRefusedError(WorkerError):
    """The registry refuses us (credentials, database, rights); waiting does not help."""


class SchemaError(WorkerError):
    """The registry's schema is missing, too old, foreign, or may not be changed as asked."""


class BadResultsError(WorkerError):
    """The registry refused a batch of results for its data."""


Reading = tuple[Reason, str]
"""A reason and its text for people, which holds no secret."""
Rule = tuple[type[BaseException], Callable[[BaseException], Reading | None]]
"""An exception type and what to read off it; None passes on to the next rule."""

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
_NAME = re.compile(r"'(.*)'", re.DOTALL)
MAX_HOST = 80
"""Characters of a host's name that somebody else has told."""
_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def reading(reason: Reason, text: str) -> Callable[[BaseException], Reading]:
    """Make a rule's right side that is the same whatever the exception says."""
    return lambda _: (reason, text)


def _os_error(error: BaseException) -> Reading | None:
    number = error.errno if isinstance(error, OSError) else None
    if number in _OURS:
        return Reason.INTERNAL, f"the worker ran short: {errno.errorcode[number or 0]}"
    if number in _NO_ROUTE:
        return Reason.UNREACHABLE, "no route to the host"
    if number == errno.ETIMEDOUT:
        return Reason.TIMEOUT, "the host did not answer"
    return None


def _tls_error(error: BaseException) -> Reading:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Reason.TLS, f"the certificate is not accepted: {_verdict(error.verify_message)}"
    detail = getattr(error, "reason", None) or "no detail"  # one that Python made has none
    return Reason.TLS, f"the TLS handshake failed: {detail.replace('_', ' ').lower()}"


def _verdict(message: str) -> str:
    """Quote the name that a certificate does not hold: a server may have chosen it for another."""
    return _NAME.sub(lambda match: quoted(match[1], MAX_HOST), message)


def _impossible_name(error: BaseException) -> Reading | None:
    # Python gives a name that no nameserver can be asked for its own error, which has no number.
    is_name = "idna" in str(error)
    return (Reason.DNS, "the name cannot be looked up") if is_name else None


ADVICE: Mapping[Reason, str] = {
    Reason.TIMEOUT: "check host, port and firewall, and whether the server is overloaded",
    Reason.DNS: "check the host's name",
    Reason.REFUSED: "check host and port, and whether the server runs",
    Reason.UNREACHABLE: "check the host's address and the network's routes",
    Reason.CLOSED: "look into the server's log",
    Reason.TLS: "check TLS on both sides: the certificate, config.tls, ssl_enabled",
    Reason.AUTH: "check user name, password and rights",
    Reason.MISSING: "create it, or name another one",
    Reason.NOT_READY: "wait, or look into the server's log",
    Reason.SATURATED: "close clients, or raise the server's limit",
    Reason.PROTOCOL: "check whether host and port are those of the database",
    Reason.BLOCKED: "see ALLOWED_NETWORKS",
}
"""What its owner can do about an unhealthy database; follows the text and the address."""

NETWORK_RULES: tuple[Rule, ...] = (
    # As good as a reset, and which of the two comes is a matter of luck.
    (ssl.SSLEOFError, reading(Reason.CLOSED, "the server closed the connection")),
    (ssl.SSLError, _tls_error),
    (socket.gaierror, reading(Reason.DNS, "the name does not resolve")),
    (UnicodeError, _impossible_name),
    (ConnectionRefusedError, reading(Reason.REFUSED, "nothing listens there")),
    (TimeoutError, reading(Reason.TIMEOUT, "no answer in the configured time")),
    (OSError, _os_error),
    (ConnectionError, reading(Reason.CLOSED, "the server closed the connection")),
    (EOFError, reading(Reason.CLOSED, "the server closed the connection")),
)
"""What the operating system and TLS say, for every engine alike; the first match counts."""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def translate(error: BaseException, rules: Iterable[Rule]) -> ProbeError | None:
    """Read a foreign error, then what caused it, by a table; None where no rule knows it."""
    table = (*rules, *NETWORK_RULES)
    for link in _chain(error):
        if isinstance(link, ProbeError):
            return link
        for kind, read in table:
            if isinstance(link, kind) and (found := read(link)) is not None:
                return ProbeError(*found)
    return None


def forget_frames(error: BaseException) -> None:
    """Let go of what a probe held: with the task that failed, a frame with a bound is a cycle."""
    for link in _chain(error):
        link.__traceback__ = None
