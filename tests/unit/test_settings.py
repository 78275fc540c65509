"""Settings are read all at once, and no fault shows a value."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from worker.errors import SettingsError
from worker.settings import ProbeSettings, SchemaSettings, Settings, read

URL = "postgresql://u:hunter2@registry.example:5433/db"


def faults(**environment: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(Settings, environment)
    assert "hunter2" not in f"{caught.value} {caught.value!r}"
    return caught.value.faults


def test_the_defaults_are_those_of_the_contract() -> None:
    made = read(Settings, {"DATABASE_URL": URL})
    assert made.database_url.get_secret_value() == URL
    assert (made.registry_timeout_seconds, made.check_interval_seconds) == (10, 60)
    assert (made.tick_seconds, made.max_concurrent_checks) == (1, 200)
    assert (made.check_deadline_seconds, made.shutdown_grace_seconds) == (30, 10)
    assert (made.metrics_host, made.port, made.metrics_max_databases) == ("::", 9464, 20_000)
    assert (made.log_level, made.log_format) == ("info", "json")
    assert (made.allowed_networks, made.blocked_networks) == ((), ())
    assert (made.probes, made.mongodb_driver) == ("wire", "pymongo")


def test_an_empty_variable_counts_as_unset() -> None:
    made = read(Settings, {"DATABASE_URL": URL, "PORT": "", "LOG_LEVEL": "  "})
    assert (made.port, made.log_level) == (9464, "info")


def test_nothing_shows_the_registrys_url() -> None:
    made = read(Settings, {"DATABASE_URL": URL})
    assert "hunter2" not in f"{made!r} {made!s} {made.model_dump()} {made.model_dump_json()}"


def test_every_fault_is_named_at_once_without_its_value() -> None:
    lines = faults(
        DATABASE_URL="mysql://u:hunter2@h",
        PORT="hunter2",
        TICK_SECONDS="hunter2",
        PROBES="hunter2",
        ALLOWED_NETWORKS="10.0.0.0/8,hunter2",
        LOG_LEVEL="hunter2",
        MAX_CONCURRENT_CHECKS="0",
    )
    assert {line.partition(":")[0] for line in lines} == {
        *("DATABASE_URL", "PORT", "TICK_SECONDS", "PROBES", "ALLOWED_NETWORKS", "LOG_LEVEL"),
        "MAX_CONCURRENT_CHECKS",
    }
    assert all("\n" not in line for line in lines)


def test_a_missing_registry_is_named_with_what_to_do() -> None:
    (line,) = faults()
    assert line.startswith("DATABASE_URL is not set: ")
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        read(SchemaSettings, {})


@pytest.mark.parametrize(
    "url",
    [
        *("hunter2", "mysql://u:hunter2@h/db", "postgresql://u:hun/ter2@h/db"),
        *("postgresql://u:12/hunter2@h/db", "postgresql://u:12?hunter2@h/db"),
        *("postgresql://u:12#hunter2@h/db", "postgresql://u:hunter2@h:port/db"),
        *("postgresql://u:hunter2@h:0/db", "postgresql://u:hunter2@[::1/db"),
    ],
)
def test_a_registry_url_that_is_none_or_hides_its_password_badly_is_refused(url: str) -> None:
    (line,) = faults(DATABASE_URL=url)
    assert line.startswith("DATABASE_URL: is no URL")


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://u:p@h1,h2/db", "postgresql://u:p@h1:5432,h2:5433/db"),
        "postgresql://u:p@/db?host=h1,h2",
    ],
)
def test_a_registry_has_one_host(url: str) -> None:
    (line,) = faults(DATABASE_URL=url)
    assert line.startswith("DATABASE_URL: names several hosts")
    assert read(Settings, {"DATABASE_URL": "postgresql://u:p,w@h/db"})


def test_lists_of_networks_take_commas_and_blanks() -> None:
    given = {"DATABASE_URL": URL, "ALLOWED_NETWORKS": " 10.1.2.3/8, fd00::/8\t192.168.0.1 "}
    assert read(Settings, given).allowed_networks == (
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
        ip_network("192.168.0.1/32"),
    )


def test_the_owners_url_goes_before_the_workers_for_the_schema() -> None:
    owner = URL.replace("u:", "owner:")
    both = {"DATABASE_URL": URL, "SCHEMA_DATABASE_URL": owner}
    assert read(SchemaSettings, both).schema_database_url.get_secret_value() == owner
    only = {"DATABASE_URL": URL}
    assert read(SchemaSettings, only).schema_database_url.get_secret_value() == URL


def test_a_replica_of_railways_is_known_by_its_id() -> None:
    given = {"DATABASE_URL": URL, "RAILWAY_REPLICA_ID": "replica"}
    assert read(Settings, given).worker_id == "replica"
    assert read(Settings, {**given, "WORKER_ID": "mine"}).worker_id == "mine"


def test_probe_needs_no_registry() -> None:
    assert read(ProbeSettings, {"PROBES": "DRIVERS"}).probes == "drivers"
