"""No edit loses or misplaces a secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from worker.connection import mask

OLD = "redis://default:old-secret@h:6379/0"
MASK = "redis://default:***@h:6379/0"
ROTATED = "redis://default:new-secret@h:6379/0"
ELSEWHERE = "redis://default:new-secret@elsewhere:6379/0"
UPSERT = """
insert into platform.databases (id, project_id, name, type, connection_string)
select * from unnest($1::uuid[], $2::uuid[], $3::text[], array_fill('redis'::text, array[$5::int]),
  $4::text[])
on conflict (id) do update set connection_string = excluded.connection_string
"""

Add = Callable[..., Awaitable[UUID]]
Read = Callable[[UUID], Awaitable[str | None]]
Rows = Callable[..., Awaitable[list[Any]]]
Due = Callable[..., Awaitable[None]]


@pytest.fixture
def add(add: Add, owner: Any) -> Add:
    """Add rows whose revision begins at 0, not with the microsecond of their making."""

    async def run(**columns: object) -> UUID:
        database = await add(**columns)
        await owner.execute(
            "update platform.database_schedules set revision = 0 where database_id = $1", database
        )
        return database

    return run


async def upsert(owner: Any, project: UUID, *rows: tuple[UUID, str]) -> None:
    ids, urls = [row[0] for row in rows], [row[1] for row in rows]
    count = len(rows)
    await owner.execute(UPSERT, ids, [project] * count, ["n"] * count, urls, count)


async def edit(owner: Any, row: UUID, /, **columns: object) -> None:
    places = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 2))
    await owner.execute(
        f"update platform.databases set {places} where id = $1", row, *columns.values()
    )


async def edits(owner: Any, database: UUID) -> int:
    """Count those of a row that `add` has made."""
    found: int = await owner.fetchval(
        "select revision from platform.database_schedules where database_id = $1", database
    )
    return found


async def test_writing_back_the_exact_mask_changes_nothing(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD, password="x")
    await edit(owner, database, connection_string=MASK, password="***", host=None)
    assert await clear_text(database) == OLD
    assert await edits(owner, database) == 0


async def test_writing_back_a_mask_that_shows_nothing_changes_nothing(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string="redis://a:b/c@h")
    await edit(owner, database, connection_string="redis://***")
    assert await clear_text(database) == "redis://a:b/c@h"


@pytest.mark.parametrize(
    "altered",
    [MASK.replace("@h", "@evil"), MASK.replace("/0", "/1"), "redis://***", "***"],
)
async def test_any_other_text_with_a_masked_part_is_refused(
    owner: Any, add: Add, clear_text: Read, altered: str
) -> None:
    database = await add(connection_string=OLD)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="masked part") as raised:
        await edit(owner, database, connection_string=altered)
    assert raised.value.sqlstate == "22023"
    with pytest.raises(asyncpg.InvalidParameterValueError, match="masked part"):
        await add(connection_string=altered)
    assert await clear_text(database) == OLD


async def test_a_new_connection_string_replaces_the_secret_and_counts_as_an_edit(
    owner: Any, add: Add, clear_text: Read, mask_of: Read
) -> None:
    database = await add(connection_string=OLD)
    await edit(owner, database, connection_string=ELSEWHERE)
    assert await clear_text(database) == ELSEWHERE
    assert await mask_of(database) == mask(ELSEWHERE)
    assert await edits(owner, database) == 1


async def test_the_clear_text_written_again_is_no_edit(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD)
    await edit(owner, database, connection_string=OLD)
    assert await clear_text(database) == OLD
    assert await edits(owner, database) == 0


@pytest.mark.parametrize("new", [ROTATED, ELSEWHERE])
async def test_an_upsert_changes_the_secret_exactly_as_an_update_does(
    owner: Any, project: UUID, add: Add, clear_text: Read, mask_of: Read, new: str
) -> None:
    database = await add(connection_string=OLD)
    await upsert(owner, project, (database, new))
    assert await clear_text(database) == new
    assert await mask_of(database) == mask(new)
    assert await edits(owner, database) == 1


async def test_an_upsert_of_the_same_secret_is_no_edit(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD)
    await upsert(owner, project, (database, OLD))
    assert await clear_text(database) == OLD
    assert await edits(owner, database) == 0


async def test_an_upsert_of_the_stored_mask_is_refused_as_an_insert_of_it_is(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD)
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await upsert(owner, project, (database, MASK))
    assert await clear_text(database) == OLD


async def test_an_upsert_of_many_rows_gives_each_its_own_secret(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    known = [await add(connection_string=OLD) for _ in range(3)]
    fresh = [uuid4() for _ in range(3)]
    rows = [
        (database, f"redis://default:secret-{number}@h:6379/0")
        for number, pair in enumerate(zip(known, fresh, strict=True))
        for database in pair
    ]
    await upsert(owner, project, *rows)
    for database, url in rows:
        assert await clear_text(database) == url


async def test_an_upsert_may_set_every_column_from_what_it_brought(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD, password="old", host="h")
    await owner.execute(
        "insert into platform.databases (id, project_id, name, type, host, password,"
        " connection_string) values ($1, $2, 'n', 'redis', 'elsewhere', 'new', $3)"
        " on conflict (id) do update set host = excluded.host, password = excluded.password,"
        " connection_string = excluded.connection_string, project_id = excluded.project_id,"
        " connection_string_encrypted = excluded.connection_string_encrypted",
        database,
        project,
        ELSEWHERE,
    )
    assert await clear_text(database) == ELSEWHERE


async def test_an_upsert_to_another_project_carries_its_secret_along(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD)
    other = await owner.fetchval(
        "insert into platform.projects (name) values ('other') returning id"
    )
    await owner.execute(
        "insert into platform.databases (id, project_id, name, type, connection_string)"
        " values ($1, $2, 'n', 'redis', $3) on conflict (id) do update"
        " set project_id = excluded.project_id, connection_string = excluded.connection_string",
        database,
        other,
        ROTATED,
    )
    assert await clear_text(database) == ROTATED


async def test_an_upsert_by_a_key_of_the_users_own_works_too(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    await owner.execute("create unique index own_key on platform.databases (project_id, name)")
    database = await add(connection_string=OLD, name="sessions")
    await owner.execute(
        "insert into platform.databases (project_id, name, type, connection_string)"
        " values ($1, 'sessions', 'redis', $2) on conflict (project_id, name)"
        " do update set connection_string = excluded.connection_string",
        project,
        ROTATED,
    )
    await owner.execute("drop index platform.own_key")
    assert await clear_text(database) == ROTATED


async def test_an_upsert_that_leaves_the_connection_string_alone_keeps_the_secret(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD, host="h")
    await owner.execute(
        "insert into platform.databases (id, project_id, name, type, host, connection_string)"
        " values ($1, $2, 'renamed', 'redis', 'h', $3) on conflict (id)"
        " do update set name = excluded.name, host = excluded.host",
        database,
        project,
        ROTATED,
    )
    assert await clear_text(database) == OLD


async def test_an_upsert_that_would_lose_a_password_is_refused(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    database = await add(host="h", username="u", password="old-secret")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="connection string"):
        await owner.execute(
            "insert into platform.databases (id, project_id, name, type, host, username, password)"
            " values ($1, $2, 'n', 'redis', 'h', 'u', 'new-secret') on conflict (id)"
            " do update set password = excluded.password",
            database,
            project,
        )
    assert await clear_text(database) == "redis://u:old-secret@h"


async def test_what_an_upsert_leaves_does_not_reach_a_later_statement(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    first, second = await add(connection_string=OLD), await add(connection_string=OLD)
    async with owner.transaction():
        await owner.execute(
            "insert into platform.databases (id, project_id, name, type, connection_string)"
            " values ($1, $2, 'n', 'redis', $3) on conflict (id) do nothing",
            first,
            project,
            ROTATED,
        )
        await edit(owner, first, connection_string=MASK)
        await add(connection_string=ROTATED)
        await edit(owner, second, connection_string=MASK)
    assert await clear_text(first) == OLD
    assert await clear_text(second) == OLD


async def test_what_is_inserted_does_not_reach_another_row_of_the_same_statement(
    owner: Any, project: UUID, add: Add, clear_text: Read
) -> None:
    known = await add(connection_string=OLD)
    await owner.execute(
        "with added as (insert into platform.databases (project_id, name, type, connection_string)"
        "   values ($1, 'n', 'redis', $2) returning id)"
        " update platform.databases d set connection_string = d.connection_string from added"
        " where d.id = $3",
        project,
        ROTATED,
        known,
    )
    assert await clear_text(known) == OLD


async def test_a_row_moved_to_another_project_is_encrypted_anew(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD)
    await owner.execute("update platform.databases set health_check_status = 'healthy'")
    sealed = "select connection_string_encrypted from platform.databases where id = $1"
    before = await owner.fetchval(sealed, database)
    other = await owner.fetchval(
        "insert into platform.projects (name) values ('other') returning id"
    )
    await edit(owner, database, project_id=other)
    assert await clear_text(database) == OLD
    assert await owner.fetchval(sealed, database) != before
    assert await edits(owner, database) == 1
    status = "select health_check_status from platform.databases where id = $1"
    assert await owner.fetchval(status, database) == "healthy"


async def test_a_row_whose_secret_does_not_decrypt_moves_only_with_a_new_one(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=MASK, connection_string_encrypted=b"garbled")
    other = await owner.fetchval(
        "insert into platform.projects (name) values ('other') returning id"
    )
    with pytest.raises(asyncpg.InvalidParameterValueError, match="does not decrypt"):
        await edit(owner, database, project_id=other)
    await edit(owner, database, project_id=other, connection_string=ROTATED)
    assert await clear_text(database) == ROTATED


async def test_parts_without_a_connection_string_build_one(
    add: Add, clear_text: Read, mask_of: Read
) -> None:
    database = await add(
        type="postgresql", host="::1", port=5432, username="u@x", password="p/ö", database="a b"
    )
    assert await clear_text(database) == "postgresql://u%40x:p%2F%C3%B6@[::1]:5432/a%20b"
    assert await mask_of(database) == "postgresql://u%40x:***@[::1]:5432/a%20b"
    assert await clear_text(await add(host="h")) == "redis://h"
    assert await clear_text(await add(host="h", password="p")) == "redis://:p@h"


async def test_parts_written_where_none_is_build_one(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add()
    await edit(owner, database, host="h", port=6379, password="secret")
    assert await clear_text(database) == "redis://:secret@h:6379"


@pytest.mark.parametrize(
    "part",
    [
        {"host": "other"},
        {"port": 1},
        {"database": "1"},
        {"username": "root"},
        {"password": "new"},
        {"password": None},
    ],
    ids=str,
)
async def test_parts_are_refused_where_a_connection_string_is(
    owner: Any, add: Add, clear_text: Read, part: dict[str, object]
) -> None:
    database = await add(connection_string=OLD, host="h", password="old-secret")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="follow the connection string"):
        await edit(owner, database, **part)
    await edit(owner, database, connection_string=ROTATED, **part)
    assert await clear_text(database) == ROTATED


async def test_null_clears_the_secret(
    owner: Any, add: Add, clear_text: Read, mask_of: Read
) -> None:
    database = await add(connection_string=OLD, password="old-secret")
    await edit(owner, database, connection_string=None)
    row = await owner.fetchrow("select * from platform.databases where id = $1", database)
    assert row["connection_string_encrypted"] is None
    assert row["password"] is None
    assert await clear_text(database) is None
    assert await edits(owner, database) == 1


async def test_null_and_new_parts_build_a_new_one(owner: Any, add: Add, clear_text: Read) -> None:
    database = await add(connection_string=OLD)
    await edit(owner, database, connection_string=None, host="new", password="p")
    assert await clear_text(database) == "redis://:p@new"


async def test_a_password_that_cannot_be_kept_is_refused(owner: Any, add: Add) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="cannot be kept"):
        await add(password="secret")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="masked part"):
        await add(host="h", password="***")
    database = await add()
    with pytest.raises(asyncpg.InvalidParameterValueError, match="cannot be kept"):
        await edit(owner, database, password="secret")


async def test_the_ciphertext_is_written_by_nobody_else(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database, other = await add(connection_string=OLD), await add(connection_string=ROTATED)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="follows"):
        await owner.execute(
            "update platform.databases d set connection_string_encrypted ="
            " o.connection_string_encrypted from platform.databases o"
            " where d.id = $1 and o.id = $2",
            database,
            other,
        )
    assert await clear_text(database) == OLD


async def test_a_row_that_is_edited_over_and_over_keeps_its_place_among_those_that_wait(
    owner: Any, add: Add, claim: Rows, due: Due
) -> None:
    edited, waiting = await add(), await add()
    await due(edited, 100)
    await due(waiting, 50)
    await edit(owner, edited, config='{"edited": true}')
    assert [row["id"] for row in await claim(slots=1)] == [edited]


async def test_a_row_saved_whole_as_it_was_read_is_no_edit(
    owner: Any, add: Add, clear_text: Read
) -> None:
    database = await add(connection_string=OLD, host="h", port=6379, password="x")
    row = dict(await owner.fetchrow("select * from platform.databases where id = $1", database))
    await edit(owner, database, **row)
    assert await clear_text(database) == OLD
    assert await edits(owner, database) == 0
