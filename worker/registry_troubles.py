"""Which of the registry's statements fail, since when, and when each may be tried again."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

FIRST_BACK_OFF_SECONDS = 0.5
MAX_BACK_OFF_SECONDS = 2.0
"""A try costs a registry that is down little, and the first replica to be back waits for the last
one before it claims what it does not know: see LAGGARD_SECONDS in worker/claims.py."""
ABANDONED_SECONDS = 300.0
"""After so long a statement that nobody tried again is in no trouble: a fleet that has shrunk, say,
is not counted any more. Each that is needed is tried every 15 s."""
MAX_REFUSALS = 64
"""Of one statement's data without a break: so many are the fault of none of it. Halving finds one
culprit among 500 results by a dozen."""
READS = frozenset({"read", "snapshot"})
"""Operations that succeed on a read-only registry, too, so they do not prove it usable."""
Call = tuple[str, str]
"""An operation and one of its statements: each may fail by itself."""
_ALL = ("", "")
"""Stands for every statement that writes: no connection, a lost one, a read-only registry."""
_RECORD = "record"
_CLAIMING = frozenset({"tend", "claim"})
"""While nothing can be recorded they wait, too: rows are then checked from memory, on time."""
_INTERCHANGEABLE = frozenset({"claim"})
"""Which of its statements is sent depends on the hour, so any of them that works will do."""
_UNREPEATED = frozenset({"give_back"})
"""Nobody tries these again, so their success cannot be waited for; a lease ends by itself."""


@dataclass(slots=True)
class _Trouble:
    back_off: float
    """Seconds."""
    resume_at: float
    """Monotonic seconds."""
    fault: str


class Troubles:
    """A statement that failed is in trouble until it works again, whatever else works."""

    def __init__(self) -> None:
        self._of: dict[Call, _Trouble] = {}
        self._since = 0.0
        self._refusals: Counter[Call] = Counter()

    def __bool__(self) -> bool:
        return bool(self._of)

    @property
    def seconds(self) -> float:
        """For how long there has been trouble without a break."""
        return time.monotonic() - self._since

    def fault(self, call: Call) -> str | None:
        """Say why a call is not worth a try yet; None where it is."""
        now = time.monotonic()
        for failed, trouble in self._of.items():
            if now < trouble.resume_at and _holds_up(failed, call):
                return trouble.fault
        return None

    def unreached(self, fault: str) -> None:
        """Note that there is no connection to be had, which explains every other trouble."""
        self._add(_ALL, fault)
        self._of = {_ALL: self._of[_ALL]}

    def failed(self, call: Call, fault: str, *, concerns_all: bool) -> None:
        """Note that a call failed, as any other would have that `concerns_all`."""
        operation, _ = call
        if concerns_all or operation in _UNREPEATED:
            self._add(_ALL, fault)
        else:
            self._add(call, fault)

    def may_be_of_some_data(self, call: Call) -> bool:
        """Count a refusal of a call's data; tell whether less of it may still do."""
        self._refusals[call] += 1
        if self._refusals[call] <= MAX_REFUSALS:
            return True
        del self._refusals[call]
        return False

    def worked(self, call: Call) -> None:
        """Note that a statement works, and with it the way to the registry."""
        operation, _ = call
        self._refusals.pop(call, None)
        self._of.pop(call, None)
        if operation in _INTERCHANGEABLE:
            self._of = {key: trouble for key, trouble in self._of.items() if key[0] != operation}
        if operation not in READS:
            self._of.pop(_ALL, None)
        long_ago = time.monotonic() - ABANDONED_SECONDS
        for key in [key for key, trouble in self._of.items() if trouble.resume_at < long_ago]:
            del self._of[key]

    def _add(self, key: Call, fault: str) -> None:
        now = time.monotonic()
        if not self._of:
            self._since = now
        trouble = self._of.setdefault(key, _Trouble(0.0, now, fault))
        trouble.fault = fault
        if now >= trouble.resume_at:  # what fails beside a call that failed tells nothing new
            twice = 2 * trouble.back_off or FIRST_BACK_OFF_SECONDS
            trouble.back_off = min(MAX_BACK_OFF_SECONDS, twice)
            trouble.resume_at = now + trouble.back_off


def _holds_up(failed: Call, call: Call) -> bool:
    """Tell whether a call has to wait for another try of one that failed."""
    return failed in {_ALL, call} or (failed[0] == _RECORD and call[0] in _CLAIMING)
