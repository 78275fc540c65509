"""Every alert that the README writes down fires on what it names, and on nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from testbed.prometheus import promtool

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
(RULES,) = re.findall(r"(?ms)^```yaml\n(groups:.*?)^```$", README)
ALERTS = re.findall(r"(?m)- alert: (\w+)$", RULES)

DATABASE = '{instance="a", database_id="1", project_id="1", name="x", engine="redis"}'
INTERNAL = '{instance="a", engine="redis", reason="internal"}'
MINUTES = 30
ALL_IS_WELL = {
    'database_health_last_tick_timestamp_seconds{instance="a"}': f"0+60x{MINUTES}",
    f"database_health_last_check_timestamp_seconds{DATABASE}": f"0+60x{MINUTES}",
    f"database_health_up{DATABASE}": f"1x{MINUTES}",
    f"database_health_unknown{DATABASE}": f"0x{MINUTES}",
    f"database_health_latency_seconds{DATABASE}": f"0.01x{MINUTES}",
    'database_health_overdue_databases{instance="a"}': f"0x{MINUTES}",
    'database_health_registry_up{instance="a"}': f"1x{MINUTES}",
    f"database_health_check_failures_total{INTERNAL}": f"0x{MINUTES}",
}
TROUBLE = {
    "NoWorkerIsRunning": ("database_health_last_tick_timestamp_seconds", f"0x{MINUTES}"),
    "DatabaseIsDown": ("database_health_up", f"0x{MINUTES}"),
    "DatabaseIsSlow": ("database_health_latency_seconds", f"0.6x{MINUTES}"),
    "DatabaseCannotBeChecked": ("database_health_unknown", f"1x{MINUTES}"),
    "DatabaseHasNoFreshAnswer": ("database_health_last_check_timestamp_seconds", f"0x{MINUTES}"),
    "TooFewSlots": ("database_health_overdue_databases", f"7x{MINUTES}"),
    "RegistryIsAway": ("database_health_registry_up", f"0x{MINUTES}"),
    "FaultOfOurs": ("database_health_check_failures_total", f"0x20 1x{MINUTES}"),
}


def firing(series: dict[str, str], folder: Path) -> list[str]:
    """Let promtool evaluate the rules on these series, and return the alerts that fire."""
    (folder / "rules.yml").write_text(RULES)
    fired = []
    for alert in ALERTS:
        case = {
            "interval": "1m",
            "input_series": [{"series": name, "values": at} for name, at in series.items()],
            "alert_rule_test": [{"eval_time": "25m", "alertname": alert, "exp_alerts": []}],
        }
        test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]}
        (folder / "test.yml").write_text(json.dumps(test))  # JSON is YAML, too
        done = promtool("test", "rules", "test.yml", folder=folder)
        assert done.returncode == 0 or f"alertname: {alert}" in done.stdout, done.stdout
        fired += [alert] * done.returncode
    return fired


def test_the_first_alert_is_that_no_worker_is_running() -> None:
    assert ALERTS[0] == "NoWorkerIsRunning"
    assert sorted(ALERTS) == sorted(TROUBLE)


def test_promtool_accepts_the_alerts(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    assert firing(ALL_IS_WELL, tmp_path) == []


def test_an_alert_fires_when_no_worker_has_ever_been_scraped(tmp_path: Path) -> None:
    assert firing({}, tmp_path) == ["NoWorkerIsRunning"]


@pytest.mark.parametrize("alert", TROUBLE)
def test_an_alert_fires_on_what_it_names(alert: str, tmp_path: Path) -> None:
    name, values = TROUBLE[alert]
    series = {key: values if key.startswith(name) else ALL_IS_WELL[key] for key in ALL_IS_WELL}
    assert firing(series, tmp_path) == [alert]
