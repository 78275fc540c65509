"""The page of series: made in a thread of its own, shared by those who wait, sent in pieces."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from aiohttp import web

Page = tuple[bytes, str]
"""A body and its content type."""
OPENMETRICS = "application/openmetrics-text"
"""What in an Accept header asks for the other of the two formats."""
MAX_OLDER_PAGES = 4
"""Pages that are still being sent when the next one is made; each may have 14 MB and more."""
PIECE_BYTES = 32_768
"""What is sent in one go; a client that does not read costs this and asyncio's 64 KB."""
T = TypeVar("T")


class Pages:
    """Makes one page at a time, for all who wait for it.

    A page is begun after it was asked for, so it shows all that had happened by then. Those who
    ask while one is being made share the next one.
    """

    def __init__(self, make: Callable[[str], Page]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._asked_for: dict[str, asyncio.Task[Page]] = {}
        """By format, those that are not begun yet."""
        self._takers: dict[web.RequestHandler, asyncio.Task[Page]] = {}
        """Who waits for which page, or is taking it; the one that asked longest ago first."""

    async def answer(self, request: web.BaseRequest, accept: str) -> web.StreamResponse:
        """Send the page of a format to one client."""
        if accept not in self._asked_for:
            self._asked_for[accept] = asyncio.create_task(self._next(accept))
        page = self._takers[request.protocol] = self._asked_for[accept]
        try:
            return await _send(request, *await asyncio.shield(page))
        finally:
            del self._takers[request.protocol]

    async def _next(self, accept: str) -> Page:
        async with self._making:
            del self._asked_for[accept]
            self._give_up_the_oldest()
            return await _in_thread(partial(self._make, accept))

    def _give_up_the_oldest(self) -> None:
        made = [page for page in dict.fromkeys(self._takers.values()) if page.done()]
        given_up = made[:-MAX_OLDER_PAGES]
        for taker, page in self._takers.items():
            if page in given_up and taker.transport is not None:
                taker.transport.abort()


async def _send(request: web.BaseRequest, body: bytes, kind: str) -> web.StreamResponse:
    """Send each piece when the client has taken those before it, and all others had a turn."""
    response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(body))})
    with suppress(ConnectionError):  # the client has left
        await response.prepare(request)
        if request.method != "HEAD":
            for start in range(0, len(body), PIECE_BYTES):
                await response.write(body[start : start + PIECE_BYTES])
                await request.writer.drain()
                await asyncio.sleep(0)
    return response


async def _in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread for which the end of the process does not wait."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def call() -> None:
        try:
            outcome.set_result(function())
        except Exception as error:  # noqa: BLE001 -- it is raised where the outcome is awaited
            outcome.set_exception(error)

    threading.Thread(target=call, name="page", daemon=True).start()
    return await asyncio.wrap_future(outcome)
