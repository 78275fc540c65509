"""Runs one cell of the table: the real checker, the real probe, the real log at debug level."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from urllib.parse import quote, quote_plus, unquote
from uuid import uuid4

from tests.faults.belongings import await_nothing_but, belongings, connections_of
from tests.faults.matrix import Case, Expected, Fault, Promise, Way
from tests.faults.stage import Stage
from worker import fleet_series, logs, probes
from worker.check import Checker
from worker.connection import ConnectionString
from worker.deliver import Sinks
from worker.errors import ADVICE
from worker.fleet import Fleet
from worker.metrics import Metrics
from worker.model import Answer, CheckResult, Identity, Lease, RawRow
from worker.network import Network
from worker.plan import Config, Plan
from worker.ports import Log, Probe
from worker.target import Probes, Reject, Target, make_target
from worker.words import Engine, Event, Reason, Status

STATUSES = {
    Reason.OK: Status.HEALTHY,
    Reason.MISCONFIGURED: Status.UNKNOWN,
    Reason.BLOCKED: Status.UNKNOWN,
    Reason.INTERNAL: None,
}
"""As people read them in the contract; every other reason is unhealthy."""
RETRIED = {
    Reason.TIMEOUT,
    Reason.DNS,
    Reason.REFUSED,
    Reason.UNREACHABLE,
    Reason.CLOSED,
    Reason.NOT_READY,
    Reason.SATURATED,
}
ATTEMPTS = 2
PAUSE_SECONDS = 0.05
ALLOWANCE_SECONDS = 0.5
"""By how much a check may outlast its configured time or the deadline."""


@dataclass(slots=True)
class Eavesdropper:
    """Stands before a real probe and keeps what it raises."""

    probe: Probe[Any]
    errors: list[BaseException] = field(default_factory=list)

    def plan(self, connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> Plan:
        plan: Plan = self.probe.plan(connection, config, ssl_enabled=ssl_enabled)
        return plan

    async def ask(self, plan: Plan) -> Answer:
        try:
            return await self.probe.ask(plan)
        except Exception as error:
            self.errors.append(error)
            raise


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check, and every text that came out of it."""

    result: CheckResult
    seconds: float
    bound: float
    log: str
    said: str
    left: frozenset[object]
    """What two seconds did not end."""
    was_asked: bool
    """Whether a target could be made of the row."""

    def events(self) -> list[str]:
        """Name the events that were logged."""
        return [json.loads(line)["event"] for line in self.log.splitlines()]


async def run(fault: Fault, way: Way, stage: Stage) -> None:
    """Make the fault, check once, and assert all that the table promises."""
    expected = fault.expected[way]
    assert isinstance(expected, Expected)
    async with fault.make(stage) as case:
        outcome = await carry(case, fault.engine, way)
        judge(outcome, case, expected)
        await case.afterwards(outcome.result)


async def carry(case: Case, engine: Engine, way: Way) -> Outcome:
    """Check once as the worker does, and wait until nothing of it is left."""
    row = make_row(case, engine)
    with logging_to_a_buffer() as (buffer, log):
        table = probe_table(case, way)
        ear = Eavesdropper(table[engine])
        checker = Checker({engine: ear}, log, deadline=case.deadline, default_interval=60)
        fleet = Fleet(fleet_series.write)
        sinks = Sinks(Metrics(fleet, "0", "test"), log, fleet)
        target = make_target(row, {engine: ear}, 60)
        before = belongings()
        with case.during:
            started = time.monotonic()
            result = await asyncio.wait_for(checker.check(row), case.deadline + 20)
            seconds = time.monotonic() - started
        left = await await_nothing_but(before)
        sinks.take(row, result)
    told = [repr(each) for each in (row, target, result)]
    told += ["".join(traceback.format_exception(error)) for error in ear.errors]
    told += [repr(error) for error in ear.errors]
    log_text = buffer.getvalue()
    return Outcome(
        result=result,
        seconds=seconds,
        bound=_bound(case, target),
        log=log_text,
        said="\n".join([log_text, *told]),
        left=left,
        was_asked=isinstance(target, Target),
    )


def judge(outcome: Outcome, case: Case, expected: Expected) -> None:
    """Assert the promises of a cell, those waived left out; no secret is never waived."""
    result = outcome.result
    if not expected.waives(Promise.REASON):
        assert result.reason in expected.reasons, result.error
        assert result.status == STATUSES.get(result.reason, Status.UNHEALTHY)
        assert expected.says in (result.error or "")
    if not expected.waives(Promise.ATTEMPTS):
        tried = ATTEMPTS if result.reason in RETRIED else 1
        assert result.attempts == (tried if outcome.was_asked else 0)
    if not expected.waives(Promise.TEXT):
        assert result.error is None or case.address in result.error
        assert result.status is not Status.UNHEALTHY or ADVICE[result.reason] in str(result.error)
    assert outcome.seconds < case.deadline + ALLOWANCE_SECONDS
    if not expected.waives(Promise.TIME):
        assert outcome.seconds < outcome.bound + ALLOWANCE_SECONDS
    open_ones = connections_of(outcome.left)
    if not expected.waives(Promise.CLOSED):
        assert not open_ones
    if not expected.waives(Promise.LEAK):
        assert not outcome.left - open_ones
    if result.reason is not Reason.INTERNAL:
        assert Event.CHECK_CRASHED not in outcome.events()
    for secret in case.secrets:
        for form in spellings(secret):
            assert form not in outcome.said


def make_row(case: Case, engine: Engine) -> RawRow:
    """Make the row that the registry would give."""
    now = datetime.now(UTC)
    retries = {"retryStrategy": {"maxAttempts": ATTEMPTS, "delay": int(PAUSE_SECONDS * 1000)}}
    return RawRow(
        identity=Identity(uuid4(), uuid4(), "a database", engine),
        connection_string=case.url,
        is_decrypted=True,
        config=json.dumps({**retries, **case.config}),
        ssl_enabled=case.ssl_enabled,
        lease=Lease(1, now, now, now, time.monotonic()),
        status=Status.UNKNOWN,
        last_reason=None,
    )


def probe_table(case: Case, way: Way) -> Probes:
    """Make the worker's own table of probes."""
    network = Network(case.rules, case.resolver)
    match way:
        case Way.WIRE:
            return probes.table("wire", "pymongo", network)
        case Way.DRIVERS:
            return probes.table("drivers", "pymongo", network)
        case Way.MOTOR:
            return probes.table("drivers", "motor", network)


def spellings(secret: str) -> set[str]:
    """List the forms of a secret that may appear nowhere."""
    plain = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), unquote(secret)}
    # JSON and Python write what is not ASCII in their own ways.
    plain |= {json.dumps(text)[1:-1] for text in plain} | {ascii(text)[1:-1] for text in plain}
    coded = {base64.b64encode(text.encode()).decode().rstrip("=") for text in plain}
    return plain | coded


@contextmanager
def logging_to_a_buffer() -> Iterator[tuple[StringIO, Log]]:
    """Configure the worker's logging at debug level, and put back what was there."""
    root, ours = logging.getLogger(), logging.getLogger("worker")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    buffer = StringIO()
    try:
        yield buffer, logs.configure("debug", "json", buffer)
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


def _bound(case: Case, target: Target | Reject) -> float:
    """Say when the check must have ended, the allowance left out."""
    if isinstance(target, Reject):
        return 0.0
    attempt = case.seconds or target.plan.attempt_timeout
    return min(case.deadline, ATTEMPTS * attempt + PAUSE_SECONDS)
