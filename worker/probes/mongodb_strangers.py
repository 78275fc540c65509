"""Who hangs up without a word when asked as MongoDB is: asked once more, in another way."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from worker.errors import ProbeError
from worker.network import Network
from worker.plan import Host, TlsRules
from worker.probes.mongodb_wire import CommandError, Conversation
from worker.probes.strangers import PATIENCE, understands
from worker.stopwatch import Stopwatch
from worker.words import Engine, Phase, Reason


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
            if await understands(network, host, Engine.POSTGRESQL):
                return ProbeError(Reason.PROTOCOL, "PostgreSQL answers there, no MongoDB")
            return None
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
            if fault.reason is Reason.CLOSED and connection.is_asked_for_certificate:
                text = "the server hangs up after the TLS handshake: it demands a certificate of us"
                return ProbeError(Reason.TLS, text)
    return None
