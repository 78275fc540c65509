"""How the worker's parts are set going."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from worker import app
from worker.app import App
from worker.clock import Job
from worker.compose import build
from worker.errors import WorkerError
from worker.settings import Settings, read


class StillClock:
    """Fires nothing, and remembers what should tell how long each job waits."""

    gaps: dict[str, Callable[[], float] | None]

    def __init__(self) -> None:
        StillClock.gaps = {}

    def every(
        self, seconds: float, job: Job, name: str, *, gap: Callable[[], float] | None = None
    ) -> None:
        self.gaps[name] = gap

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


async def test_the_rhythm_of_claims_tells_when_the_next_tick_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "Clock", StillClock)
    worker = App(read(Settings, {"DATABASE_URL": "postgresql://worker@127.0.0.1:1/registry"}))
    worker._fatal = WorkerError("so that it ends before it asks the registry")
    worker._stopping.set()
    parts = build(worker._settings, worker._log)
    await worker._work(parts)
    assert StillClock.gaps == {
        "tick": parts.dispatcher.rhythm.gap,
        "refresh": None,
        "adopt": None,
    }
