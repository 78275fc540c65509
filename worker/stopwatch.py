"""Where the time of a check went: phases, timed and added up."""

from __future__ import annotations

import time

from worker.words import Phase


class Stopwatch:
    """Times phases; one that is entered again adds up, one within itself counts once."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.phases: dict[Phase, float] = {}
        self.current: Phase | None = None
        """The phase that runs, or that was broken off."""

    def __call__(self, phase: Phase) -> _Timing:
        """Time what runs within."""
        return _Timing(self, phase)


class _Timing:
    """One phase being timed; a class, because a generator would cost twice as much."""

    __slots__ = ("_before", "_phase", "_started", "_watch")

    def __init__(self, watch: Stopwatch, phase: Phase) -> None:
        self._watch = watch
        self._phase = phase

    def __enter__(self) -> None:
        self._before = self._watch.current
        self._watch.current = self._phase
        self._started = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or self._before is self._phase:
            return
        phases = self._watch.phases
        spent = time.monotonic() - self._started
        phases[self._phase] = phases.get(self._phase, 0.0) + spent
        self._watch.current = self._before
