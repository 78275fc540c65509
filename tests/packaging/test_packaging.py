"""What is shipped: the wheel, the lock, the image's description."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


SCHEMA = sorted(path.name for path in (ROOT / "schema").glob("*.sql"))
FILLED_IN = "006_register_railway_databases_production.sql"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of a checkout with a filled-in registration; unpack it far from there."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    for name in ("worker", "schema"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    (source / "schema" / FILLED_IN).write_text("select 'a real password'")
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--target", folder, source],
        check=True,
        capture_output=True,
    )
    return folder


def test_the_wheel_holds_every_schema_file_but_a_filled_in_registration(installed: Path) -> None:
    shipped = sorted(path.name for path in (installed / "worker" / "_schema").iterdir())
    assert shipped == [name for name in SCHEMA if name != FILLED_IN]
    assert sorted(path.name for path in installed.iterdir() if path.suffix == "") == [
        "bin",
        "worker",
    ]


@pytest.mark.timeout(120)
def test_an_installed_worker_applies_the_schema_from_any_folder_without_psql(
    installed: Path, tmp_path: Path, empty_database_url: str
) -> None:
    environment = {"DATABASE_URL": empty_database_url, "PYTHONPATH": str(installed), "PATH": ""}
    script = installed / "bin" / "health-worker"
    done = subprocess.run(
        [sys.executable, script, "schema", "apply"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [
        "applied 000_platform_prerequisites.sql",
        "applied 006_add_platform_databases_table.sql",
        "applied 007_add_database_health_scheduling.sql",
    ]


def test_the_lock_pins_every_dependency_by_hash_and_says_nowhere_where_from() -> None:
    pins = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+) ", LOCK))
    assert len(pins) == len(re.findall(r"(?ms)^[a-z0-9-]+==[^\n]*?\\\n +--hash=sha256:", LOCK))
    assert "://" not in LOCK
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in map(Requirement, project["dependencies"]):
        assert dependency.specifier.contains(pins[dependency.name]), dependency


def test_the_image_runs_the_worker_itself_and_not_as_root() -> None:
    assert 'ENTRYPOINT ["health-worker"]' in DOCKERFILE
    assert re.search(r"(?m)^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE)
    assert (ROOT / "Procfile").read_text(encoding="utf-8").splitlines() == [
        "release: health-worker schema apply",
        "worker: health-worker run",
    ]


@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
def test_a_filled_in_registration_is_neither_committed_nor_shipped(name: str) -> None:
    ignored = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert "schema/006_register_railway_databases_production.sql" in ignored
