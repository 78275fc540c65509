"""Composition root: puts the worker's parts together; only here settings meet concrete classes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from worker import __version__, fleet_series, probes
from worker.announce import Announcer
from worker.check import Checker
from worker.deliver import Sinks
from worker.dispatch import Dispatcher
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.network import AddressRules, Network
from worker.outbox import Outbox
from worker.ports import Log
from worker.refresh import Refresh
from worker.registry import Pace, Registry
from worker.registry_connection import RegistryConnection
from worker.registry_fleet import RegistryFleet
from worker.settings import Settings

MIN_OVERDUE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that one worker is made of."""

    settings: Settings
    log: Log
    metrics: Metrics
    connection: RegistryConnection
    registry: Registry
    refresh: Refresh
    announcer: Announcer
    outbox: Outbox
    dispatcher: Dispatcher


def make_rules(settings: Settings) -> AddressRules:
    """Make the rules about whom the probes may contact."""
    return AddressRules.build(settings.allowed_networks, settings.blocked_networks)


def make_checker(settings: Settings, rules: AddressRules, log: Log) -> Checker:
    """Make the one that checks rows."""
    return Checker(
        probes.table(settings.probes, settings.mongodb_driver, Network(rules)),
        log,
        deadline=settings.check_deadline_seconds,
        default_interval=settings.check_interval_seconds,
    )


def make_registry(
    settings: Settings, rules: AddressRules, log: Log, metrics: Metrics
) -> tuple[RegistryConnection, Registry]:
    """Make the way to the registry; connects when first used, and then protects its address."""
    url = settings.database_url.get_secret_value()
    connection = RegistryConnection(
        url,
        settings.registry_timeout_seconds,
        log,
        metrics,
        on_connect=lambda: _protect_registry(rules, url),
    )
    pace = Pace.of(settings.tick_seconds, settings.check_deadline_seconds)
    return connection, Registry(connection, pace)


def make_refresh(settings: Settings, connection: RegistryConnection, fleet: Fleet) -> Refresh:
    """Make the one that keeps the fleet's states true to the registry."""
    overdue_after = max(MIN_OVERDUE_SECONDS, 2 * settings.tick_seconds)
    registry = RegistryFleet(connection)
    return Refresh(registry, fleet, settings.metrics_max_databases, overdue_after)


def build(settings: Settings, log: Log) -> Parts:
    """Put a worker together; contacts nobody."""
    fleet = Fleet(fleet_series.write)
    metrics = Metrics(fleet, __version__, settings.worker_id)
    rules = make_rules(settings)
    connection, registry = make_registry(settings, rules, log, metrics)
    announcer = Announcer(registry, log)
    sinks = Sinks(metrics, log, fleet)
    outbox = Outbox(registry, announcer, fleet, metrics, sinks.complain)
    dispatcher = Dispatcher(
        registry,
        make_checker(settings, rules, log),
        outbox,
        sinks,
        settings.max_concurrent_checks,
    )
    metrics.watch(lambda: dispatcher.in_flight, lambda: outbox.pending)
    return Parts(
        settings,
        log,
        metrics,
        connection,
        registry,
        make_refresh(settings, connection, fleet),
        announcer,
        outbox,
        dispatcher,
    )


async def _protect_registry(rules: AddressRules, url: str) -> None:
    """Look up where the registry is, so that no row can make the worker contact it."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    # As asyncpg reads it: the options count where nothing stands in front.
    host, port = parts.hostname or options.get("host", "localhost"), parts.port
    if host.startswith("/"):  # a unix socket: nothing that a row could name
        return
    found = await asyncio.get_running_loop().getaddrinfo(host, port or options.get("port", 5432))
    rules.protect((str(info[4][0]), int(info[4][1])) for info in found)
