"""Who hangs up without a word when asked as MongoDB is: asked once more, in another way."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from worker.errors import ProbeError
from worker.model import Phase, Reason
from worker.network import Network, Stopwatch
from worker.plan import Host, TlsRules
from worker.probes.mongodb_wire import CommandError, Conversation

PATIENCE = 0.5
"""Seconds for the second look: who knows what to say says it at once."""

_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
"""PostgreSQL's first message, which it answers by a letter; MongoDB waits for more of it."""


async def recognize(
    network: Network, host: Host, tls: TlsRules | None, phase: Phase | None, end: float
) -> ProbeError | None:
    """Say why a server hung up in this phase; None where that is none of the known ways.

    No credentials travel. `end` is the loop's time at which nobody waits for this any more.
    """
    left = max(0.0, end - asyncio.get_running_loop().time())
    try:
        async with asyncio.timeout(min(PATIENCE, left)):
            if phase is Phase.TLS:
                return await _speaks_in_clear(network, host)
            if tls is not None:
                return await _wants_a_certificate(network, host, tls)
            return await _is_postgresql(network, host)
    except (ProbeError, TimeoutError):
        return None


async def _speaks_in_clear(network: Network, host: Host) -> ProbeError:
    async with network.connect(host, None, Stopwatch()) as connection:
        with suppress(CommandError):
            await Conversation(connection).hello({}, PATIENCE)
    return ProbeError(Reason.TLS, "the server speaks in clear text only, the row wants TLS")


async def _wants_a_certificate(network: Network, host: Host, tls: TlsRules) -> ProbeError | None:
    # MongoDB says so in its log alone: it shakes hands, then hangs up before it is asked anything.
    async with network.connect(host, tls, Stopwatch()) as connection:
        try:
            await connection.read_exactly(1)
        except ProbeError as fault:
            if fault.reason is Reason.CLOSED:
                text = "the server hangs up after the TLS handshake: it demands a certificate of us"
                return ProbeError(Reason.TLS, text)
    return None


async def _is_postgresql(network: Network, host: Host) -> ProbeError | None:
    async with network.connect(host, None, Stopwatch()) as connection:
        connection.write(_SSL_REQUEST)
        if await connection.read_exactly(1) in {b"S", b"N"}:
            return ProbeError(Reason.PROTOCOL, "PostgreSQL answers there, no MongoDB")
    return None
