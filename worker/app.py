"""The worker's life: connect, run, take down in stages; signals."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from worker import __version__, exposition, logs
from worker.clock import Clock
from worker.compose import Parts, build
from worker.crash import tell
from worker.errors import RegistryUnavailableError, WorkerError
from worker.exposition import Bounds, Exposition, Vitals
from worker.settings import Settings
from worker.signals import Signals
from worker.spellings import secrets_of
from worker.watchdog import Pulse
from worker.words import Event

REFRESH_SECONDS = 15.0
SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter from another: while a large page is written, the main
loop would wait Python's 5 ms after each of its system calls."""
YOUNG_OBJECTS = 20_000
"""How many more objects there have to be before a collection looks at the newest: hundreds of
checks under way have more than Python's 700 all the time, and most die without a collection."""
EXIT_FATAL = 1
Work = Callable[[], Coroutine[Any, Any, None]]
T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine with all descriptors there may be, on uvloop where it exists."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop  # noqa: PLC0415 -- Windows has none

        factory = uvloop.new_event_loop
    _allow_descriptors()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _allow_descriptors() -> None:
    """Take as many descriptors as there may be: shells give 1,024, and a check may want dozens."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 -- Windows has none

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # some systems say "any number" and mean less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class App:
    """One worker from its first line in the log to its last."""

    def __init__(self, settings: Settings, bounds: Bounds | None = None) -> None:
        self._settings = settings
        self._bounds = bounds
        self._log = logs.configure(settings.log_level, settings.log_format)
        self._pulse = Pulse()
        self._stopping = asyncio.Event()
        self._fatal: WorkerError | None = None
        self._has_said_that_series_are_off = False

    async def run(self) -> int:
        """Work until a signal or a fatal fault; return the exit code."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(self._stopping.set)

        sys.setswitchinterval(SWITCH_SECONDS)
        Signals(stop, self._settings.shutdown_grace_seconds).start()
        try:
            server_socket = exposition.bind(self._settings.metrics_host, self._settings.port)
        except WorkerError as fault:
            return self._stopped(fault)
        parts = build(self._settings, self._log)
        server = Exposition(
            server_socket,
            Vitals(parts.metrics.page, self._pulse, lambda: parts.connection.is_usable),
            self._bounds,
        )
        server.start()
        self._log(
            Event.WORKER_STARTED,
            "info",
            f"worker {self._settings.worker_id} started, metrics on port {server.port}",
            version=__version__,
            worker_id=self._settings.worker_id,
            port=server.port,
            probes=self._settings.probes,
        )
        gc.freeze()  # half of all objects are modules', and stay: no collection looks at them
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        try:
            await self._work(parts)
        finally:
            await parts.connection.close()
            server.stop()
        return self._stopped(self._fatal)

    async def _work(self, parts: Parts) -> None:
        clock = Clock()

        def every(
            seconds: float, work: Work, name: str, gap: Callable[[], float] | None = None
        ) -> None:
            clock.every(seconds, lambda: self._try(work, name), name, gap=gap)

        tick, gap = self._settings.tick_seconds, parts.dispatcher.rhythm.gap
        every(tick, lambda: self._tick(parts), "tick", gap)
        every(REFRESH_SECONDS, lambda: self._refresh(parts), "refresh")
        every(REFRESH_SECONDS, parts.announcer.adopt, "adopt")
        helpers = [
            asyncio.create_task(self._keep_going(work, name), name=name)
            for work, name in ((parts.outbox.run, "outbox"), (parts.dispatcher.refill, "refill"))
        ]
        clock.start()
        await self._stopping.wait()
        await self._drain(parts)  # under a ticking clock: a long drain is not a stuck worker
        clock.stop()
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)

    async def _drain(self, parts: Parts) -> None:
        if self._fatal is not None:
            await parts.dispatcher.hang_up()
            return
        grace = self._settings.shutdown_grace_seconds
        self._log(Event.WORKER_DRAINING, "info", f"ending within {grace:g} s", grace_seconds=grace)
        await parts.dispatcher.drain(grace)

    async def _tick(self, parts: Parts) -> None:
        await parts.dispatcher.tick()
        self._pulse.beat()

    async def _refresh(self, parts: Parts) -> None:
        """Read the fleet for the metrics."""
        survey = await parts.refresh.run()
        if not survey.is_shown:
            self._say_that_series_are_off()
        if survey.counts is not None:
            parts.metrics.count(survey.counts)
        parts.metrics.overdue(survey.overdue)
        parts.dispatcher.note_overdue(survey.overdue)

    async def _try(self, work: Work, name: str) -> None:
        """Do what is done again in a while; whatever breaks in it, only a fatal fault ends us."""
        try:
            await work()
        except RegistryUnavailableError:
            return
        except WorkerError as fault:
            self._fatal = self._fatal or fault
            self._stopping.set()
        except Exception as error:  # noqa: BLE001 -- nothing that breaks may end clock or loop
            self._crashed(name, error)

    async def _keep_going(self, forever: Work, name: str) -> None:
        """Keep a loop of ours going whatever breaks in it."""
        while self._fatal is None:
            await self._try(forever, name)
            await asyncio.sleep(1)

    def _say_that_series_are_off(self) -> None:
        if self._has_said_that_series_are_off:
            return
        self._has_said_that_series_are_off = True
        limit = self._settings.metrics_max_databases
        self._log(
            Event.DATABASE_SERIES_OFF,
            "warn",
            f"the series of single databases are off: there are more than {limit} of them; "
            "raise METRICS_MAX_DATABASES to have them all the same",
            metrics_max_databases=limit,
        )

    def _crashed(self, what: str, error: Exception) -> None:
        secrets = secrets_of(self._settings.database_url.get_secret_value())
        self._log(
            Event.TICK_FAILED,
            "error",
            f"{what} failed: {type(error).__name__}",
            traceback=tell(error, secrets),
        )

    def _stopped(self, fault: WorkerError | None) -> int:
        if fault is None:
            self._log(Event.WORKER_STOPPED, "info", "worker stopped", exit_code=0)
            return 0
        self._log(Event.WORKER_STOPPED, "error", str(fault), exit_code=EXIT_FATAL)
        return EXIT_FATAL
