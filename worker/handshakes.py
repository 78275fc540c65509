"""Handshakes in threads: they cost what strangers want, so the loop goes on."""

from __future__ import annotations

import ssl
from collections import OrderedDict

from worker.contexts import Contexts
from worker.lanes import Lane
from worker.plan import Host, TlsRules
from worker.tls import TlsSession

_UNKNOWN_SECONDS = 0.005
"""What a handshake with a host that is not known is taken to cost."""
DEAR_SECONDS = 0.02
"""CPU time of a handshake from which on the next one with that host waits in a lane of its own:
elliptic curves and a chain of long RSA keys take some milliseconds."""
_FADING = 0.9
"""What is left of a host's cost at its next handshake, so that nobody is cheap for a change."""
_MAX_HOSTS = 10_000


class Handshakes:
    """The threads that compute what a server chose, shared fairly by expected cost."""

    def __init__(self) -> None:
        # OpenSSL works without the GIL: the loop goes on while these compute.
        self._usual = Lane(2, "tls")
        self._dear = Lane(1, "tls-dear")
        self._costs: OrderedDict[Host, float] = OrderedDict()
        """CPU seconds of the dearest step of the handshake with a host."""
        self._contexts = Contexts()

    async def begin(self, rules: TlsRules, host: Host) -> TlsSession:
        """Make a session, with the context that all targets share that have the same rules.

        Raises:
            ProbeError: `misconfigured` for authorities that are none.
        """
        context = await self._contexts.get(rules)
        self._note(host, _FADING * self._expected(host))
        return TlsSession(context, rules.servername or host.name)

    async def go_on(self, session: TlsSession, received: bytes, host: Host) -> bool | ssl.SSLError:
        """Go on with a handshake off the loop; tell whether that was all, or why it failed."""
        expected = self._expected(host)
        outcome, spent = await self._lane(expected).run(expected, _try_to_go_on, session, received)
        self._note(host, max(spent, self._expected(host)))
        return outcome

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
