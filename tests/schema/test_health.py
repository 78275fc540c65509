"""`update_database_health()` writes health, and only health, cheaply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

THREE = "select platform.update_database_health($1, $2, $3)"
FOUR = "select platform.update_database_health($1, $2, $3, $4)"
Add = Callable[..., Awaitable[UUID]]


async def row(owner: Any, database: UUID) -> Any:
    return await owner.fetchrow("select * from platform.databases where id = $1", database)


async def test_three_arguments_set_the_time_to_now(owner: Any, add: Add) -> None:
    database = await add()
    async with owner.transaction():
        assert await owner.fetchval(THREE, database, "unhealthy", "refused: nothing listens")
        now = await owner.fetchval("select now()")
    found = await row(owner, database)
    assert found["health_check_status"] == "unhealthy"
    assert found["health_check_error"] == "refused: nothing listens"
    assert found["last_health_check_at"] == now
    healthy = "select platform.update_database_health($1, 'healthy')"
    assert await owner.fetchval(healthy, database)
    assert (await row(owner, database))["health_check_error"] is None


async def test_the_fourth_argument_is_the_time_of_the_check(owner: Any, add: Add) -> None:
    database = await add()
    then = datetime.now(UTC) - timedelta(minutes=5)
    assert await owner.fetchval(FOUR, database, "healthy", None, then)
    assert (await row(owner, database))["last_health_check_at"] == then


@pytest.mark.parametrize("earlier", [timedelta(0), timedelta(microseconds=1), timedelta(days=1)])
async def test_a_time_not_newer_than_the_stored_one_changes_nothing(
    owner: Any, add: Add, earlier: timedelta
) -> None:
    database = await add()
    then = datetime.now(UTC) - timedelta(minutes=5)
    await owner.fetchval(FOUR, database, "healthy", None, then)
    assert await owner.fetchval(FOUR, database, "unhealthy", "late", then - earlier)
    found = await row(owner, database)
    assert (found["health_check_status"], found["last_health_check_at"]) == ("healthy", then)
    assert await owner.fetchval(FOUR, database, "unhealthy", "new", then + timedelta(seconds=1))
    assert (await row(owner, database))["health_check_status"] == "unhealthy"


async def test_a_time_in_the_future_freezes_no_row(owner: Any, add: Add) -> None:
    database = await add()
    now = datetime.now(UTC)
    await owner.fetchval(FOUR, database, "healthy", None, now + timedelta(hours=1))
    assert (await row(owner, database))["last_health_check_at"] < now + timedelta(minutes=1)
    await owner.execute("update platform.databases set last_health_check_at = now() + '1 h'")
    assert await owner.fetchval(FOUR, database, "unhealthy", "clock", now)
    assert (await row(owner, database))["health_check_status"] == "unhealthy"


async def test_a_status_that_is_none_is_refused(owner: Any, add: Add) -> None:
    database = await add()
    for status in ("up", "", "Healthy", None):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="none of unknown, healthy"):
            await owner.fetchval(THREE, database, status, None)
        with pytest.raises(asyncpg.InvalidParameterValueError, match="none of unknown, healthy"):
            await owner.fetchval(FOUR, database, status, None, datetime.now(UTC))
    assert (await row(owner, database))["health_check_status"] == "unknown"


async def test_an_unknown_id_is_false(owner: Any) -> None:
    assert await owner.fetchval(THREE, uuid4(), "healthy", None) is False
    assert await owner.fetchval(FOUR, uuid4(), "healthy", None, datetime.now(UTC)) is False


async def test_updated_at_is_touched_by_edits_and_not_by_health(owner: Any, add: Add) -> None:
    database = await add(connection_string="redis://h")
    before = await row(owner, database)
    await owner.fetchval(THREE, database, "healthy", None)
    await owner.fetchval(FOUR, database, "unhealthy", "x", datetime.now(UTC))
    after = await row(owner, database)
    assert after["updated_at"] == before["updated_at"]
    assert (after["status"], after["connection_string"]) == ("active", "redis://h")
    edits = {
        "name": "m",
        "config": '{"db": 1}',
        "metadata": "{}",
        "status": "inactive",
        "ssl_enabled": True,
        "connection_string": "redis://i",
    }
    for column, value in edits.items():
        await owner.execute(
            f"update platform.databases set {column} = $2 where id = $1", database, value
        )
        edited = await row(owner, database)
        assert edited["updated_at"] > after["updated_at"], column
        after = edited


async def test_health_writes_are_hot(owner: Any, add: Add) -> None:
    databases = [await add(connection_string="redis://h") for _ in range(50)]
    statistics = (
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables"
        " where relid = 'platform.databases'::regclass"
    )
    await owner.execute("update platform.databases set health_check_status = 'healthy'")
    await owner.execute("vacuum platform.databases")
    await owner.execute("select pg_stat_force_next_flush()")
    before = await owner.fetchrow(statistics)
    for number in range(8):
        for database in databases:
            at = datetime.now(UTC)
            await owner.fetchval(FOUR, database, "healthy", f"error {number}", at)
    await owner.execute("select pg_stat_force_next_flush()")
    after = await owner.fetchrow(statistics)
    written = after["n_tup_upd"] - before["n_tup_upd"]
    assert written == 400
    assert after["n_tup_hot_upd"] - before["n_tup_hot_upd"] >= 0.95 * written


async def test_a_health_check_is_current_for_twice_its_interval_and_a_minute(
    owner: Any, add: Add
) -> None:
    ages = {
        "never": (None, "{}", False),
        "fresh": (1, "{}", True),
        "at the default interval": (170, "{}", True),
        "late at the default interval": (190, "{}", False),
        "at its own interval": (600, '{"healthCheck": {"intervalSeconds": 300}}', True),
        "late at its own interval": (80, '{"healthCheck": {"intervalSeconds": 5}}', False),
        "out of range": (190, '{"healthCheck": {"intervalSeconds": 1e300}}', True),
        "of the wrong type": (190, '{"healthCheck": {"intervalSeconds": "1e999"}}', False),
        "no object": (190, '["healthCheck"]', False),
        "a nested surprise": (190, '{"healthCheck": [{"intervalSeconds": 9}]}', False),
    }
    for name, (age, config, _) in ages.items():
        database = await add(name=name, config=config)
        await owner.execute(
            "update platform.databases set last_health_check_at ="
            " now() - make_interval(secs => $2) where id = $1",
            database,
            age,
        )
    slow_worker = await add(name="at the interval that its worker uses")
    ages["at the interval that its worker uses"] = (1000, "{}", True)
    await owner.execute(
        "update platform.databases set last_health_check_at = now() - interval '1000 s'"
        " where id = $1",
        slow_worker,
    )
    await owner.execute(
        "update platform.database_schedules set interval_seconds = 600 where database_id = $1",
        slow_worker,
    )
    rows = await owner.fetch("select name, health_check_is_current from platform.databases_safe")
    assert dict(map(tuple, rows)) == {name: expected for name, (_, _, expected) in ages.items()}
