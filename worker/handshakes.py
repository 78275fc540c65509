"""The threads of TLS: handshakes and authorities cost what strangers want, so the loop goes on."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from heapq import heappop, heappush
from typing import TypeVar

from worker.errors import ProbeError
from worker.model import Reason
from worker.plan import Host, TlsRules
from worker.tls import CERTIFICATE_END, TlsSession, build_context

_UNKNOWN_SECONDS = 0.005
"""What a handshake with a host that is not known is taken to cost."""
_DEAR_SECONDS = 0.02
"""CPU time of a handshake from which on the next one with that host waits in a lane of its own:
elliptic curves and a chain of long RSA keys take some milliseconds."""
_FADING = 0.9
"""What is left of a host's cost at its next handshake, so that nobody is cheap for a change."""
_MAX_HOSTS = 10_000
_MAX_CONTEXTS = 256
_CERTIFICATE_SECONDS = 0.0002
T = TypeVar("T")


class Handshakes:
    """The threads that compute what a server or a row chose; whoever asks for little goes first."""

    def __init__(self) -> None:
        # OpenSSL works without the GIL: the loop goes on while these compute.
        self._usual = Lane(2, "tls")
        self._dear = Lane(1, "tls-dear")
        self._costs: OrderedDict[Host, float] = OrderedDict()
        """CPU seconds of a step of the handshake with a host."""
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
        return TlsSession(context, rules.servername or host.name)

    async def go_on(self, session: TlsSession, received: bytes, host: Host) -> bool | ssl.SSLError:
        """Go on with a handshake off the loop; tell whether that was all, or why it failed."""
        expected = self._costs.get(host, _UNKNOWN_SECONDS)
        outcome, spent = await self._lane(expected).run(expected, _timed, session, received)
        self._note(host, spent)
        return outcome

    def _context(self, rules: TlsRules) -> asyncio.Future[ssl.SSLContext | str]:
        if (known := self._contexts.get(rules)) is None:
            expected = (rules.ca or "").count(CERTIFICATE_END) * _CERTIFICATE_SECONDS
            making = self._lane(expected).run(expected, _try_to_build, rules)
            known = self._contexts[rules] = asyncio.ensure_future(making)
            known.add_done_callback(lambda made: self._forget_failed(rules, made))
            if len(self._contexts) > _MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(rules)
        return known

    def _forget_failed(self, rules: TlsRules, made: asyncio.Future[ssl.SSLContext | str]) -> None:
        """Try again next time what failed for no fault of the rules."""
        if made.cancelled() or made.exception() is not None:
            self._contexts.pop(rules, None)

    def _lane(self, expected: float) -> Lane:
        return self._usual if expected < _DEAR_SECONDS else self._dear

    def _note(self, host: Host, spent: float) -> None:
        self._costs[host] = max(spent, _FADING * self._costs.get(host, 0.0))
        self._costs.move_to_end(host)
        if len(self._costs) > _MAX_HOSTS:
            self._costs.popitem(last=False)


class Lane:
    """Threads that take first what is expected to cost least."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._free = threads
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    async def run(self, expected: float, function: Callable[..., T], *arguments: object) -> T:
        """Run it in a thread, when its turn has come; a thread is free when it really is."""
        loop = asyncio.get_running_loop()
        await self._turn(expected)
        job = self._threads.submit(function, *arguments)

        def end(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(self._pass_on)

        try:
            return await asyncio.wrap_future(job)
        finally:
            if job.done():
                self._pass_on()
            else:  # nobody waits any more, but the thread goes on
                job.add_done_callback(end)

    async def _turn(self, expected: float) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heappush(self._queue, (expected, next(self._count), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._queue:
            _, _, turn = heappop(self._queue)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _timed(session: TlsSession, received: bytes) -> tuple[bool | ssl.SSLError, float]:
    began = time.thread_time()
    try:
        outcome: bool | ssl.SSLError = session.shake_hands(received)
    except ssl.SSLError as error:
        outcome = error.with_traceback(None)  # which holds this frame, which holds the error
    return outcome, time.thread_time() - began


def _try_to_build(rules: TlsRules) -> ssl.SSLContext | str:
    try:
        return build_context(rules)
    except ProbeError as fault:
        return fault.text
