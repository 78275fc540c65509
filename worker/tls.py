"""TLS for one connection: handshakes are computed in threads, for the server chooses their sums."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache

from worker.errors import ProbeError
from worker.model import Reason
from worker.plan import Host, TlsRules

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL"
"""Those of TLS 1.2, without finite-field groups, whose size the server chooses: one of 10,000 bits
took five seconds. TLS 1.3 has such groups, too, of 8,192 bits at most."""
_DEAR_SECONDS = 0.05
"""CPU time of a handshake from which on the next one with that host waits in a lane of its own:
elliptic curves and a chain of long RSA keys take some milliseconds."""
_MAX_DEAR = 10_000
"""How many such hosts are remembered."""


class TlsSession:
    """The TLS of one connection, without its bytes' way in and out."""

    def __init__(self, rules: TlsRules, host: Host) -> None:
        """Raise ProbeError `misconfigured` for authorities that are none."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = make_context(rules).wrap_bio(
            self._incoming, self._outgoing, server_hostname=rules.servername or host.name
        )
        self._fault: ssl.SSLError | EOFError | None = None

    def shake_hands(self, received: bytes) -> bool:
        """Go on with what was received; tell whether that was all. Raises ssl.SSLError."""
        self._incoming.write(received)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def to_send(self) -> bytes:
        """Take what the server is to be sent."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> None:
        """Put data among what is to be sent."""
        self._object.write(data)

    def decrypt(self, received: bytes, most: int) -> bytes:
        """Read at most so many bytes, now and from what was left before.

        Raises:
            ssl.SSLError: after the last of them, for what came then is broken.
            EOFError: after the last of them, for the server has said farewell.
        """
        self._incoming.write(received)
        clear = bytearray()
        while len(clear) < most and self._fault is None:
            try:
                piece = self._object.read(most - len(clear))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._fault = error
            else:
                clear += piece
                self._fault = None if piece else EOFError()
        if self._fault is not None and not clear:
            raise self._fault
        return bytes(clear)


class Handshakes:
    """The threads that compute handshakes; hosts that ask for much wait for each other alone."""

    def __init__(self) -> None:
        # OpenSSL works without the GIL: the loop goes on while these compute.
        self._usual = ThreadPoolExecutor(2, "tls")
        self._dear = ThreadPoolExecutor(1, "tls-dear")
        self._dear_hosts: OrderedDict[Host, None] = OrderedDict()

    async def go_on(self, session: TlsSession, received: bytes, host: Host) -> bool:
        """Go on with a handshake off the loop; see `TlsSession.shake_hands`."""
        lane = self._dear if host in self._dear_hosts else self._usual
        loop = asyncio.get_running_loop()
        is_done, spent = await loop.run_in_executor(lane, _timed, session, received)
        self._note(host, spent)
        if isinstance(is_done, ssl.SSLError):
            raise is_done
        return is_done

    def _note(self, host: Host, spent: float) -> None:
        if spent >= _DEAR_SECONDS:
            self._dear_hosts[host] = None
            self._dear_hosts.move_to_end(host)
            if len(self._dear_hosts) > _MAX_DEAR:
                self._dear_hosts.popitem(last=False)


def _timed(session: TlsSession, received: bytes) -> tuple[bool | ssl.SSLError, float]:
    began = time.thread_time()
    try:
        outcome: bool | ssl.SSLError = session.shake_hands(received)
    except ssl.SSLError as error:
        outcome = error
    return outcome, time.thread_time() - began


def make_context(rules: TlsRules) -> ssl.SSLContext:
    """Share one context among all targets with the same authorities and verification.

    Raises:
        ProbeError: `misconfigured` for authorities that are none.
    """
    return _share_context(replace(rules, servername=None))


def build_context(rules: TlsRules) -> ssl.SSLContext:
    """Make a context of one's own, in 18 ms; raises as `make_context` does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # a server could ask for it without end
    context.check_hostname = rules.verifies_chain and rules.verifies_name
    context.verify_mode = ssl.CERT_REQUIRED if rules.verifies_chain else ssl.CERT_NONE
    if rules.ca is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=rules.ca)
    except (ssl.SSLError, ValueError, TypeError):
        raise ProbeError(
            Reason.MISCONFIGURED, "config.tls.ca: no certificate in PEM form"
        ) from None
    return context


_share_context = lru_cache(maxsize=256)(build_context)
