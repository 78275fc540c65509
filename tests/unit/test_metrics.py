"""The series of the contract."""

from __future__ import annotations

import pytest

from tests.unit.nouns import identity, result
from worker import fleet_series
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.words import Engine, Phase, Reason, Status


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Fleet(fleet_series.write), "1.2.3", 'a "worker"\n')


def samples(metrics: Metrics, accept: str = "") -> dict[str, float]:
    text = metrics.page(accept)[0].decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_counters_start_at_zero_for_every_engine_and_reason(metrics: Metrics) -> None:
    found = samples(metrics)
    for engine in Engine:
        assert found[f'database_health_checks_total{{engine="{engine}"}}'] == 0
        assert found[f'database_health_check_retries_total{{engine="{engine}"}}'] == 0
        for reason in Reason:
            labels = f'{{engine="{engine}",reason="{reason}"}}'
            name = f"database_health_check_failures_total{labels}"
            assert found.get(name) == (0 if reason.is_failure else None)
    assert not [name for name in found if "_created" in name]


def test_a_check_counts_once_with_its_retries_and_phases(metrics: Metrics) -> None:
    metrics.checked(result(Reason.REFUSED, attempts=3))
    metrics.checked(result(Reason.OK, phases={Phase.PING: 0.002}))
    metrics.checked(result(Reason.SLOW))
    found = samples(metrics)
    assert found['database_health_checks_total{engine="redis"}'] == 3
    assert found['database_health_check_retries_total{engine="redis"}'] == 2
    failures = 'database_health_check_failures_total{engine="redis",reason="refused"}'
    assert found[failures] == 1
    assert sum(value for name, value in found.items() if "check_failures_total" in name) == 1
    phase = 'database_health_check_phase_seconds_count{engine="redis",phase="ping"}'
    assert found[phase] == 1


def test_a_row_of_no_known_engine_makes_no_series(metrics: Metrics) -> None:
    before = samples(metrics).keys()
    metrics.checked(result(Reason.MISCONFIGURED, identity=identity(engine="oracle")))
    assert samples(metrics).keys() == before


def test_a_name_cannot_forge_a_series() -> None:
    fleet = Fleet(fleet_series.write)
    made = Metrics(fleet, "1", "w")
    fleet.lay(result(identity=identity('a"} 1\ndatabase_health_up{name="\\')))
    ups = [name for name in samples(made) if name.startswith("database_health_up")]
    assert len(ups) == 1


def test_what_is_counted_of_the_fleet_replaces_what_was(metrics: Metrics) -> None:
    metrics.count({("redis", Status.HEALTHY): 5})
    metrics.count({("mongodb", Status.UNKNOWN): 2})
    found = samples(metrics)
    assert found['database_health_databases{engine="redis",status="healthy"}'] == 0
    assert found['database_health_databases{engine="mongodb",status="unknown"}'] == 2


def test_no_series_holds_an_error_or_an_address(metrics: Metrics) -> None:
    metrics.checked(result(Reason.AUTH, error="auth: the-secret (db.example:6379)"))
    text = metrics.page("")[0].decode()
    assert "the-secret" not in text
    assert "db.example" not in text
