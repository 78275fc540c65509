"""The demo shows the truth, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TRUTH = {
    "catalogue": ("healthy", "ok"),
    "orders": ("healthy", "ok"),
    "wrong password": ("unhealthy", "auth"),
    "no such database": ("unhealthy", "missing"),
    "nothing listens": ("unhealthy", "refused"),
    "silent server": ("unhealthy", "timeout"),
    "unusable URL": ("unknown", "misconfigured"),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers may enter, who run as somebody else when we are root."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextmanager
def demo(folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "demo", "--seconds", str(seconds)],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        yield running


@pytest.mark.timeout(180)
def test_the_demo_tells_every_database_with_its_status_and_reason(folder: Path) -> None:
    with demo(folder, 10) as running:
        shown = running.communicate(timeout=150)[0]
    assert running.returncode == 0, shown
    for name, (status, reason) in TRUTH.items():
        assert re.search(rf"(?m)^ *{name} .*● {status} +{reason} ", shown), (name, shown)
    assert "now we stop the Redis server behind «sessions»" in shown
    assert "metrics: http://127.0.0.1:" in shown
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(180)
def test_an_interrupted_demo_leaves_nothing_behind(folder: Path) -> None:
    with demo(folder, 0) as running:
        end = time.monotonic() + 60
        while not any(folder.glob("testbed-*/log")):  # its servers are just starting
            assert time.monotonic() < end
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        shown = running.communicate(timeout=100)[0]
    assert "Traceback" not in shown
    assert running.returncode == 0
    assert list(folder.iterdir()) == []
