"""The newest known state of every database: the registry's, and this replica's newer results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from uuid import UUID

from worker.model import CheckResult, DatabaseState, Identity, Lines

AHEAD_SECONDS = 60.0
"""A result that is further ahead of a snapshot is from before the registry's clock was set back."""
_MICROSECONDS = 6
"""The registry's grain, so that its own account of a check reads the same."""


class Fleet:
    """States, and the text that shows them; written by one thread, read by any."""

    def __init__(self, write: Callable[[DatabaseState], Lines]) -> None:
        """Take what writes a state's text: it is written when the state comes, a few at a time."""
        self._write = write
        self._lock = threading.Lock()
        self._states: dict[UUID, DatabaseState] = {}
        # Apart, because the garbage collection looks at every object, and at no tuple of strings.
        self._lines: dict[UUID, Lines] = {}
        self._laid: set[UUID] = set()
        """Those whose state is a result that was laid over the registry's."""
        self._is_too_large = False

    def __len__(self) -> int:
        return len(self._states)

    def lay(self, result: CheckResult) -> None:
        """Lay a result over the snapshot; one that blames us leaves the last state."""
        if result.status is None or self._is_too_large:
            return
        state = DatabaseState(
            identity=result.identity,
            status=result.status,
            reason=result.reason,
            latency=result.latency,
            checked_at=round(result.lease.registry_time(result.finished), _MICROSECONDS),
        )
        self._show(state)
        self._laid.add(result.identity.database_id)

    def forget(self, identity: Identity) -> None:
        """Drop a database that is gone or inactive."""
        self._drop(identity.database_id)

    def take(self, states: Iterable[DatabaseState], taken_at: float) -> None:
        """Take states that the registry had at `taken_at` in its time, and keep what is newer."""
        self._is_too_large = False
        for theirs in states:
            database_id = theirs.identity.database_id
            mine = self._states.get(database_id)
            if database_id in self._laid and mine is not None:
                if _time(theirs) < _time(mine) < taken_at + AHEAD_SECONDS:
                    continue
                self._laid.discard(database_id)
            if theirs is not mine:
                self._show(theirs)

    def drop_all_but(self, taken: Container[UUID], taken_at: float) -> None:
        """Drop what a whole walk begun at `taken_at` did not find, unless a result is newer."""
        for database_id, state in tuple(self._states.items()):
            is_newer = taken_at < _time(state) < taken_at + AHEAD_SECONDS
            if database_id not in taken and not (database_id in self._laid and is_newer):
                self._drop(database_id)

    def close(self) -> None:
        """Show no database until the next snapshot: the fleet is larger than what is shown."""
        with self._lock:
            self._states, self._lines = {}, {}
        self._laid.clear()
        self._is_too_large = True

    def states(self) -> Mapping[UUID, DatabaseState]:
        """Copy the states as they are now."""
        with self._lock:
            return dict(self._states)

    def lines(self) -> Collection[Lines]:
        """Copy the text as it is now."""
        with self._lock:
            return tuple(self._lines.values())

    def _show(self, state: DatabaseState) -> None:
        database_id, lines = state.identity.database_id, self._write(state)
        with self._lock:
            self._states[database_id] = state
            self._lines[database_id] = lines

    def _drop(self, database_id: UUID) -> None:
        with self._lock:
            self._states.pop(database_id, None)
            self._lines.pop(database_id, None)
        self._laid.discard(database_id)


def _time(state: DatabaseState) -> float:
    return state.checked_at or 0.0
