"""Contexts of TLS: made once for all rows with the same rules, and no more of them than is sane."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from dataclasses import dataclass, replace

from worker.errors import ProbeError
from worker.lanes import Lane
from worker.plan import TlsRules
from worker.tls import build_context, count_certificates
from worker.words import Reason

MAX_CHARACTERS = 2_000_000
"""Of the authorities whose contexts are kept; their memory is eleven times as much."""
MAX_CONTEXTS = 256
_CERTIFICATE_SECONDS = 0.0002
_SYSTEM_SECONDS = 0.018
"""CPU time of reading one certificate, and all of the system's."""

_Outcome = ssl.SSLContext | str
"""A context, or why there is none, so that this, too, is found out once."""


@dataclass(slots=True)
class _Making:
    """A context that is being made, or waits for its turn."""

    waiting: int = 0
    """How many want it."""
    has_begun: bool = False
    """So that it goes on to its end, though nobody may want it any more."""


class Contexts:
    """Those that need the system's authorities only, for good, and the latest of the others."""

    def __init__(self) -> None:
        # What rows bring must not keep what most of them share waiting.
        self._of_system, self._of_rows = Lane(1, "tls-system"), Lane(1, "tls-rows")
        self._lasting: dict[TlsRules, _Outcome] = {}
        self._kept: OrderedDict[TlsRules, _Outcome] = OrderedDict()
        self._characters = 0
        """Of the authorities of those that are kept."""
        self._making: dict[TlsRules, tuple[_Making, asyncio.Task[_Outcome]]] = {}

    async def get(self, rules: TlsRules) -> ssl.SSLContext:
        """Take the context for these rules, whatever name the server is asked for.

        Raises:
            ProbeError: `misconfigured` for authorities that are none.
        """
        rules = replace(rules, servername=None)
        if (outcome := self._known(rules)) is None:
            outcome = await self._made(rules)
        if isinstance(outcome, str):
            raise ProbeError(Reason.MISCONFIGURED, outcome)
        return outcome

    def _known(self, rules: TlsRules) -> _Outcome | None:
        if rules.ca is None:
            return self._lasting.get(rules)
        if rules in self._kept:
            self._kept.move_to_end(rules)
        return self._kept.get(rules)

    async def _made(self, rules: TlsRules) -> _Outcome:
        """Wait for a context; the last who leaves before it is begun calls it off."""
        if rules not in self._making:
            making = _Making()
            self._making[rules] = making, asyncio.create_task(self._make(rules, making))
        making, task = self._making[rules]
        making.waiting += 1
        try:
            return await asyncio.shield(task)
        finally:
            making.waiting -= 1
            if not making.waiting and not making.has_begun:
                task.cancel()
                self._forget(rules, making)

    async def _make(self, rules: TlsRules, making: _Making) -> _Outcome:
        lane, expected = self._of_system, _SYSTEM_SECONDS
        if rules.ca is not None:
            lane = self._of_rows
            expected = count_certificates(rules.ca) * _CERTIFICATE_SECONDS
        try:
            outcome, _ = await lane.run(expected, _try_to_build, rules, making)
        finally:
            self._forget(rules, making)
        self._keep(rules, outcome)
        return outcome

    def _forget(self, rules: TlsRules, making: _Making) -> None:
        if rules in self._making and self._making[rules][0] is making:
            del self._making[rules]

    def _keep(self, rules: TlsRules, outcome: _Outcome) -> None:
        if rules.ca is None:
            self._lasting[rules] = outcome
            return
        self._kept[rules] = outcome
        self._characters += len(rules.ca)
        while self._characters > MAX_CHARACTERS or len(self._kept) > MAX_CONTEXTS:
            oldest, _ = self._kept.popitem(last=False)
            self._characters -= len(oldest.ca or "")


def _try_to_build(rules: TlsRules, making: _Making) -> _Outcome:
    making.has_begun = True
    try:
        return build_context(rules)
    except ProbeError as fault:
        return fault.text
