"""TLS in threads: handshakes and authorities cost what strangers want, so the loop goes on."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from dataclasses import replace

from worker.errors import ProbeError
from worker.lanes import Lane
from worker.model import Reason
from worker.plan import Host, TlsRules
from worker.tls import TlsSession, build_context, count_certificates

_UNKNOWN_SECONDS = 0.005
"""What a handshake with a host that is not known is taken to cost."""
DEAR_SECONDS = 0.02
"""CPU time of a handshake from which on the next one with that host waits in a lane of its own:
elliptic curves and a chain of long RSA keys take some milliseconds."""
_FADING = 0.9
"""What is left of a host's cost at its next handshake, so that nobody is cheap for a change."""
_MAX_HOSTS = 10_000
_MAX_CONTEXTS = 256
_CERTIFICATE_SECONDS = 0.0002
_SYSTEM_SECONDS = 0.018
"""CPU time of reading one certificate, and all of the system's."""


class Handshakes:
    """The threads that compute what a server or a row chose, shared fairly by expected cost."""

    def __init__(self) -> None:
        # OpenSSL works without the GIL: the loop goes on while these compute.
        self._usual = Lane(2, "tls")
        self._dear = Lane(1, "tls-dear")
        self._costs: OrderedDict[Host, float] = OrderedDict()
        """CPU seconds of the dearest step of the handshake with a host."""
        self._contexts: OrderedDict[TlsRules, asyncio.Future[ssl.SSLContext | str]] = OrderedDict()
        """With why there is none, so that this, too, is found out once."""

    async def begin(self, rules: TlsRules, host: Host) -> TlsSession:
        """Make a session, with the context that all targets share that have the same rules.

        Raises:
            ProbeError: `misconfigured` for authorities that are none.
        """
        context = await asyncio.shield(self._context(replace(rules, servername=None)))
        if isinstance(context, str):
            raise ProbeError(Reason.MISCONFIGURED, context)
        self._note(host, _FADING * self._expected(host))
        return TlsSession(context, rules.servername or host.name)

    async def go_on(self, session: TlsSession, received: bytes, host: Host) -> bool | ssl.SSLError:
        """Go on with a handshake off the loop; tell whether that was all, or why it failed."""
        expected = self._expected(host)
        outcome, spent = await self._lane(expected).run(expected, _try_to_go_on, session, received)
        self._note(host, max(spent, self._expected(host)))
        return outcome

    def _context(self, rules: TlsRules) -> asyncio.Future[ssl.SSLContext | str]:
        if (known := self._contexts.get(rules)) is None:
            expected = _SYSTEM_SECONDS
            if rules.ca is not None:
                expected = count_certificates(rules.ca) * _CERTIFICATE_SECONDS
            known = self._contexts[rules] = asyncio.ensure_future(self._build(expected, rules))
            known.add_done_callback(lambda made: self._forget_failed(rules, made))
            if len(self._contexts) > _MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(rules)
        return known

    async def _build(self, expected: float, rules: TlsRules) -> ssl.SSLContext | str:
        context, _ = await self._lane(expected).run(expected, _try_to_build, rules)
        return context

    def _forget_failed(self, rules: TlsRules, made: asyncio.Future[ssl.SSLContext | str]) -> None:
        """Try again next time what failed for no fault of the rules."""
        if made.cancelled() or made.exception() is not None:
            self._contexts.pop(rules, None)

    def _lane(self, expected: float) -> Lane:
        return self._usual if expected < DEAR_SECONDS else self._dear

    def _expected(self, host: Host) -> float:
        return self._costs.get(host, _UNKNOWN_SECONDS)

    def _note(self, host: Host, cost: float) -> None:
        self._costs[host] = cost
        self._costs.move_to_end(host)
        if len(self._costs) > _MAX_HOSTS:
            self._costs.popitem(last=False)


def _try_to_go_on(session: TlsSession, received: bytes) -> bool | ssl.SSLError:
    try:
        return session.shake_hands(received)
    except ssl.SSLError as error:
        return error.with_traceback(None)  # which holds this frame, which holds the error


def _try_to_build(rules: TlsRules) -> ssl.SSLContext | str:
    try:
        return build_context(rules)
    except ProbeError as fault:
        return fault.text
