"""The demo shows the truth, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
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


@contextmanager
def demo(folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    folder.chmod(0o755)  # as root, its servers run as somebody else
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-m", "demo", "--seconds", str(seconds)],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        yield running


@pytest.mark.timeout(180)
def test_the_demo_tells_every_database_with_its_status_and_reason(tmp_path: Path) -> None:
    with demo(tmp_path, 10) as running:
        shown = running.communicate(timeout=150)[0]
    assert running.returncode == 0, shown
    for name, (status, reason) in TRUTH.items():
        assert re.search(rf"(?m)^ *{name} .*● {status} +{reason} ", shown), (name, shown)
    assert "now we stop the Redis server behind «sessions»" in shown
    assert "metrics: http://127.0.0.1:" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(180)
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path, 0) as running:
        end = time.monotonic() + 60
        while not any(tmp_path.glob("testbed-*/log")):  # its servers are just starting
            assert time.monotonic() < end
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        shown = running.communicate(timeout=100)[0]
    assert "Traceback" not in shown
    assert running.returncode == 0
    assert list(tmp_path.iterdir()) == []
