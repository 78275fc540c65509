"""The dead-man switch: when no tick has ended for two minutes, the process ends with 1."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from worker.words import Event

STUCK_SECONDS = 120.0
ALIVE_SECONDS = 30.0
LOOK_SECONDS = 1.0


class Pulse:
    """When the last tick ended; written by the main loop, read by the HTTP server's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._beat = time.monotonic()

    def beat(self) -> None:
        """Note that a tick has ended, well or by a registry error."""
        with self._lock:
            self._beat = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last tick ended; since the start, where none has."""
        with self._lock:
            return time.monotonic() - self._beat


async def watch(
    pulse: Pulse, give_up: Callable[[float], None], stuck_seconds: float = STUCK_SECONDS
) -> None:
    """Call `give_up` with the age of the last beat once it is too old; runs until cancelled."""
    while True:
        age = pulse.age
        if age >= stuck_seconds:
            give_up(age)
            return
        await asyncio.sleep(min(LOOK_SECONDS, stuck_seconds - age))


def end_stuck_process(age: float) -> None:
    """End the process because the last tick ended `age` seconds ago."""
    end_process(f"no tick has ended for {age:.0f} s: the worker is stuck and ends itself")


def end_process(message: str) -> None:
    """End the process at once with exit code 1: the main loop, or logging, may never return."""
    line = {
        "timestamp": datetime.now(UTC).isoformat(),
        "level": "error",
        "event": Event.WORKER_STOPPED,
        "message": message,
        "exit_code": 1,
    }
    with suppress(OSError):  # the reader of a full or broken pipe must not keep us
        os.set_blocking(sys.stdout.fileno(), False)
        os.write(sys.stdout.fileno(), json.dumps(line).encode() + b"\n")
    os._exit(1)
