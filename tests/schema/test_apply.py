"""The files are applied, refused and undone as promised, by psql and by `schema`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLServer
from worker import schema_files

FILES = (
    "000_platform_prerequisites.sql",
    "006_add_platform_databases_table.sql",
    "007_add_database_health_scheduling.sql",
)
OBJECTS = """
select string_agg(line, E'\\n' order by line) from (
  select 'relation ' || oid::regclass || coalesce(' ' || relacl::text, '') from pg_class
  where relnamespace = 'platform'::regnamespace
  union all select 'function ' || oid::regprocedure || ' ' || proacl::text || md5(prosrc)
  from pg_proc where pronamespace = 'platform'::regnamespace
  union all select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
) as objects (line)
"""
ROW = """
insert into platform.projects (name) values ('p');
insert into platform.databases (project_id, name, type, connection_string)
select id, 'n', 'redis', 'redis://:secret@h' from platform.projects
"""
Run = Callable[..., subprocess.CompletedProcess[str]]
Apply = Callable[[str], subprocess.CompletedProcess[str]]


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


INDEXES = "select indexdef from pg_indexes where schemaname = 'platform' order by indexname"


@pytest.fixture(params=["psql", "schema"])
def tool(request: pytest.FixtureRequest) -> str:
    """Each test runs with psql file by file, and with the command that needs no psql."""
    return str(request.param)


@pytest.fixture
def apply(tool: str, psql: Run, schema_command: Run) -> Apply:
    """Apply the files."""
    files = [word for name in FILES for word in ("-f", name)]
    if tool == "psql":
        return lambda url: psql(url, *files)
    return lambda url: schema_command(url, "apply")


@pytest.fixture
def rollback(tool: str, psql: Run, schema_command: Run) -> Run:
    """Undo a file, told how many rows that destroys."""

    def by_psql(url: str, number: str, rows: str = "") -> subprocess.CompletedProcess[str]:
        told = ["-v", f"destroy_rows={rows}"] if rows else []
        return psql(url, *told, "-f", f"rollback-{number}.sql")

    def by_command(url: str, number: str, rows: str = "") -> subprocess.CompletedProcess[str]:
        told = ["--destroy-rows", rows] if rows else []
        return schema_command(url, "rollback", number, *told)

    return by_psql if tool == "psql" else by_command


def test_applying_twice_in_a_row_changes_nothing(
    empty_database_url: str, apply: Apply, psql: Run
) -> None:
    succeed(apply(empty_database_url))
    once = succeed(psql(empty_database_url, "-c", OBJECTS))
    succeed(psql(empty_database_url, "-c", ROW))
    succeed(apply(empty_database_url))
    assert succeed(psql(empty_database_url, "-c", OBJECTS)) == once
    decrypted = "select connection_string from platform.databases_with_connection_strings"
    assert succeed(psql(empty_database_url, "-c", decrypted)) == "redis://:secret@h"
    assert succeed(psql(empty_database_url, "-c", "select count(*) from platform.database_salts"))


def test_the_command_needs_no_psql_and_makes_the_same(
    empty_database_url: str, registry_url: str, psql: Run, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "schema", "apply"],
        env={"PATH": str(tmp_path), "SCHEMA_DATABASE_URL": empty_database_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert succeed(done).splitlines() == [f"applied {name}" for name in FILES]
    made = succeed(psql(empty_database_url, "-c", OBJECTS))
    assert made == succeed(psql(registry_url, "-c", OBJECTS))


async def test_applying_at_once_by_many_and_to_two_databases_of_a_cluster(psql: Run) -> None:
    files = [word for name in FILES for word in ("-f", name)]
    with PostgreSQLServer() as server:
        server.execute("create database other")
        urls = [server.url(), server.url(database="other")]
        runs = [asyncio.to_thread(psql, url, *files) for url in urls * 2]
        applies = [schema_files.apply(url, 10) for url in urls * 2]
        done, _ = await asyncio.gather(asyncio.gather(*runs), asyncio.gather(*applies))
        for run in done:
            succeed(run)
        for url in urls:
            assert succeed(psql(url, "-c", "select count(*) from platform.database_salts")) == "1"
            succeed(psql(url, "-f", "test_database_health.sql"))


def test_rollback_and_apply_again(
    empty_database_url: str, apply: Apply, rollback: Run, psql: Run
) -> None:
    succeed(apply(empty_database_url))
    once = succeed(psql(empty_database_url, "-c", OBJECTS))
    succeed(rollback(empty_database_url, "007"))
    succeed(rollback(empty_database_url, "006"))
    left = succeed(psql(empty_database_url, "-c", OBJECTS)).splitlines()
    assert left == ["relation platform.projects", "relation platform.projects_pkey"]
    succeed(apply(empty_database_url))
    assert succeed(psql(empty_database_url, "-c", OBJECTS)) == once


def test_rolling_back_what_was_never_applied_does_nothing(
    empty_database_url: str, rollback: Run
) -> None:
    succeed(rollback(empty_database_url, "007"))
    succeed(rollback(empty_database_url, "006"))


def test_006_stays_while_007_is_applied(
    empty_database_url: str, apply: Apply, rollback: Run
) -> None:
    succeed(apply(empty_database_url))
    done = rollback(empty_database_url, "006", "0")
    assert done.returncode != 0
    assert "migration 007 is applied: roll that back first" in done.stderr


def test_rows_that_nobody_counted_stay(
    empty_database_url: str, apply: Apply, rollback: Run, psql: Run
) -> None:
    succeed(apply(empty_database_url))
    succeed(psql(empty_database_url, "-c", ROW))
    succeed(rollback(empty_database_url, "007"))
    for told in ("", "0", "2"):
        done = rollback(empty_database_url, "006", told)
        assert done.returncode != 0
        assert "holds 1 rows: say destroy_rows=1" in done.stderr
    assert succeed(psql(empty_database_url, "-c", "select count(*) from platform.databases")) == "1"
    succeed(rollback(empty_database_url, "006", "1"))


def test_007_applied_again_schedules_the_rows_that_are_there(
    empty_database_url: str, apply: Apply, rollback: Run, psql: Run
) -> None:
    succeed(apply(empty_database_url))
    succeed(psql(empty_database_url, "-c", ROW))
    succeed(rollback(empty_database_url, "007"))
    succeed(psql(empty_database_url, "-c", ROW.replace("'n', 'redis'", "'m', 'redis'")))
    succeed(apply(empty_database_url))
    due = "select count(*) from platform.database_schedules where due_at <= now()"
    assert succeed(psql(empty_database_url, "-c", due)) == succeed(
        psql(empty_database_url, "-c", "select count(*) from platform.databases")
    )


def test_007_of_an_early_build_is_replaced(
    empty_database_url: str, apply: Apply, psql: Run
) -> None:
    succeed(apply(empty_database_url))
    succeed(psql(empty_database_url, "-c", ROW))
    early = """
        drop function platform.claim_databases(integer, integer, interval, interval),
          platform.read_claimed(uuid[], timestamptz[], interval);
        create function platform.read_claimed(ids uuid[], slots timestamptz[], lease interval)
        returns table (id uuid) language sql as 'select null::uuid';
        create function platform.claim_databases(
          slots integer, slow_slots integer, horizon interval, lease interval)
        returns table (id uuid) language sql as 'select null::uuid';
        drop function platform.record_check_results(jsonb), platform.record_database_health(jsonb),
          platform.claim_unannounced_changes(interval, integer);
        create function platform.record_check_results(results jsonb)
        returns table (database_id uuid) language sql as 'select null::uuid';
        create function platform.record_database_health(results jsonb)
        returns table (database_id uuid, kept_reason text)
        language sql as 'select null::uuid, null';
        create function platform.claim_unannounced_changes(older_than interval, batch integer)
        returns table (change_id bigint) language sql as 'select null::bigint';"""
    succeed(psql(empty_database_url, "-c", early))
    succeed(apply(empty_database_url))
    claim = "select slow from platform.claim_databases(9, 9, '1 s', '45 s')"
    assert succeed(psql(empty_database_url, "-c", claim)) == "f"


def test_an_index_of_an_early_build_is_replaced_while_nobody_reads(
    empty_database_url: str, apply: Apply, psql: Run
) -> None:
    succeed(apply(empty_database_url))
    once = succeed(psql(empty_database_url, "-c", INDEXES))
    early = "create index idx_databases_status on platform.databases (status)"
    succeed(psql(empty_database_url, "-c", "drop index platform.idx_databases_status", "-c", early))
    old = succeed(psql(empty_database_url, "-c", INDEXES))
    with asyncio.Runner() as runner:
        reader = runner.run(asyncpg.connect(empty_database_url))
        runner.run(reader.execute("begin; select from platform.databases"))
        succeed(apply(empty_database_url))  # and waits for no reader
        assert succeed(psql(empty_database_url, "-c", INDEXES)) == old != once
        runner.run(reader.close())
    succeed(apply(empty_database_url))
    assert succeed(psql(empty_database_url, "-c", INDEXES)) == once


def test_a_foreign_table_is_refused_in_one_line_and_left_alone(
    empty_database_url: str, apply: Apply, rollback: Run, psql: Run
) -> None:
    succeed(psql(empty_database_url, "-f", FILES[0]))
    succeed(psql(empty_database_url, "-c", "create table platform.databases (id int)"))
    done = apply(empty_database_url)
    assert done.returncode != 0
    assert "platform.databases exists and was not made by migration 006: rename it" in done.stderr
    assert len([line for line in done.stderr.splitlines() if "CONTEXT" not in line]) == 1
    assert rollback(empty_database_url, "006").returncode != 0
    assert succeed(psql(empty_database_url, "-c", "select count(*) from platform.databases")) == "0"


OLD_006 = """
    create schema platform;
    create table platform.databases ();
    comment on table platform.databases is 'migration 006: of long ago'"""


@pytest.mark.parametrize(
    ("prepared", "name", "what"),
    [
        ("select 1", FILES[1], "platform.projects is missing: apply 000"),
        ("create schema platform", FILES[1], "platform.projects is missing: apply 000"),
        (
            "create schema platform; create table platform.projects (id uuid primary key)",
            FILES[1],
            "the extension pgcrypto is missing: apply 000",
        ),
        ("select 1", FILES[2], "migration 006 is missing: apply 006"),
        ("create schema platform", FILES[2], "migration 006 is missing: apply 006"),
        (OLD_006, FILES[2], "migration 006 is of an older build: apply 006"),
    ],
)
def test_a_file_without_its_prerequisites_says_what_to_apply(
    empty_database_url: str, psql: Run, prepared: str, name: str, what: str
) -> None:
    succeed(psql(empty_database_url, "-c", prepared))
    done = psql(empty_database_url, "-f", name)
    assert done.returncode == 3
    assert what in done.stderr


def test_the_prerequisites_touch_nothing_that_exists(
    empty_database_url: str, apply: Apply, psql: Run
) -> None:
    succeed(
        psql(
            empty_database_url,
            "-c",
            "create schema platform; create schema tools; create extension pgcrypto schema tools;"
            "create table platform.projects (id uuid primary key, name text, budget int not null);"
            "create function platform.theirs() returns int language sql as 'select 1';"
            "create procedure platform.theirs_too() language sql as 'select 1'",
        )
    )
    succeed(apply(empty_database_url))
    anybody = "select has_function_privilege('public', oid, 'execute') from pg_proc"
    theirs = f"{anybody} where proname ~ '^theirs'"
    assert succeed(psql(empty_database_url, "-c", theirs)).split() == ["t", "t"]
    columns = "select count(*) from pg_attribute where attrelid = 'platform.projects'::regclass"
    assert succeed(psql(empty_database_url, "-c", f"{columns} and attnum > 0")) == "3"
    succeed(
        psql(
            empty_database_url,
            "-c",
            ROW.replace("(name) values ('p')", "values (gen_random_uuid(), 'p', 1)"),
        )
    )
    decrypted = "select connection_string from platform.databases_with_connection_strings"
    assert succeed(psql(empty_database_url, "-c", decrypted)) == "redis://:secret@h"


@pytest.fixture
def plain_owner(own_cluster: PostgreSQLServer) -> Iterator[str]:
    """A database whose owner is no superuser, may create no role, and no roles are there."""
    name = f"plain_{uuid4().hex}"
    own_cluster.execute(f"create role {name} login password 'p'")
    own_cluster.execute(f"create database {name} owner {name}")
    yield own_cluster.url(user=name, password="p", database=name)
    own_cluster.execute(f"drop database {name} with (force)")
    own_cluster.execute(f"drop role {name}")
    own_cluster.execute("drop role if exists platform_health_worker, platform_databases_reader")


def test_an_owner_who_may_create_no_role_is_told_whom_to_ask_for_what(
    plain_owner: str, apply: Apply
) -> None:
    done = apply(plain_owner)
    assert done.returncode != 0
    assert 'have "create role platform_databases_reader nologin" run first' in done.stderr


def test_an_owner_who_is_no_superuser_applies_uses_and_rolls_back(
    plain_owner: str, own_cluster: PostgreSQLServer, apply: Apply, rollback: Run, psql: Run
) -> None:
    own_cluster.execute("create role platform_databases_reader nologin")
    own_cluster.execute("create role platform_health_worker nologin")
    succeed(apply(plain_owner))
    succeed(apply(plain_owner))
    succeed(psql(plain_owner, "-c", ROW))
    succeed(psql(plain_owner, "-f", "test_database_health.sql"))
    claim = "select connection_string from platform.claim_databases(9, 9, '1 s', '45 s')"
    assert succeed(psql(plain_owner, "-c", claim)) == "redis://:secret@h"
    succeed(rollback(plain_owner, "007"))
    succeed(rollback(plain_owner, "006", "1"))


def roles(server: PostgreSQLServer) -> list[str]:
    return server.execute(
        "select rolname from pg_roles where rolname in"
        " ('platform_health_worker', 'platform_databases_reader') order by rolname"
    ).split()


def test_roles_go_only_when_nothing_else_uses_them(
    own_cluster: PostgreSQLServer, apply: Apply, rollback: Run
) -> None:
    own_cluster.execute("create database one")
    own_cluster.execute("create database two")
    one, two = own_cluster.url(database="one"), own_cluster.url(database="two")
    both = ["platform_databases_reader", "platform_health_worker"]
    try:
        succeed(apply(one))
        succeed(apply(two))
        succeed(rollback(one, "007"))
        succeed(rollback(one, "006"))
        assert roles(own_cluster) == both, "the other database uses them"
        own_cluster.execute("create role someone in role platform_health_worker")
        succeed(rollback(two, "007"))
        succeed(rollback(two, "006"))
        assert roles(own_cluster) == ["platform_health_worker"], "it has a member"
        own_cluster.execute("drop role someone")
        succeed(apply(one))
        succeed(rollback(one, "007"))
        succeed(rollback(one, "006"))
        assert roles(own_cluster) == []
    finally:
        own_cluster.execute("drop database one with (force)")
        own_cluster.execute("drop database two with (force)")


def test_what_others_made_in_the_search_path_is_not_called(
    own_cluster: PostgreSQLServer, apply: Apply, psql: Run
) -> None:
    """Mallory may create functions in public; they fit the migrations' calls better than ours."""
    own_cluster.execute("create database shared")
    own_cluster.execute("create role mallory")
    url = own_cluster.url(database="shared")
    trap = (
        "returns {} language plpgsql as $$ begin raise exception 'hijacked by %', current_user;"
        " end $$;"
    )
    try:
        succeed(
            psql(url, "-c", "create extension pgcrypto; grant create on schema public to mallory")
        )
        succeed(
            psql(
                url,
                "-c",
                "set role mallory;"
                "create function public.hashtextextended(text, int) "
                + trap.format("bigint")
                + "create function public.obj_description(regclass, text) "
                + trap.format("text")
                + "create function public.hmac(bytea, bytea, name) "
                + trap.format("bytea")
                + "create function public.pgp_sym_encrypt(text, text, name) "
                + trap.format("bytea")
                + "create function public.encode(bytea, name) "
                + trap.format("text")
                + "create function public.count(uuid) "
                + trap.format("bigint"),
            )
        )
        succeed(apply(url))
        succeed(psql(url, "-c", ROW))
        succeed(psql(url, "-f", "test_database_health.sql"))
        succeed(psql(url, "-f", "rollback-007.sql"))
        succeed(psql(url, "-v", "destroy_rows=1", "-f", "rollback-006.sql"))
    finally:
        own_cluster.execute("drop database shared with (force)")
        own_cluster.execute("drop role mallory")
