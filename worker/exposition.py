"""The HTTP server, in a thread with a loop of its own: it answers even when the main loop hangs."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from worker.errors import WorkerError
from worker.watchdog import ALIVE_SECONDS, Pulse, end_process, watch

BACKLOG = 1024
REQUEST_SECONDS = 10.0
"""How long a client may take to send its request, or to come back with another."""
MAX_HEADER_BYTES = 4096

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

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
class Vitals:
    """What the HTTP server tells of the worker besides its series."""

    series: CollectorRegistry
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


def _why_not_bound(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "cannot be bound: the host is no address of this machine"
    return f"cannot be bound: {os.strerror(error.errno or 0).lower()}"


class Exposition:
    """Serves until stopped; owns the socket it is given, its thread and its loop."""

    def __init__(self, server_socket: socket.socket, vitals: Vitals) -> None:
        self._socket = server_socket
        self._vitals = vitals
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
        self._started.result(timeout=REQUEST_SECONDS)

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=REQUEST_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        runner = web.ServerRunner(
            web.Server(
                self._answer,
                access_log=None,
                keepalive_timeout=REQUEST_SECONDS,
                lingering_time=0,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
        )
        await runner.setup()
        site = web.SockSite(runner, self._socket, backlog=BACKLOG, shutdown_timeout=0)
        await site.start()
        watching = asyncio.create_task(watch(self._vitals.pulse, end_process))
        self._started.set_result(None)
        await self._stopping.wait()
        watching.cancel()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        routes: Mapping[str, Callable[[web.BaseRequest], web.Response]] = {
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
        return route(request)

    def _metrics(self, request: web.BaseRequest) -> web.Response:
        accept = request.headers.get("Accept", "")
        if "application/openmetrics-text" in accept:
            body = openmetrics.generate_latest(self._vitals.series)  # type: ignore[no-untyped-call]  # the library has no type here
            kind = openmetrics.CONTENT_TYPE_LATEST
        else:
            body = exposition.generate_latest(self._vitals.series)
            kind = exposition.CONTENT_TYPE_LATEST
        return web.Response(body=body, headers={"Content-Type": kind})

    def _healthz(self, _: web.BaseRequest) -> web.Response:
        age = self._vitals.pulse.age
        is_alive = age < ALIVE_SECONDS
        reason = f"a tick ended {age:.1f} s ago" if is_alive else f"no tick ended for {age:.0f} s"
        return web.json_response({"reason": reason}, status=200 if is_alive else 503)

    def _readyz(self, _: web.BaseRequest) -> web.Response:
        is_ready = self._vitals.is_ready()
        reason = "the registry can be used" if is_ready else "the registry cannot be used"
        return web.json_response({"reason": reason}, status=200 if is_ready else 503)


def _landing(_: web.BaseRequest) -> web.Response:
    return web.Response(text=LANDING_PAGE, content_type="text/html")
