"""Who may read, claim and decrypt what."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLServer

URL = "redis://default:hunter2-secret@h:6379"
TABLES = (
    "databases",
    "database_salts",
    "database_schedules",
    "database_health_changes",
)
Add = Callable[..., Awaitable[UUID]]
Login = Callable[[str], Awaitable[Any]]


@pytest.fixture
async def login(cluster: PostgreSQLServer, registry_database: str) -> AsyncIterator[Login]:
    """Connect as a new role with these memberships."""
    names: list[str] = []
    connections: list[Any] = []

    async def connect(membership: str) -> Any:
        name = f"role_{uuid4().hex}"
        cluster.execute(f"create role {name} login password 'p' {membership}")
        names.append(name)
        url = cluster.url(user=name, password="p", database=registry_database)
        connections.append(await asyncpg.connect(url))
        return connections[-1]

    yield connect
    for connection in connections:
        await connection.close()
    for name in names:
        cluster.execute(f"drop owned by {name}", database=registry_database)
        cluster.execute(f"drop role {name}")


async def refused(connection: Any, statement: str, *arguments: object) -> None:
    cannot_be_written = asyncpg.ObjectNotInPrerequisiteStateError
    with pytest.raises((asyncpg.InsufficientPrivilegeError, cannot_be_written)):
        await connection.fetch(statement, *arguments)


async def functions(owner: Any) -> list[Any]:
    found = await owner.fetch(
        "select oid, oid::regprocedure::text as name, proname, pronargs, prosecdef, proconfig,"
        " array(select format('null::%s', format_type(t, null)) from unnest(proargtypes) t) as args"
        " from pg_proc where pronamespace = 'platform'::regnamespace and prorettype <> 'trigger'::"
        "regtype order by 2"
    )
    assert len(found) > 15
    return list(found)


async def test_an_ordinary_role_reads_databases_safe_and_nothing_else(
    owner: Any, add: Add, login: Login
) -> None:
    await add(connection_string=URL, username="u", password="hunter2-secret")
    anybody = await login("")
    assert len(await anybody.fetch("select * from platform.databases_safe")) == 1
    for relation in (*TABLES, "projects", "databases_with_connection_strings"):
        await refused(anybody, f"select * from platform.{relation}")
    for statement in (
        "insert into platform.databases_safe (name) values ('n')",
        "update platform.databases_safe set name = 'n'",
        "delete from platform.databases_safe",
        "truncate platform.databases",
        "create table platform.mine (i int)",
        "create function platform.mine() returns int language sql as 'select 1'",
    ):
        await refused(anybody, statement)
    for function in await functions(owner):
        await refused(
            anybody, f"select platform.{function['proname']}({', '.join(function['args'])})"
        )


async def test_databases_safe_holds_no_credential_in_any_column(add: Add, login: Login) -> None:
    await add(
        connection_string="redis://user-secret:hunter2-secret@h:6379?password=hunter2-secret",
        username="user-secret",
        password="hunter2-secret",
        host="redis://:hunter2-secret@h",
        database="db?password=hunter2-secret",
        config='{"db": 1, "authSource": {"password": "hunter2-secret"}, "auth": "hunter2-secret",'
        ' "tls": {"ca": "hunter2-secret"}, "connectTimeout": ["hunter2-secret"]}',
        metadata='{"provider": "railway", "token": "hunter2-secret", "region": ["hunter2-secret"]}',
    )
    await add(config='["hunter2-secret"]', metadata='"hunter2-secret"')
    anybody = await login("")
    rows = await anybody.fetch("select * from platform.databases_safe")
    assert len(rows) == 2
    assert not re.search("secret", str(rows))
    assert {row["config"] for row in rows} == {'{"db": 1}', "{}"}
    assert {row["metadata"] for row in rows} == {'{"provider": "railway"}', "{}"}


async def test_a_reader_reads_both_views_and_decrypts_and_writes_nothing(
    add: Add, project: UUID, login: Login
) -> None:
    database = await add(connection_string=URL)
    reader = await login("in role platform_databases_reader")
    (row,) = await reader.fetch("select * from platform.databases_with_connection_strings")
    assert row["connection_string"] == URL
    assert len(await reader.fetch("select * from platform.databases_safe")) == 1
    clear = "select platform.decrypt_database_connection_string($1)"
    assert await reader.fetchval(clear, database) == URL
    found = await reader.fetch("select * from platform.get_project_databases($1)", project)
    assert [row["id"] for row in found] == [database]
    for table in TABLES:
        await refused(reader, f"select * from platform.{table}")
    for statement in (
        "update platform.databases_with_connection_strings set name = 'n'",
        "update platform.databases_safe set name = 'n'",
        "select platform.update_database_health(gen_random_uuid(), 'healthy', null)",
        "select * from platform.claim_databases(1, 1, '1 s', '1 s')",
        "select platform.seal_connection_string(gen_random_uuid(), 'x')",
        "select platform.open_connection_string(gen_random_uuid(), 'x')",
    ):
        await refused(reader, statement)


WORKER_FUNCTIONS = {
    "health_worker_schema_version",
    "tend_database_schedules",
    "claim_databases",
    "claim_databases_by_id",
    "claim_known_databases",
    "read_databases",
    "record_check_results",
    "record_database_health",
    "give_back_databases",
    "database_health_snapshot",
    "has_more_databases_than",
    "count_active_databases",
    "count_slice_of_databases",
    "count_overdue_databases",
    "claim_unannounced_changes",
    "mark_changes_announced",
}


async def test_the_worker_claims_and_records_and_nothing_else(
    owner: Any, add: Add, worker: Any
) -> None:
    database = await add(connection_string=URL)
    (row,) = await worker.fetch("select * from platform.claim_databases(9, 9, '1 s', '45 s')")
    assert (row["id"], row["connection_string"]) == (database, URL)
    result = (
        f'[{{"database_id": "{database}", "revision": {row["revision"]},'
        f' "status": "healthy", "reason": "ok",'
        f' "checked_at": "{row["claimed_at"].isoformat()}", "interval_seconds": 60}}]'
    )
    recorded = "select outcome from platform.record_check_results($1)"
    assert await worker.fetchval(recorded, result) == "recorded"
    for table in (*TABLES, "databases_with_connection_strings", "projects"):
        await refused(worker, f"select * from platform.{table}")
        await refused(worker, f"delete from platform.{table}")
    await refused(worker, "insert into platform.databases (name) values ('n')")
    await refused(worker, "update platform.databases set health_check_status = 'healthy'")
    for function in await functions(owner):
        call = f"select platform.{function['proname']}({', '.join(function['args'])})"
        if function["proname"] not in WORKER_FUNCTIONS:
            await refused(worker, call)
    allowed = await owner.fetch(
        "select proname from pg_proc where pronamespace = 'platform'::regnamespace"
        " and has_function_privilege('platform_health_worker', oid, 'execute')"
    )
    assert {row["proname"] for row in allowed} == WORKER_FUNCTIONS


async def test_no_function_is_executable_by_public_and_each_pins_its_search_path(
    owner: Any,
) -> None:
    found = await owner.fetch(
        "select oid::regprocedure::text as name, has_function_privilege('public', oid, 'execute')"
        " as is_public, proconfig from pg_proc where pronamespace = 'platform'::regnamespace"
    )
    assert len(found) > 25
    for function in found:
        assert not function["is_public"], function["name"]
        assert "search_path=pg_catalog, pg_temp" in function["proconfig"], function["name"]


async def test_no_relation_but_the_safe_view_is_open_to_public(owner: Any) -> None:
    found = await owner.fetch(
        "select c.oid::regclass::text as name, a.privilege_type as privilege"
        " from pg_class c, aclexplode(c.relacl) a"
        " where relnamespace = 'platform'::regnamespace and a.grantee = 0"
    )
    assert [tuple(row) for row in found] == [("platform.databases_safe", "SELECT")]
    anybody = "select has_schema_privilege('public', 'platform', $1)"
    assert await owner.fetchval(anybody, "usage")
    assert not await owner.fetchval(anybody, "create")


async def test_a_role_with_create_in_the_search_path_hijacks_nothing(
    owner: Any, add: Add, login: Login, worker: Any, project: UUID
) -> None:
    """Each trap would fit a call better than the function that is meant."""
    mallory = await login("")
    name = await mallory.fetchval("select current_user")
    await owner.execute(f'create schema trap; grant all on schema trap, public to "{name}"')
    trap = "language plpgsql as $$ begin raise exception 'hijacked by %', current_user; end $$"
    for schema in ("trap", "public", "pg_temp"):
        for signature in (
            "hmac(bytea, bytea, name) returns bytea",
            "pgp_sym_encrypt(text, text, name) returns bytea",
            "pgp_sym_decrypt(bytea, varchar) returns text",
            "encode(bytea, name) returns text",
            "now() returns timestamptz",
            "position(text, text) returns int",
            "strpos(varchar, varchar) returns int",
            "set_config(text, text, boolean) returns text",
            "make_interval(double precision) returns interval",
            "jsonb_array_elements(jsonb) returns jsonb",
        ):
            await mallory.execute(f"create function {schema}.{signature} {trap}")
        await mallory.execute(
            f"create function {schema}.less(timestamptz, timestamptz) returns boolean {trap};"
            f"create operator {schema}.< (leftarg = timestamptz, rightarg = timestamptz,"
            f" function = {schema}.less)"
        )
    await owner.execute("set search_path = trap, public, pg_catalog")
    await worker.execute("set search_path = trap, public, pg_catalog")
    try:
        database = await add(connection_string=URL)
        await owner.execute("update platform.databases set name = 'n', host = null")
        await owner.execute(
            "update platform.databases set connection_string = $2 where id = $1",
            database,
            URL + "/1",
        )
        clear = "select platform.decrypt_database_connection_string($1)"
        assert await owner.fetchval(clear, database) == URL + "/1"
        claimed = await worker.fetch("select * from platform.claim_databases(9, 9, '1 s', '45 s')")
        (revision,) = [row["revision"] for row in claimed]
        recorded = "select outcome from platform.record_check_results($1)"
        result = f'[{{"database_id": "{database}", "revision": {revision}, "reason": "internal"}}]'
        assert await worker.fetchval(recorded, result) == "recorded"
    finally:
        await owner.execute("set search_path to default; drop schema trap cascade")


async def test_forging_what_an_upsert_leaves_behind_gains_nothing(
    owner: Any, add: Add, login: Login
) -> None:
    await add(connection_string=URL)
    mine = await add(connection_string="redis://:mine@h")
    writer = await login("")
    name = await writer.fetchval("select current_user")
    await owner.execute(
        f'grant insert, update on platform.databases to "{name}";'
        f' grant select (id, project_id) on platform.databases to "{name}"'
    )
    project = await writer.fetchval("select project_id from platform.databases where id = $1", mine)
    async with writer.transaction():
        forged = f"{{redis://x,{project},00,{mine},f}}"
        await writer.execute("select set_config('platform.sealed', $1, true)", forged)
        await writer.execute(
            "update platform.databases set connection_string = 'redis://x' where id = $1", mine
        )
    clear = "select platform.decrypt_database_connection_string($1)"
    assert await owner.fetchval(clear, mine) == "redis://x"
    await refused(writer, "select connection_string_encrypted from platform.databases")
