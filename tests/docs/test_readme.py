"""The words for people name everything that other systems build on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker import fleet_series
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.settings import SchemaSettings, Settings
from worker.words import Event

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = sorted({*Settings.model_fields, *SchemaSettings.model_fields})
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MODULES = sorted(
    path.relative_to(ROOT / "worker").with_suffix("").as_posix()
    for path in (ROOT / "worker").rglob("*.py")
    if path.name != "__init__.py"
)
PAGE = Metrics(Fleet(fleet_series.write), "1", "test").page("")[0].decode()
SERIES = sorted(line.split()[2] for line in PAGE.splitlines() if line.startswith("# TYPE "))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_readme_names_every_setting(name: str) -> None:
    assert f"`{name.upper()}`" in README


@pytest.mark.parametrize("name", SERIES)
def test_the_readme_names_every_series(name: str) -> None:
    assert f"`{name}`" in README or f"`{name}{{" in README


@pytest.mark.parametrize("event", Event)
def test_the_readme_names_every_log_event(event: Event) -> None:
    assert f"`{event}`" in README


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = [part.split(")")[0] for part in README.split("](")[1:]]
    assert [link for link in links if "//" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_architecture_names_every_module(module: str) -> None:
    assert f"`{module}`" in ARCHITECTURE


def test_the_architecture_names_no_module_that_is_gone() -> None:
    house = ARCHITECTURE.partition("| floor |")[2].partition("Stairs go down")[0]
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*)`", house))
    assert named - set(MODULES) == {"config", "ok", "protocol", "closed", "run"}
