"""One check of one target: attempts, deadline, latency; always returns a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from worker.crash import tell
from worker.errors import ADVICE, ProbeError, forget_frames, translate
from worker.model import Answer, CheckResult, Identity, RawRow
from worker.plan import Plan
from worker.ports import Log
from worker.quoting import clean
from worker.scrubbing import scrub_quotes
from worker.spellings import secrets_of
from worker.target import Probes, Reject, Target, make_target
from worker.words import Event, Phase, Reason

Check = Callable[[], Coroutine[Any, Any, CheckResult]]
"""A check that is ready: everything about the row is known, and nobody was contacted."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one try came to; `fault` is None where the server answered."""

    latency: float | None
    phases: Mapping[Phase, float] = field(default_factory=dict)
    fault: ProbeError | None = None


class Checker:
    """Carries checks to their results; owns attempts that outlive their bound (stragglers)."""

    def __init__(
        self, probes: Probes, log: Log, *, deadline: float, default_interval: float
    ) -> None:
        """Take the deadline in seconds, which no check outlasts, and the usual interval."""
        self._probes = probes
        self._deadline = deadline
        self._default_interval = default_interval
        self._log = log
        self._stragglers: set[asyncio.Task[Answer]] = set()

    @property
    def stragglers(self) -> int:
        """How many attempts were told to stop and have not yet."""
        return len(self._stragglers)

    def prepare(self, row: RawRow) -> Check:
        """Read what a row holds; the check starts when what is returned is called.

        Whatever the row holds and whatever breaks, that has a result.
        """
        try:
            target = make_target(row, self._probes, self._default_interval)
        except Exception as error:  # noqa: BLE001 -- a row that breaks our code is data, too
            target = self._break(row, error)
        return partial(self._carry_out, row, target)

    async def check(self, row: RawRow) -> CheckResult:
        """Check one row once, at once."""
        return await self.prepare(row)()

    async def _carry_out(self, row: RawRow, target: Target | Reject) -> CheckResult:
        started = time.monotonic()
        if isinstance(target, Reject):
            return _rejected(target, started)
        try:
            return await self._check(target, started)
        except Exception as error:  # noqa: BLE001 -- whatever breaks has a result
            return _rejected(self._break(row, error), started)

    def _break(self, row: RawRow, error: Exception) -> Reject:
        fault = self._crash(row.identity, error, secrets_of(row.connection_string or ""))
        return Reject(row.identity, row.lease, fault, self._default_interval)

    async def _check(self, target: Target, started: float) -> CheckResult:
        """Ask one target until it answers, a retry is pointless, or the deadline is near."""
        end = started + self._deadline
        attempts = 0
        while True:
            attempts += 1
            attempt = await self._attempt(target, end)
            resume = time.monotonic() + target.retry_delay
            if (
                attempt.fault is None
                or not attempt.fault.reason.is_retried
                or attempts >= target.max_attempts
                or resume >= end
            ):
                return _result(target, attempt, attempts, started)
            await asyncio.sleep(target.retry_delay)

    async def _attempt(self, target: Target, end: float) -> _Attempt:
        """Run one try as a task of its own, so that no probe can hold the slot."""
        before = time.monotonic()
        bound = min(target.plan.attempt_timeout, end - before)
        task = asyncio.create_task(self._probes[target.engine].ask(target.plan))
        try:
            await _settle(task, bound)
            if not task.done():
                text = f"no answer within {bound * 1000:.0f} ms"
                return _Attempt(None, fault=ProbeError(Reason.TIMEOUT, text))
        finally:
            if not task.done():
                self._abandon(task)
        if (error := _exception(task)) is None:
            answer = task.result()
            return _Attempt(answer.at - before, answer.phases)
        fault = translate(error, ()) or self._crash(
            target.identity, error, tuple(target.plan.secrets())
        )
        forget_frames(error)
        return _Attempt(None, fault=fault)

    def _abandon(self, task: asyncio.Task[Answer]) -> None:
        task.cancel()
        self._stragglers.add(task)
        task.add_done_callback(self._straggler_ended)

    def _straggler_ended(self, task: asyncio.Task[Answer]) -> None:
        self._stragglers.discard(task)
        if (error := _exception(task)) is not None:
            forget_frames(error)

    def _crash(
        self, identity: Identity, error: BaseException, secrets: tuple[str, ...]
    ) -> ProbeError:
        self._log(
            Event.CHECK_CRASHED,
            "error",
            f"the check of {identity.name} crashed: {type(error).__name__}",
            database_id=str(identity.database_id),
            engine=identity.engine,
            traceback=tell(error, secrets),
        )
        return ProbeError(Reason.INTERNAL, f"the check crashed: {type(error).__name__}")


def _rejected(reject: Reject, started: float) -> CheckResult:
    return CheckResult(
        identity=reject.identity,
        lease=reject.lease,
        reason=reject.fault.reason,
        status=reject.fault.reason.status,
        error=_error(reject.fault),
        latency=None,
        phases={},
        attempts=0,
        started=started,
        finished=time.monotonic(),
        interval=reject.interval,
    )


def _result(target: Target, attempt: _Attempt, attempts: int, started: float) -> CheckResult:
    fault = attempt.fault or _slowness(target, attempt.latency)
    reason = Reason.OK if fault is None else fault.reason
    return CheckResult(
        identity=target.identity,
        lease=target.lease,
        reason=reason,
        status=reason.status,
        error=None if fault is None else _error(fault, target.plan),
        latency=attempt.latency,
        phases=attempt.phases,
        attempts=attempts,
        started=started,
        finished=time.monotonic(),
        interval=target.interval,
        address=target.plan.address,
    )


async def _settle(task: asyncio.Task[Answer], seconds: float) -> None:
    """Wait for a task, at most so long; asyncio.wait, made for many tasks, costs twice as much."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    alarm = loop.call_later(seconds, wake)
    try:
        await waiter
    finally:
        alarm.cancel()


def _exception(task: asyncio.Task[Answer]) -> BaseException | None:
    """Take a task's exception; a task that was cancelled from within has one, too."""
    try:
        task.result()  # unlike exception(), lets go of the traceback that the task has of its own
    except BaseException as error:  # noqa: BLE001 -- it is the task's, and data
        return error
    return None


def _slowness(target: Target, latency: float | None) -> ProbeError | None:
    if latency is None or target.degraded_after is None or latency <= target.degraded_after:
        return None
    text = f"answered in {latency * 1000:.0f} ms, slower than {target.degraded_after * 1000:.0f} ms"
    return ProbeError(Reason.SLOW, text)


def _error(fault: ProbeError, plan: Plan | None = None) -> str:
    if plan is None:
        return f"{fault.reason}: {clean(fault.text)}"
    text = scrub_quotes(fault.text, plan.secrets())
    if plan.address not in text:
        text = f"{text} ({plan.address})"
    if advice := ADVICE.get(fault.reason):
        text = f"{text}; {advice}"
    return f"{fault.reason}: {clean(text)}"
