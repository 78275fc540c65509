"""The image's health check asks the worker that runs beside it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.worker import Worker, eventually

DOCKERFILE = (Path(__file__).parent.parent.parent / "Dockerfile").read_text(encoding="utf-8")
(HEALTH_CHECK,) = re.findall(r"(?m)^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE)


def is_healthy(**environment: str) -> bool:
    program, *arguments = json.loads(HEALTH_CHECK)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, timeout=30, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("host", ["::", "0.0.0.0", "::1", "127.0.0.1"])
async def test_the_health_check_finds_the_worker_wherever_it_listens(
    host: str, start: Callable[..., Worker]
) -> None:
    worker = start(METRICS_HOST=host)
    environment = {"PORT": str(worker.port), "METRICS_HOST": host}

    async def answers() -> bool:
        return is_healthy(**environment)

    await eventually(answers, "the health check is content")
    worker.stop()
    assert not is_healthy(**environment)
