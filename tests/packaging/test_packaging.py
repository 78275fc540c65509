"""What is shipped: the wheel, the lock, the image's description."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it far from the sources."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--target", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return folder


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
    assert [path.name for path in installed.iterdir() if path.name == "tests"] == []


def test_the_lock_pins_every_dependency_by_hash_and_says_nowhere_where_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in project["dependencies"]:
        name = re.split(r"[<>=;\[ ]", dependency)[0]
        assert re.search(rf"(?m)^{re.escape(name)}==\S+ ", LOCK), name
    pins = re.findall(r"(?m)^[a-z0-9].*?==", LOCK)
    assert len(pins) == len(re.findall(r"(?ms)^[a-z0-9][^\n]*?==.*?--hash=sha256:", LOCK))
    assert "://" not in LOCK


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
