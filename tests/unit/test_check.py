"""One check always comes to a result, in its time, and shows no secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.unit.nouns import row
from worker.check import Checker
from worker.connection import ConnectionString
from worker.errors import ProbeError
from worker.model import Answer, CheckResult, RawRow
from worker.plan import Config, Host, Plan
from worker.ports import Level
from worker.words import Engine, Event, Phase, Reason, Status

SECRET = "hunter2-@é"
URL = "redis://u:hunter2-%40%C3%A9@db.example"
AT_ONCE = {"retryStrategy": {"maxAttempts": 3, "delay": 0}}


@dataclass
class Script:
    """A probe that does what it is told, attempt after attempt."""

    acts: list[Callable[[], Awaitable[Answer]]]
    asked: int = 0
    breaks: str = ""

    def plan(self, connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> Plan:
        if self.breaks:
            raise LookupError(self.breaks)
        return Plan(
            hosts=(Host("db.example", 6379),),
            password=connection.password,
            connect_timeout=0.1,
            command_timeout=0.1,
        )

    async def ask(self, plan: Plan) -> Answer:
        act = self.acts[min(self.asked, len(self.acts) - 1)]
        self.asked += 1
        return await act()


@dataclass
class Lines:
    kept: list[tuple[Event, str]] = field(default_factory=list)

    def __call__(self, event: Event, level: Level, message: str, **facts: object) -> None:
        self.kept.append((event, f"{level} {message} {facts}"))


def answers(after: float = 0.0) -> Callable[[], Awaitable[Answer]]:
    async def act() -> Answer:
        await asyncio.sleep(after)
        return Answer({Phase.PING: 0.001})

    return act


def raises(error: BaseException) -> Callable[[], Awaitable[Answer]]:
    async def act() -> Answer:
        raise error

    return act


async def hangs() -> Answer:
    """Do not even hear that it is cancelled."""
    end = time.monotonic() + 1.0
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return Answer()


async def check(
    script: Script, log: Lines | None = None, given: RawRow | None = None, deadline: float = 5.0
) -> CheckResult:
    checker = Checker(
        {Engine.REDIS: script}, log or Lines(), deadline=deadline, default_interval=60
    )
    return await checker.check(given or row(URL, AT_ONCE))


async def test_an_answer_is_ok_and_its_latency_leaves_closing_out() -> None:
    async def act() -> Answer:
        answer = Answer({Phase.PING: 0.001})
        await asyncio.sleep(0.05)
        return answer

    made = await check(Script([act]))
    assert (made.reason, made.status, made.error, made.attempts) == (
        *(Reason.OK, Status.HEALTHY, None, 1),
    )
    assert made.latency is not None
    assert made.latency < 0.05
    assert made.duration >= 0.05
    assert made.phases == {Phase.PING: 0.001}


async def test_an_answer_slower_than_the_row_allows_is_slow() -> None:
    config = {"healthCheck": {"degradedAfterMs": 1}}
    made = await check(Script([answers(0.02)]), given=row(URL, config))
    assert (made.reason, made.status) == (Reason.SLOW, Status.DEGRADED)
    assert made.latency is not None


@pytest.mark.parametrize("reason", list(Reason))
async def test_only_what_may_pass_is_tried_again(reason: Reason) -> None:
    script = Script([raises(ProbeError(reason, "it is so")), answers()])
    made = await check(script)
    assert made.reason is (Reason.OK if reason.is_retried else reason)
    assert made.attempts == script.asked == (2 if reason.is_retried else 1)


async def test_the_last_attempt_counts() -> None:
    script = Script([raises(ProbeError(Reason.REFUSED, "nothing there"))])
    made = await check(script)
    assert (made.attempts, script.asked) == (3, 3)
    assert (made.error or "").startswith("refused: nothing there (db.example:6379)")


async def test_an_attempt_that_does_not_end_is_a_timeout_whatever_it_does() -> None:
    started = time.monotonic()
    checker = Checker({Engine.REDIS: Script([hangs])}, Lines(), deadline=5, default_interval=60)
    made = await checker.check(row(URL, {"retryStrategy": {"maxAttempts": 1}}))
    assert time.monotonic() - started < 0.9
    assert made.reason is Reason.TIMEOUT
    assert checker.stragglers == 1
    await asyncio.sleep(1.0)
    assert checker.stragglers == 0


async def test_the_deadline_ends_a_check_whatever_its_row_asks_for() -> None:
    config = {"retryStrategy": {"maxAttempts": 10, "delay": 60_000}}
    started = time.monotonic()
    script = Script([raises(ProbeError(Reason.REFUSED, "no"))])
    made = await check(script, given=row(URL, config), deadline=0.3)
    assert time.monotonic() - started < 0.3 + 0.5
    assert made.attempts == 1


@pytest.mark.parametrize(
    "error",
    [
        KeyError(SECRET),
        ValueError(f"cannot take {URL}"),
        RuntimeError(f"{SECRET!r} and {SECRET.encode()!r}"),
        asyncio.CancelledError(SECRET),
        ExceptionGroup(SECRET, [KeyError(SECRET)]),
    ],
)
async def test_a_probe_that_breaks_is_our_trouble_and_told_without_secrets(
    error: BaseException,
) -> None:
    log = Lines()
    made = await check(Script([raises(error)]), log)
    assert (made.reason, made.status, made.attempts) == (Reason.INTERNAL, None, 1)
    ((event, text),) = log.kept
    assert event is Event.CHECK_CRASHED
    assert "test_check.py" in text or isinstance(error, asyncio.CancelledError)
    assert "hunter2" not in f"{text} {made!r}"


@pytest.mark.parametrize("url", [URL, "redis://u:hunter2-\udc80@h", f"see {SECRET}"])
async def test_a_row_that_breaks_our_code_before_it_is_a_target_is_internal_too(url: str) -> None:
    log = Lines()
    made = await check(Script([], breaks=f"cannot take {SECRET} of {URL}"), log, row(url))
    assert made.reason is (Reason.INTERNAL if url == URL else Reason.MISCONFIGURED)
    assert "hunter2" not in f"{log.kept} {made!r}"


async def test_config_that_cannot_be_read_harms_its_own_row_alone() -> None:
    made = await check(Script([answers()]), given=replace(row(URL), config="{"))
    assert made.reason is Reason.MISCONFIGURED


async def test_a_servers_words_are_cleaned_scrubbed_and_short() -> None:
    words = f'the server says "no {SECRET}\0\x1b[31m\udc80{"x" * 5000}"'
    made = await check(Script([raises(ProbeError(Reason.AUTH, words))]))
    assert made.error is not None
    assert "hunter2" not in made.error
    assert made.error.isprintable()
    assert len(made.error) <= len("auth: ") + 300


async def test_only_cancellation_passes_through() -> None:
    task = asyncio.create_task(check(Script([answers(5)])))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
