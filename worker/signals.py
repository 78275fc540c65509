"""SIGTERM and SIGINT, heard in a thread of its own: a blocked main loop cannot miss them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from worker.watchdog import end_process

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MARGIN_SECONDS = 3.0
"""How long the process may take to end after its grace."""


class Signals:
    """Passes the first signal on; a second one, or too long a goodbye, ends the process."""

    def __init__(self, on_signal: Callable[[], None], grace: float) -> None:
        """Take what to do at the first signal, in this thread, and the drain bound in seconds."""
        self._on_signal = on_signal
        self._patience = grace + MARGIN_SECONDS
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)

    def start(self) -> None:
        """Listen from now on; call it before other threads start, they inherit what is blocked."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._thread.start()

    def _listen(self) -> None:
        signal.sigwait(SIGNALS)
        self._on_signal()
        if signal.sigtimedwait(SIGNALS, self._patience) is None:
            end_process("the worker did not end within its grace and ends itself")
        end_process("stopped at once by a second signal")
