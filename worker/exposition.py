"""The HTTP server, in a thread with a loop of its own: it answers even when the main loop hangs."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from worker.errors import WorkerError
from worker.pages import OPENMETRICS, Page, Pages
from worker.watchdog import ALIVE_SECONDS, STUCK_SECONDS, Pulse, end_stuck_process, watch

BACKLOG = 1024
START_SECONDS = 10.0
MAX_HEADER_BYTES = 4096

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

LANDING_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>database health worker</title></head>
<body><h1>database health worker</h1>
<ul>
<li><a href="/metrics">/metrics</a> for Prometheus</li>
<li><a href="/healthz">/healthz</a> whether this worker is alive</li>
<li><a href="/readyz">/readyz</a> whether it can use the registry</li>
</ul></body></html>
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take, and how long a worker may be stuck."""

    connections: int = 100
    request_seconds: float = 10.0
    """How long a client may take to send its request, to take the answer, or to come back."""
    alive_seconds: float = ALIVE_SECONDS
    stuck_seconds: float = STUCK_SECONDS


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the HTTP server tells of the worker besides its series."""

    page: Callable[[str], Page]
    """Makes the page of series that an Accept header asks for; called in any thread."""
    pulse: Pulse
    is_ready: Callable[[], bool]


def bind(host: str, port: int) -> socket.socket:
    """Bind the server's socket: both families for `::`, IPv4 alone where IPv6 is off.

    Raises:
        WorkerError: the port is in use, or the host is no address of this machine.
    """
    try:
        if host == "::" and not socket.has_dualstack_ipv6():
            host = "0.0.0.0"  # noqa: S104 -- the contract's default is every address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server(
            (host, port),
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=host == "::",
        )
    except OSError as error:
        raise WorkerError(
            f"PORT {port} on METRICS_HOST {host} {_why_not_bound(error)}; choose another"
        ) from None


_UNKNOWN_NAMES = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_AGAIN, socket.EAI_ADDRFAMILY)


def _why_not_bound(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use"
    if error.errno in {errno.EADDRNOTAVAIL, *_UNKNOWN_NAMES}:
        return "cannot be bound: the host is no address of this machine"
    return f"cannot be bound: {os.strerror(error.errno or 0).lower()}"


class BoundedServer(web.Server):
    """Keeps few connections, and none for long: descriptors and memory are for checks."""

    def __init__(self, handler: Handler, bounds: Bounds) -> None:
        super().__init__(
            handler,
            access_log=None,
            logger=_quiet_logger(),
            keepalive_timeout=bounds.request_seconds,
            lingering_time=0,
            handler_cancellation=True,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        self._bounds = bounds
        self._transports: dict[web.RequestHandler, asyncio.Transport] = {}
        """The one that asked longest ago first."""
        self._alarms: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, for which the oldest has to go where there are too many."""
        super().connection_made(handler, transport)
        self._transports[handler] = transport
        self.extend(handler)
        if len(self._transports) > self._bounds.connections:
            self._transports.pop(next(iter(self._transports))).abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        self._transports.pop(handler, None)
        self._calm(handler)

    def pre_shutdown(self) -> None:
        """Drop every connection: to those that do not read, aiohttp would go on sending."""
        for transport in self._transports.values():
            transport.abort()
        super().pre_shutdown()

    def extend(self, handler: web.RequestHandler) -> None:
        """Give a connection time again: it is new, or it has asked."""
        if (transport := self._transports.pop(handler, None)) is None:
            return
        self._transports[handler] = transport
        self._calm(handler)
        loop = asyncio.get_running_loop()
        self._alarms[handler] = loop.call_later(self._bounds.request_seconds, transport.abort)

    def _calm(self, handler: web.RequestHandler) -> None:
        if alarm := self._alarms.pop(handler, None):
            alarm.cancel()


class Exposition:
    """Serves until stopped; owns the socket it is given, its thread and its loop."""

    def __init__(
        self, server_socket: socket.socket, vitals: Vitals, bounds: Bounds | None = None
    ) -> None:
        self._socket = server_socket
        self._vitals = vitals
        self._bounds = bounds or Bounds()
        self._pages = Pages(vitals.page)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="exposition", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Serve from now on, and watch the pulse."""
        self._thread.start()
        self._started.result(timeout=START_SECONDS)

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=START_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = BoundedServer(lambda request: self._answer(server, request), self._bounds)
        runner = web.ServerRunner(server, shutdown_timeout=0)
        await runner.setup()
        site = web.SockSite(runner, self._socket, backlog=BACKLOG)
        await site.start()
        watching = asyncio.create_task(
            watch(self._vitals.pulse, end_stuck_process, self._bounds.stuck_seconds)
        )
        self._started.set_result(None)
        await self._stopping.wait()
        watching.cancel()
        await runner.cleanup()

    async def _answer(self, server: BoundedServer, request: web.BaseRequest) -> web.StreamResponse:
        server.extend(request.protocol)
        routes: Mapping[str, Handler] = {
            "/": _landing,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        route = routes.get(request.path)
        if route is None:
            return web.json_response({"reason": "no such page"}, status=404)
        if request.method not in {"GET", "HEAD"}:
            return web.json_response(
                {"reason": "only GET and HEAD"}, status=405, headers={"Allow": "GET, HEAD"}
            )
        return await route(request)

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        accept = OPENMETRICS if OPENMETRICS in request.headers.get("Accept", "") else ""
        return await self._pages.answer(request, accept)

    async def _healthz(self, _: web.BaseRequest) -> web.Response:
        age = self._vitals.pulse.age
        is_alive = age < self._bounds.alive_seconds
        reason = f"a tick ended {age:.1f} s ago" if is_alive else f"no tick ended for {age:.0f} s"
        return web.json_response({"reason": reason}, status=200 if is_alive else 503)

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        is_ready = self._vitals.is_ready()
        reason = "the registry can be used" if is_ready else "the registry cannot be used"
        return web.json_response({"reason": reason}, status=200 if is_ready else 503)


def _quiet_logger() -> logging.Logger:
    """Log what breaks here, and not each absurd request of a stranger's with its traceback."""
    logger = logging.getLogger(__name__)
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _landing(_: web.BaseRequest) -> web.Response:
    return web.Response(text=LANDING_PAGE, content_type="text/html")
