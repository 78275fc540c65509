"""A row that breaks our own code, and a result that the registry refuses, harm no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from testbed.misbehaving import MisbehavingServer, saying
from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, register

SECRET = "hunter2-@:é"
ENCODED = "hunter2-%40%3A%C3%A9"
OFTEN = '{"healthCheck": {"intervalSeconds": 5}}'

# The worker as it is, but for rows of these hosts.
SABOTAGE = """
from worker import check, target
from worker.probes import redis

make_plan, ask, clean = redis.make_plan, redis.RedisProbe.ask, check.clean

def broken_plan(connection, config, *, ssl_enabled):
    if connection.hosts[0][0] == "breaks-planning":
        raise ValueError(f"cannot take {connection.password!r} of {connection.options}")
    return make_plan(connection, config, ssl_enabled=ssl_enabled)

async def broken_ask(self, plan):
    if plan.hosts[0].name == "breaks-asking":
        try:
            raise KeyError(plan.password)
        except KeyError:
            raise RuntimeError(f"redis://u:{plan.password}@h failed") from None
    if plan.hosts[0].name == "breaks-twice":
        try:
            raise KeyError(plan.password)
        except KeyError as error:
            raise ExceptionGroup(plan.password, [RuntimeError(plan.password)]) from error
    return await ask(self, plan)

redis.make_plan, redis.RedisProbe.ask = broken_plan, broken_ask
check.clean = lambda text: clean(text) + ("\\0" if "6399" in text else "")
"""


@pytest.fixture
def sabotage(tmp_path: Path) -> dict[str, str]:
    """Lay what Python runs before the worker's first line, and name the variable that says so."""
    folder = tmp_path / "sabotage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SABOTAGE)
    return {"PYTHONPATH": str(folder)}


async def reasons(url: str) -> dict[str, str | None]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select d.name, s.last_reason from platform.databases d"
        " join platform.database_schedules s on s.database_id = d.id"
    )
    await connection.close()
    return {row["name"]: row["last_reason"] for row in rows}


async def register_as(url: str, name: str, target: str, config: str = OFTEN) -> None:
    await register(url, "redis", target, config)
    connection = await asyncpg.connect(url)
    await connection.execute("update platform.databases set name = $1 where name = 'redis'", name)
    await connection.close()


async def test_a_row_that_breaks_our_code_is_internal_and_checked_again_and_the_tick_goes_on(
    registry_url: str,
    redis_server: RedisServer,
    start: Callable[..., Worker],
    sabotage: dict[str, str],
) -> None:
    for host in ("breaks-planning", "breaks-asking", "breaks-twice"):
        target = f"redis://u:{ENCODED}@{host}:6379?db=0&client_name={ENCODED}"
        await register_as(registry_url, host, target)
    await register_as(registry_url, "good", redis_server.url())
    worker = start(CHECK_INTERVAL_SECONDS="5", **sabotage)

    async def all_twice() -> bool:
        finished = [event["name"] for event in worker.events("check_finished")]
        return all(finished.count(name) >= 2 for name in await reasons(registry_url))

    await eventually(all_twice, "every row is checked, and checked again")
    found = await reasons(registry_url)
    assert found.pop("good") == "ok"
    assert set(found.values()) == {"internal"}
    crashes = worker.events("check_crashed")
    assert {crash["level"] for crash in crashes} == {"error"}
    for crash in crashes:
        assert "sitecustomize.py" in crash["traceback"]
        assert "Error" in crash["message"] or "Group" in crash["message"]
    assert not worker.events("tick_failed")
    assert worker.stop() == 0
    log = worker.log.read_text()
    for form in ("hunter2", "aHVudGVyM"):
        assert form not in log
    connection = await asyncpg.connect(registry_url)
    written = await connection.fetch(
        "select health_check_status, health_check_error, last_health_check_at"
        " from platform.databases where name <> 'good'"
    )
    await connection.close()
    assert {tuple(row) for row in written} == {("unknown", None, None)}


async def test_poisonous_words_of_a_server_do_not_hold_up_the_others(
    registry_url: str, redis_server: RedisServer, start: Callable[..., Worker]
) -> None:
    poisons = {
        "nul": b"-ERR nul \0 nul\r\n",
        "surrogate": b"-ERR \xed\xb2\x80 \xff\xfe\r\n",
        "controls": b"-ERR \x1b[31m\x07\x85\xe2\x80\xae\r\n",
        "megabyte": b"-ERR " + b"x" * 1_000_000 + b"\r\n",
        "long": b"-ERR " + "\u00e9".encode() * 30_000 + b"\r\n",
        "quotes": b"-ERR \"'); drop table platform.databases; --\r\n",
    }
    with ExitStack() as servers:
        for name, words in poisons.items():
            server = servers.enter_context(MisbehavingServer(saying(words)))
            await register_as(registry_url, name, f"redis://{server.host}:{server.port}")
        await register_as(registry_url, "good", redis_server.url())
        worker = start()

        async def all_checked() -> bool:
            return None not in (await reasons(registry_url)).values()

        await eventually(all_checked, "every row is checked")
    found = await reasons(registry_url)
    assert found.pop("good") == "ok"
    assert found.pop("megabyte") == "protocol"
    assert set(found.values()) == {"not_ready"}
    connection = await asyncpg.connect(registry_url)
    errors = await connection.fetch(
        "select health_check_error from platform.databases where name <> 'good'"
    )
    await connection.close()
    for (error,) in errors:
        assert error.isprintable()
        assert len(error) <= 340
    assert len(worker.events("database_health_changed")) == len(poisons) + 1


async def test_a_result_that_the_registry_refuses_is_internal_and_the_others_are_recorded(
    registry_url: str,
    redis_server: RedisServer,
    start: Callable[..., Worker],
    sabotage: dict[str, str],
) -> None:
    await register_as(registry_url, "refused by the registry", "redis://127.0.0.1:6399")
    for number in range(5):
        await register_as(registry_url, f"good {number}", redis_server.url())
        await register_as(registry_url, f"bad {number}", "redis://127.0.0.1:1", OFTEN)
    worker = start(**sabotage)

    async def all_checked() -> bool:
        return None not in (await reasons(registry_url)).values()

    await eventually(all_checked, "every row is recorded")
    found = await reasons(registry_url)
    assert found.pop("refused by the registry") == "internal"
    assert {name.split()[0]: reason for name, reason in found.items()} == {
        "good": "ok",
        "bad": "refused",
    }
    assert not worker.events("tick_failed")
    assert not worker.events("registry_unreachable")
