"""Who hangs up without a word is greeted once more, as the other engines are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from worker.errors import ProbeError
from worker.network import Network
from worker.plan import Host
from worker.stopwatch import Stopwatch
from worker.words import Engine, Phase, Reason

PATIENCE = 0.5
"""Seconds for each greeting, all at once: who knows what to say says it at once."""


class _Greeting(NamedTuple):
    words: bytes
    answer: int
    """Bytes that tell."""
    is_understood: Callable[[bytes], bool]


_HELLO = (
    b"\x34\0\0\0\1\0\0\0\0\0\0\0\xdd\7\0\0\0\0\0\0\0"  # OP_MSG with one document: its body
    b"\x1f\0\0\0\x10hello\0\1\0\0\0\2$db\0\6\0\0\0admin\0\0"
)
_GREETINGS: Mapping[Engine, _Greeting] = {
    # The request for TLS, answered by a letter.
    Engine.POSTGRESQL: _Greeting(
        b"\0\0\0\x08\x04\xd2\x16\x2f", 1, lambda answer: answer in {b"S", b"N"}
    ),
    Engine.MONGODB: _Greeting(_HELLO, 16, lambda answer: answer[12:] == b"\xdd\7\0\0"),
}
_NAMES = {Engine.POSTGRESQL: "PostgreSQL", Engine.MONGODB: "MongoDB"}


async def recognize(
    network: Network, host: Host, watch: Stopwatch, fault: ProbeError, *, but: Engine
) -> ProbeError:
    """Make `protocol` of a server that hung up on our first words, where it is another engine's.

    No credentials travel, and a server that had answered before is left alone.
    """
    was_heard = Phase.AUTH in watch.phases or watch.current not in {Phase.AUTH, Phase.PING}
    if fault.reason is not Reason.CLOSED or was_heard:
        return fault
    others = [engine for engine in _GREETINGS if engine is not but]
    heard = await asyncio.gather(*(understands(network, host, engine) for engine in others))
    for engine, is_it in zip(others, heard, strict=True):
        if is_it:
            return ProbeError(Reason.PROTOCOL, f"{_NAMES[engine]} answers there")
    return fault


async def understands(network: Network, host: Host, engine: Engine) -> bool:
    """Greet a server in clear text as an engine is greeted; tell whether it answers as one."""
    greeting = _GREETINGS[engine]
    try:
        async with (
            asyncio.timeout(PATIENCE),
            network.connect(host, None, Stopwatch()) as connection,
        ):
            connection.write(greeting.words)
            return greeting.is_understood(await connection.read_exactly(greeting.answer))
    except (ProbeError, TimeoutError):
        return False
