"""Which of the registry's operations fail, since when, and when each may be tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass

FIRST_BACK_OFF_SECONDS = 0.5
MAX_BACK_OFF_SECONDS = 15.0
MAX_OWN_BACK_OFF_SECONDS = 2.0
"""Of an operation that fails while others work: a refused statement costs the registry little."""
READS = frozenset({"read", "snapshot"})
"""Operations that succeed on a read-only registry, too, so they do not prove it usable."""
_ALL = "all"
"""Stands for every operation that writes: no connection, a lost one, a read-only registry."""
_RECORD = "record"
_CLAIMING = frozenset({"tend", "claim"})
"""While nothing can be recorded they wait, too: rows are then checked from memory, on time."""
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
    """An operation that failed is in trouble until it works again, whatever else works."""

    def __init__(self) -> None:
        self._of: dict[str, _Trouble] = {}
        self._since = 0.0

    def __bool__(self) -> bool:
        return bool(self._of)

    @property
    def seconds(self) -> float:
        """For how long there has been trouble without a break."""
        return time.monotonic() - self._since

    def fault(self, operation: str) -> str | None:
        """Say why an operation is not worth a try yet; None where it is."""
        keys = (_ALL, operation, _RECORD if operation in _CLAIMING else operation)
        now = time.monotonic()
        for key in keys:
            trouble = self._of.get(key)
            if trouble is not None and now < trouble.resume_at:
                return trouble.fault
        return None

    def unreached(self, fault: str) -> None:
        """Note that there is no connection to be had, which explains every other trouble."""
        self._add(_ALL, fault, MAX_BACK_OFF_SECONDS)
        self._of = {_ALL: self._of[_ALL]}

    def failed(self, operation: str, fault: str, *, concerns_all: bool) -> None:
        """Note that an operation failed, as any other would have that `concerns_all`."""
        if concerns_all or operation in _UNREPEATED:
            self._add(_ALL, fault, MAX_BACK_OFF_SECONDS)
        else:
            self._add(operation, fault, MAX_OWN_BACK_OFF_SECONDS)

    def worked(self, operation: str) -> None:
        """Note that an operation works, and with it the way to the registry."""
        self._of.pop(operation, None)
        if operation not in READS:
            self._of.pop(_ALL, None)

    def _add(self, key: str, fault: str, longest: float) -> None:
        now = time.monotonic()
        if not self._of:
            self._since = now
        trouble = self._of.setdefault(key, _Trouble(0.0, now, fault))
        trouble.fault = fault
        if now >= trouble.resume_at:  # what fails beside a call that failed tells nothing new
            trouble.back_off = min(longest, 2 * trouble.back_off) or FIRST_BACK_OFF_SECONDS
            trouble.resume_at = now + trouble.back_off
