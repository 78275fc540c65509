"""Every series that the worker exports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    exposition,
)
from prometheus_client.openmetrics import exposition as openmetrics

from worker import fleet_series
from worker.fleet import Fleet
from worker.model import CheckResult
from worker.pages import OPENMETRICS, Page
from worker.words import Engine, Phase, Reason, Status

PREFIX = "database_health"
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LATENESS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class _EngineSeries:
    """What is counted of one engine's checks, its labels bound once: binding costs 2 us a time."""

    checks: Counter
    retries: Counter
    duration: Histogram
    failures: Mapping[Reason, Counter]
    phases: Mapping[Phase, Histogram]


def _engine_series(registry: CollectorRegistry) -> Mapping[str, _EngineSeries]:
    engine = ("engine",)
    checks = Counter(f"{PREFIX}_checks", "Finished checks", engine, registry=registry)
    failures = Counter(
        f"{PREFIX}_check_failures",
        "Finished checks that neither answered nor answered slowly",
        ("engine", "reason"),
        registry=registry,
    )
    retries = Counter(
        f"{PREFIX}_check_retries", "Attempts after a check's first", engine, registry=registry
    )
    duration = Histogram(
        f"{PREFIX}_check_duration_seconds",
        "Seconds from the first attempt to the result, retries included",
        engine,
        buckets=DURATION_BUCKETS,
        registry=registry,
    )
    phase = Histogram(
        f"{PREFIX}_check_phase_seconds",
        "Seconds of one phase of the attempt that answered",
        ("engine", "phase"),
        buckets=DURATION_BUCKETS,
        registry=registry,
    )
    return {
        str(name): _EngineSeries(
            checks.labels(name),
            retries.labels(name),
            duration.labels(name),
            {reason: failures.labels(name, reason) for reason in Reason if reason.is_failure},
            {each: phase.labels(name, each) for each in Phase},
        )
        for name in Engine
    }


class Metrics:
    """The worker's own series; implements ports.Meter."""

    def __init__(self, fleet: Fleet, version: str, worker_id: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type here
        registry = self._registry = CollectorRegistry()
        self._fleet = fleet
        self._databases = Gauge(
            f"{PREFIX}_databases", "Active databases", ("engine", "status"), registry=registry
        )
        self._engines = _engine_series(registry)
        self._lateness = Histogram(
            f"{PREFIX}_check_lateness_seconds",
            "Start of the first attempt minus due time",
            buckets=LATENESS_BUCKETS,
            registry=registry,
        )
        self._tick = Histogram(
            f"{PREFIX}_tick_duration_seconds", "Seconds that a tick took", registry=registry
        )

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, registry=registry)

        self._in_flight = gauge("checks_in_flight", "Slots in use")
        self._overdue = gauge("overdue_databases", "Databases that wait past their due time")
        self._last_tick = gauge("last_tick_timestamp_seconds", "When the last tick ended")
        self._registry_up = gauge("registry_up", "Whether the registry can be used")
        self._pending = gauge("results_pending", "Results that wait for the registry")
        self._registry_errors = Counter(
            f"{PREFIX}_registry_errors",
            "Failed calls to the registry",
            ("operation",),
            registry=registry,
        )
        info = Gauge(
            f"{PREFIX}_worker_info", "This worker", ("version", "worker_id"), registry=registry
        )
        info.labels(version, worker_id).set(1)
        for operation in ("tend", "claim", "read", "record", "give_back", "announce", "snapshot"):
            self._registry_errors.labels(operation)

    def page(self, accept: str) -> Page:
        """Write every series, in the format that an Accept header asks for; in any thread."""
        fleet = fleet_series.join(self._fleet.lines())
        if OPENMETRICS in accept:
            rest = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]  # the library has no type here
            return fleet + rest, openmetrics.CONTENT_TYPE_LATEST
        return fleet + exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_LATEST

    def count(self, databases: Mapping[tuple[str, str], int]) -> None:
        """Set the number of active databases by engine and status."""
        for engine in Engine:
            for status in Status:
                self._databases.labels(engine, status).set(databases.get((engine, status), 0))

    def checked(self, result: CheckResult) -> None:
        """Count one finished check; a row of no known engine has no series."""
        series = self._engines.get(result.identity.engine)
        if series is None:
            return
        series.checks.inc()
        series.duration.observe(result.duration)
        self._lateness.observe(result.lateness)
        if result.reason.is_failure:
            series.failures[result.reason].inc()
        if result.attempts > 1:
            series.retries.inc(result.attempts - 1)
        for phase, seconds in result.phases.items():
            series.phases[phase].observe(seconds)

    def watch(self, in_flight: Callable[[], int], pending: Callable[[], int]) -> None:
        """Take whom to ask, in any thread, for each page: slots in use, results that wait."""
        self._in_flight.set_function(in_flight)
        self._pending.set_function(pending)

    def ticked(self, seconds: float) -> None:
        """Note that a tick has ended, well or by a registry error."""
        self._tick.observe(seconds)
        self._last_tick.set(time.time())

    def overdue(self, databases: int) -> None:
        """Set how many databases wait past their due time."""
        self._overdue.set(databases)

    def registry_failed(self, operation: str) -> None:
        """Count a failed call to the registry."""
        self._registry_errors.labels(operation).inc()

    def registry_usable(self, *, usable: bool) -> None:
        """Set whether the registry can be used."""
        self._registry_up.set(float(usable))
