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
        self._laid: dict[UUID, float] = {}
        """When those results ended, in monotonic seconds, that lie over the registry's states."""
        self._recorded: dict[UUID, float] = {}
        """Those of them that the registry has."""
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
        self._laid[result.identity.database_id] = result.finished

    def note_recorded(self, result: CheckResult) -> None:
        """Note that the registry has a result, which it may tell of in its own way."""
        if self._is_shown(result):
            self._recorded[result.identity.database_id] = result.finished

    def trust_registry(self) -> None:
        """Prefer what the registry tells from now on to those results that it has."""
        for database_id, finished in self._recorded.items():
            if self._laid.get(database_id) == finished:
                del self._laid[database_id]
        self._recorded.clear()

    def take_back(self, result: CheckResult) -> None:
        """Drop a database if this result is shown of it: the row was edited meanwhile."""
        if self._is_shown(result):
            self._drop(result.identity.database_id)

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
                del self._laid[database_id]
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

    def _is_shown(self, result: CheckResult) -> bool:
        return self._laid.get(result.identity.database_id) == result.finished

    def _show(self, state: DatabaseState) -> None:
        database_id, lines = state.identity.database_id, self._write(state)
        with self._lock:
            self._states[database_id] = state
            self._lines[database_id] = lines

    def _drop(self, database_id: UUID) -> None:
        with self._lock:
            self._states.pop(database_id, None)
            self._lines.pop(database_id, None)
        self._laid.pop(database_id, None)


def _time(state: DatabaseState) -> float:
    return state.checked_at or 0.0
