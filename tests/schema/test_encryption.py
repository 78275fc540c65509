"""No clear text rests anywhere in the registry, and what rests there can be read back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer

PROJECT_ROOT = Path(__file__).parent.parent.parent
SECRET = "canary-7f3a"
URL = f"mongodb://mongo:{SECRET}@host:27017/app?password={SECRET}"
MASK = "mongodb://mongo:***@host:27017/app?password=***"


async def test_a_connection_string_is_stored_as_ciphertext_and_mask(
    owner: Any, add: Callable[..., Awaitable[UUID]]
) -> None:
    database = await add(type="mongodb", connection_string=URL, password=SECRET)
    row = await owner.fetchrow("select * from platform.databases where id = $1", database)
    assert row["connection_string"] == MASK
    assert row["password"] == "***"
    assert row["connection_string_encrypted"] is not None
    clear = "select platform.decrypt_database_connection_string($1)"
    assert await owner.fetchval(clear, database) == URL


async def test_no_table_and_no_index_of_the_registry_holds_clear_text(
    owner: Any, add: Callable[..., Awaitable[UUID]]
) -> None:
    database = await add(connection_string=URL, password=SECRET)
    parts = await add(host="h", username="u", password=SECRET)
    await owner.execute(
        "update platform.databases set connection_string = $2 where id = $1", database, URL + "2"
    )
    await owner.execute("delete from platform.databases where id = $1", parts)
    await owner.execute("checkpoint")
    relations = await owner.fetch(
        "select oid::regclass::text as name, pg_relation_filepath(oid) as path from pg_class"
        " where relnamespace in ('platform'::regnamespace, 'pg_toast'::regnamespace)"
        " and relkind in ('r', 'i', 't') and pg_relation_filenode(oid) > 0"
    )
    assert {"platform.databases", "platform.database_schedules"} <= {r["name"] for r in relations}
    for relation in relations:
        content = await owner.fetchval("select pg_read_binary_file($1)", relation["path"])
        assert SECRET.encode() not in content, relation["name"]


async def test_the_same_text_is_encrypted_differently_each_time_and_for_each_project(
    owner: Any, project: UUID, add: Callable[..., Awaitable[UUID]]
) -> None:
    one, two = await add(connection_string=URL), await add(connection_string=URL)
    sealed = "select connection_string_encrypted from platform.databases where id = $1"
    assert await owner.fetchval(sealed, one) != await owner.fetchval(sealed, two)
    opened = "select platform.try_open_connection_string($1, $2)"
    ciphertext = await owner.fetchval(sealed, one)
    assert await owner.fetchval(opened, project, ciphertext) == URL
    assert await owner.fetchval(opened, uuid4(), ciphertext) is None


async def test_the_salts_version_travels_with_the_ciphertext(
    owner: Any, add: Callable[..., Awaitable[UUID]], clear_text: Callable[[UUID], Awaitable[str]]
) -> None:
    old = await add(connection_string="redis://:old@h")
    new_salt = await owner.fetchval(
        "insert into platform.database_salts (salt) values (decode(repeat('ab', 32), 'hex'))"
        " returning version"
    )
    new = await add(connection_string="redis://:new@h")
    version = "select substr(connection_string_encrypted, 1, 16) from platform.databases where id ="
    assert await owner.fetchval(f"{version} $1", new) == new_salt.bytes
    assert await owner.fetchval(f"{version} $1", old) != new_salt.bytes
    assert await clear_text(old) == "redis://:old@h"
    assert await clear_text(new) == "redis://:new@h"


async def test_without_a_salt_nothing_is_taken(
    owner: Any, add: Callable[..., Awaitable[UUID]]
) -> None:
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("delete from platform.database_salts")
    with pytest.raises(asyncpg.RaiseError, match="database_salts is empty"):
        await add(connection_string=URL)
    await transaction.rollback()


@pytest.mark.parametrize(
    "wrong",
    [{"type": "mysql"}, {"status": "bogus"}, {"name": None}, {"project_id": UUID(int=0)}],
    ids=str,
)
async def test_no_error_of_a_constraint_shows_clear_text(
    add: Callable[..., Awaitable[UUID]], wrong: dict[str, object]
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as raised:
        await add(connection_string=URL, password=SECRET, **wrong)
    assert SECRET not in str(raised.value.as_dict())


async def test_any_text_can_be_registered(
    add: Callable[..., Awaitable[UUID]],
    clear_text: Callable[[UUID], Awaitable[str]],
    mask_of: Callable[[UUID], Awaitable[str]],
) -> None:
    for text, mask in (
        ("host=h password=s", "***"),
        ("redis://u:p/s@h", "redis://***"),
        ("", "***"),
        ("redis://:" + "é" * 4096 + "@h", "redis://:***@h"),
    ):
        database = await add(connection_string=text)
        assert await clear_text(database) == text
        assert await mask_of(database) == mask


async def test_neither_the_log_nor_the_activity_of_the_server_shows_what_was_bound() -> None:
    settings = {"log_statement": "all", "log_min_error_statement": "debug5"}
    with PostgreSQLServer(PostgreSQLOptions(settings=settings)) as server:
        for name in ("000_platform_prerequisites", "006_add_platform_databases_table"):
            server.psql("-f", f"{PROJECT_ROOT}/schema/{name}.sql")
        server.psql("-f", f"{PROJECT_ROOT}/schema/007_add_database_health_scheduling.sql")
        connection = await asyncpg.connect(server.url())
        watcher = await asyncpg.connect(server.url())
        await connection.execute("set log_parameter_max_length = 0")
        project = await connection.fetchval(
            "insert into platform.projects (name) values ('p') returning id"
        )
        insert = (
            "insert into platform.databases (project_id, name, type, connection_string)"
            " values ($1, 'n', $3, $2)"
        )
        await connection.execute(insert, project, URL, "mongodb")
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(insert, project, URL, "mysql")
        for claim in (
            "select * from platform.claim_databases(9, 9, '1 s', '45 s')",
            "select * from platform.databases_with_connection_strings",
            "update platform.databases set project_id = gen_random_uuid()",
        ):
            try:
                rows = await connection.fetch(claim)
                assert SECRET in str(rows)
            except asyncpg.ForeignKeyViolationError:
                pass
        activity = await watcher.fetch("select query from pg_stat_activity")
        assert SECRET not in str(activity)
        assert "insert into platform.databases" in server.log
        assert SECRET not in server.log
        await connection.close()
        await watcher.close()
