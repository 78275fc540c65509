"""The snapshot behind the per-database series, with this replica's newer results laid over it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from worker.model import CheckResult, DatabaseState, Identity

AHEAD_SECONDS = 60.0
"""A result that is further ahead of a snapshot is from before the registry's clock was set back."""
_MICROSECONDS = 6
"""The registry's grain, so that its own account of a check reads the same."""


class Fleet:
    """The newest known state of every database; written by one thread, read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[UUID, DatabaseState] = {}
        self._laid: set[UUID] = set()
        self._is_too_large = False

    def lay(self, result: CheckResult) -> None:
        """Lay a result over the snapshot; one that blames us leaves the last state."""
        if result.status is None:
            return
        state = DatabaseState(
            identity=result.identity,
            status=result.status,
            reason=result.reason,
            latency=result.latency,
            checked_at=round(result.lease.registry_time(result.finished), _MICROSECONDS),
        )
        with self._lock:
            if not self._is_too_large:
                self._states[result.identity.database_id] = state
                self._laid.add(result.identity.database_id)

    def forget(self, identity: Identity) -> None:
        """Drop a database that is gone or inactive."""
        with self._lock:
            self._states.pop(identity.database_id, None)
            self._laid.discard(identity.database_id)

    def replace(self, snapshot: Sequence[DatabaseState], taken_at: float) -> None:
        """Take a snapshot of the registry, `taken_at` in its time, and keep what is newer."""
        states = {state.identity.database_id: state for state in snapshot}
        with self._lock:
            for database_id in self._laid:
                mine, theirs = self._states[database_id], states.get(database_id)
                known = taken_at if theirs is None else _time(theirs)
                if known < _time(mine) < taken_at + AHEAD_SECONDS:
                    states[database_id] = mine
            self._laid.intersection_update(
                key for key, state in self._states.items() if states.get(key) is state
            )
            self._states = states
            self._is_too_large = False

    def update(self, changed: Iterable[DatabaseState], taken_at: float) -> None:
        """Take what changed since the last snapshot; all else holds still."""
        with self._lock:
            for theirs in changed:
                database_id = theirs.identity.database_id
                if database_id in self._laid:
                    if _time(theirs) < _time(self._states[database_id]) < taken_at + AHEAD_SECONDS:
                        continue
                    self._laid.discard(database_id)
                self._states[database_id] = theirs

    def close(self) -> None:
        """Show no database until the next snapshot: the fleet is larger than what is shown."""
        with self._lock:
            self._states, self._laid = {}, set()
            self._is_too_large = True

    def __len__(self) -> int:
        return len(self._states)

    def states(self) -> Mapping[UUID, DatabaseState]:
        """Copy the states as they are now."""
        with self._lock:
            return dict(self._states)


def _time(state: DatabaseState) -> float:
    return state.checked_at or 0.0
