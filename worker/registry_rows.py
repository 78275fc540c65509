"""Rows of the registry's functions to our nouns, and our results to what they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from worker.model import Change, CheckResult, DatabaseState, Identity, Lease, RawRow
from worker.ports import Kept, Recorded
from worker.quoting import clean, cut
from worker.words import Reason, Status

MAX_NAME = 200
"""Characters of a database's name that logs and metrics show."""
_REASONS: Mapping[str, Reason] = {reason.value: reason for reason in Reason}
_STATUSES: Mapping[str, Status] = {status.value: status for status in Status}


def _read_status(word: str) -> Status:
    """Read a status; one that only a newer worker knows is unknown to us."""
    return _STATUSES.get(word, Status.UNKNOWN)


def read_identity(row: Mapping[str, Any], database_id: UUID) -> Identity:
    """Read which database a row is about."""
    return Identity(database_id, row["project_id"], cut(row["name"], MAX_NAME), row["engine"])


def read_row(row: Mapping[str, Any], asked: float) -> RawRow:
    """Read a claimed row; `asked` is when, in monotonic seconds, the registry was asked for it."""
    lease = Lease(row["revision"], row["slot"], row["leased_until"], row["claimed_at"], asked)
    return RawRow(
        identity=read_identity(row, row["id"]),
        connection_string=row["connection_string"],
        is_decrypted=row["is_decrypted"],
        config=row["config"],
        ssl_enabled=row["ssl_enabled"],
        lease=lease,
        status=_read_status(row["status"]),
        last_reason=_REASONS.get(row["last_reason"]),
        is_slow=row["slow"],
    )


def write_result(result: CheckResult) -> dict[str, object]:
    """Write a result as the JSON that platform.record_check_results takes."""
    lease = result.lease
    return {
        "database_id": str(result.identity.database_id),
        "revision": lease.revision,
        "slot": lease.slot.isoformat(),
        "leased_until": lease.leased_until.isoformat(),
        "started_at": _registry_time(lease, result.started),
        "checked_at": _registry_time(lease, result.finished),
        "status": result.status,
        "reason": result.reason,
        "error": result.error,
        "latency_seconds": result.latency,
        "interval_seconds": result.interval,
        "slow": result.is_slow,
    }


def _registry_time(lease: Lease, monotonic: float) -> str:
    return datetime.fromtimestamp(lease.registry_time(monotonic), UTC).isoformat()


def read_recorded(row: Mapping[str, Any], result: CheckResult) -> Recorded:
    """Read what became of a result."""
    change = None
    if row["change_id"] is not None and result.status is not None:
        change = Change(
            change_id=row["change_id"],
            identity=result.identity,
            previous=_read_status(row["previous"]),
            status=result.status,
            reason=result.reason,
            error=result.error,
        )
    kept = _read_kept(row) if row["outcome"] == "kept" else None
    is_gone = row["outcome"] == "gone"
    return Recorded(row["database_id"], change, row["next_due"], kept, is_gone=is_gone)


def _read_kept(row: Mapping[str, Any]) -> Kept:
    """Read what stands there; who sets a status by hand may give no reason of ours."""
    status, error = _read_status(row["kept_status"]), row["kept_error"]
    without = Reason.OK if status is Status.HEALTHY else Reason.INTERNAL
    reason = _REASONS.get((error or "").partition(":")[0], without)
    return Kept(status, reason, None if error is None else clean(error))


def read_change(row: Mapping[str, Any]) -> Change:
    """Read a change that waits to be announced; a newer worker's reason is told as it stands."""
    return Change(
        change_id=row["change_id"],
        identity=read_identity(row, row["database_id"]),
        previous=_read_status(row["previous"]),
        status=_read_status(row["status"]),
        reason=row["reason"],
        error=row["error"],
        at=row["changed_at"],
        is_superseded=row["is_superseded"],
    )


def read_state(row: Mapping[str, Any], known: DatabaseState | None) -> DatabaseState:
    """Read a row of the snapshot; the same object again where it tells what is known already."""
    checked_at, latency = row["checked_at"], row["latency_seconds"]
    status, reason = _read_status(row["status"]), _REASONS.get(row["reason"])
    identity = known.identity if known and _is_of(row, known.identity) else None
    if (
        known is not None
        and identity is not None
        and known.checked_at == checked_at
        and known.status is status
        and known.reason is reason
        and known.latency == latency
    ):
        return known
    return DatabaseState(
        identity=identity or read_identity(row, row["database_id"]),
        status=status,
        reason=reason,
        latency=latency,
        checked_at=checked_at,
    )


def read_counts(rows: Iterable[Mapping[str, Any]]) -> Mapping[tuple[str, str], int]:
    """Read how many databases there are of each engine and status."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row["engine"], _read_status(row["status"])] += row["databases"]
    return counts


def _is_of(row: Mapping[str, Any], identity: Identity) -> bool:
    return (
        cut(row["name"], MAX_NAME) == identity.name
        and row["project_id"] == identity.project_id
        and row["engine"] == identity.engine
    )
