from __future__ import annotations

from uuid import UUID

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from worker import fleet_series
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.model import DatabaseState, Identity
from worker.words import Reason, Status

HOSTILE_NAMES = ['a "quoted" one', "back\\slash", "two\nlines", "\\n", "", "{}=,", "日本"]


def fleet_of(*states: DatabaseState) -> Metrics:
    fleet = Fleet(fleet_series.write)
    fleet.take(states, 0.0)
    return Metrics(fleet, "1", "test")


def state(name: str, status: Status, latency: float | None = 0.25) -> DatabaseState:
    number = sum(name.encode())
    identity = Identity(UUID(int=number), UUID(int=1), name, "redis")
    return DatabaseState(identity, status, Reason.OK, latency, 1764100000.123)


def read(metrics: Metrics, accept: str) -> dict[tuple[str, str], float]:
    page, kind = metrics.page(accept)
    assert kind.startswith(accept or "text/plain")
    parse = (
        openmetrics_parser.text_string_to_metric_families
        if accept
        else parser.text_string_to_metric_families
    )
    return {
        (sample.name, sample.labels["name"]): float(sample.value)
        for family in parse(page.decode())
        for sample in family.samples
        if "database_id" in sample.labels
    }


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_prometheus_reads_back_every_name_and_value(accept: str) -> None:
    metrics = fleet_of(*(state(name, Status.HEALTHY) for name in HOSTILE_NAMES))
    series = read(metrics, accept)
    for name in HOSTILE_NAMES:
        assert series["database_health_up", name] == 1
        assert series["database_health_unknown", name] == 0
        assert series["database_health_latency_seconds", name] == 0.25
        assert series["database_health_last_check_timestamp_seconds", name] == 1764100000.123


def test_a_status_is_shown_as_the_contract_says() -> None:
    series = read(
        fleet_of(
            state("slow", Status.DEGRADED),
            state("down", Status.UNHEALTHY, None),
            state("new", Status.UNKNOWN, None),
        ),
        "",
    )
    assert series["database_health_up", "slow"] == 1
    assert series["database_health_up", "down"] == 0
    assert ("database_health_up", "new") not in series
    assert series["database_health_unknown", "new"] == 1
    assert ("database_health_latency_seconds", "down") not in series
