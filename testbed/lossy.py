"""A way to a server on which an answer gets lost: what was asked for is done all the same."""

from __future__ import annotations

import asyncio

from testbed.misbehaving import CHUNK, Caller


class LossyRoute:
    """Passes everything on, but hangs up instead of the answer to what holds certain words."""

    def __init__(self, port: int, words: bytes) -> None:
        """Take the port of the server on loopback, and the words; nothing is lost yet."""
        self._port = port
        self._words = words
        self.is_lossy = False

    async def converse(self, caller: Caller) -> None:
        """Carry one conversation; use it as a misbehaving server's."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        asking = asyncio.create_task(self._carry_on(caller, writer))
        try:
            while (answer := await reader.read(CHUNK)) and not asking.done():
                await caller.say(answer)
        finally:
            asking.cancel()
            writer.close()

    async def _carry_on(self, caller: Caller, writer: asyncio.StreamWriter) -> None:
        """Pass on what is asked; ends with the question whose answer is to be lost."""
        while question := await caller.hear():
            writer.write(question)
            if self.is_lossy and self._words in question:
                return
