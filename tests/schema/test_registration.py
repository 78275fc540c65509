"""The registration of Railway's databases, and the checks that a registry is whole."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer

URLS = {
    "MONGO_URL": "mongodb://mongo:hunter2-mongo@mongodb.railway.internal:27017",
    "REDIS_URL": "redis://default:hunter2-redis@redis.railway.internal:6379",
}
REGISTER = "006_register_railway_databases.sql"
# As the reference document prints them.
EXPECTED = {
    "Railway MongoDB": {
        "type": "mongodb",
        "host": "mongodb.railway.internal",
        "port": 27017,
        "database": "admin",
        "config": {
            "authSource": "admin",
            "minPoolSize": 2,
            "maxPoolSize": 10,
            "serverSelectionTimeoutMS": 5000,
            "retryWrites": True,
            "directConnection": True,
        },
    },
    "Railway Redis": {
        "type": "redis",
        "host": "redis.railway.internal",
        "port": 6379,
        "database": "0",
        "config": {
            "db": 0,
            "keyPrefix": "studio:",
            "connectTimeout": 10000,
            "commandTimeout": 5000,
            "retryStrategy": {"maxAttempts": 3, "delay": 1000},
        },
    },
}
METADATA = {"provider": "railway", "environment": "production", "network": "private"}
Run = Callable[..., subprocess.CompletedProcess[str]]


async def test_both_are_registered_as_the_reference_document_says(
    registry_url: str, owner: Any, psql: Run
) -> None:
    done = psql(registry_url, "-f", REGISTER, **URLS)
    assert done.returncode == 0, done.stderr
    rows = await owner.fetch(
        "select d.*, p.name as project, o.connection_string as clear from platform.databases d"
        " join platform.databases_with_connection_strings o using (id)"
        " join platform.projects p on p.id = d.project_id"
    )
    assert {row["name"] for row in rows} == set(EXPECTED)
    for row in rows:
        found = {**row, "config": json.loads(row["config"])}
        expected = EXPECTED[row["name"]]
        assert {key: found[key] for key in expected} == expected
        assert json.loads(row["metadata"]) == METADATA
        assert row["project"] == "Railway"
        assert row["clear"] == URLS["MONGO_URL" if row["type"] == "mongodb" else "REDIS_URL"]
        assert "hunter2" not in row["connection_string"]
    assert "hunter2" not in done.stdout + done.stderr


async def test_twice_registers_once(registry_url: str, owner: Any, psql: Run) -> None:
    for _ in range(2):
        assert psql(registry_url, "-f", REGISTER, **URLS).returncode == 0
    assert await owner.fetchval("select count(*) from platform.databases") == 2
    assert await owner.fetchval("select count(*) from platform.projects") == 1


async def test_the_project_may_be_named_whether_it_exists_or_not(
    registry_url: str, owner: Any, psql: Run
) -> None:
    known = await owner.fetchval(
        "insert into platform.projects (name) values ('mine') returning id"
    )
    fresh = uuid4()
    for project in (str(known).upper(), str(fresh)):
        done = psql(registry_url, "-f", REGISTER, **URLS, PROJECT_ID=project)
        assert done.returncode == 0, done.stderr
    found = await owner.fetch(
        "select p.id, p.name, count(d.id) from platform.projects p"
        " join platform.databases d on d.project_id = p.id group by p.id"
    )
    assert {tuple(row) for row in found} == {(known, "mine", 2), (fresh, "Railway", 2)}


@pytest.mark.parametrize("missing", list(URLS))
@pytest.mark.parametrize("how", ["unset", "empty"])
async def test_an_unset_url_ends_with_3_says_which_and_registers_nothing(
    registry_url: str, owner: Any, psql: Run, missing: str, how: str
) -> None:
    urls = {**URLS, missing: ""} if how == "empty" else {k: URLS[k] for k in URLS if k != missing}
    done = psql(registry_url, "-f", REGISTER, **urls)
    assert done.returncode == 3
    assert f"{missing} is not set" in done.stderr
    assert await owner.fetchval("select count(*) from platform.databases") == 0


def test_without_the_table_it_says_what_to_apply(empty_database_url: str, psql: Run) -> None:
    done = psql(empty_database_url, "-f", REGISTER, **URLS)
    assert done.returncode == 3
    assert "apply 006_add_platform_databases_table.sql first" in done.stderr


def test_a_registration_that_fails_leaves_no_url_in_the_servers_log(psql: Run) -> None:
    settings = {"log_statement": "all", "log_min_duration_statement": "0"}
    with PostgreSQLServer(PostgreSQLOptions(settings=settings)) as server:
        for name in ("000_platform_prerequisites.sql", "006_add_platform_databases_table.sql"):
            assert psql(server.url(), "-f", name).returncode == 0
        server.execute("alter table platform.databases add constraint none check (port = 0)")
        done = psql(server.url(), "-f", REGISTER, **URLS)
        assert done.returncode == 3
        assert 'violates check constraint "none"' in server.log
        assert "hunter2" not in server.log + done.stdout + done.stderr


def test_a_whole_registry_passes_every_check(registry_url: str, psql: Run) -> None:
    assert psql(registry_url, "-f", REGISTER, **URLS).returncode == 0
    done = psql(registry_url, "-qf", "test_database_health.sql")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 10
    assert all(line.startswith("PASS ") for line in lines)


BREAKAGE = {
    "platform.databases is made by 006": "comment on table platform.databases is null",
    "eight indexes": "drop index platform.idx_databases_type",
    "functions of 006": "drop function platform.update_database_health(uuid, text, text)",
    "both views": "drop view platform.databases_with_connection_strings",
    "both triggers": "alter table platform.databases disable trigger update_databases_updated_at",
    "a salt exists": "grant select on platform.database_salts to public",
    "closed to PUBLIC": "grant select on platform.databases to public",
    "no connection string rests in clear": "set session_replication_role = replica;"
    "update platform.databases set connection_string_encrypted = null",
    "every password is masked": "set session_replication_role = replica;"
    "update platform.databases set password = 'clear'",
    "decrypts to what its mask shows": "set session_replication_role = replica;"
    "update platform.databases set connection_string = 'redis://:***@other'",
    "executable by PUBLIC": "grant execute on function"
    " platform.decrypt_database_connection_string(uuid) to public",
    "007: the worker's functions": "drop function platform.health_worker_schema_version()",
    "results are recorded": "drop function platform.record_check_results(jsonb)",
    "is scheduled": "delete from platform.database_schedules",
}


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("name", BREAKAGE)
async def test_each_check_fails_alone_when_what_it_checks_is_broken(
    registry_url: str, psql: Run, name: str
) -> None:
    assert psql(registry_url, "-f", REGISTER, **URLS).returncode == 0
    # The file's own BEGIN joins this transaction, and its error undoes the breakage.
    broken = ["-qc", "begin", "-c", BREAKAGE[name], "-f", "test_database_health.sql"]
    done = psql(registry_url, *broken)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("FAIL ")]
    assert failed == [line for line in lines if name in line]
    assert len(failed) == 1
    assert psql(registry_url, "-qf", "test_database_health.sql").returncode == 0


def test_an_empty_database_fails_the_checks_instead_of_ending_them(
    empty_database_url: str, psql: Run, schema_command: Run
) -> None:
    done = psql(empty_database_url, "-qf", "test_database_health.sql")
    assert done.returncode == 3
    assert done.stdout.count("FAIL ") >= 10
    assert schema_command(empty_database_url, "verify").returncode == 1


def test_006_stands_alone_as_in_the_quick_deploy_but_verify_asks_for_007(
    empty_database_url: str, psql: Run, schema_command: Run
) -> None:
    for name in (
        "000_platform_prerequisites.sql",
        "006_add_platform_databases_table.sql",
        REGISTER,
        "test_database_health.sql",
    ):
        done = psql(empty_database_url, "-qf", name, **URLS)
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("PASS ") >= 10
    assert "FAIL" not in done.stdout
    assert schema_command(empty_database_url, "verify").returncode == 1
    files = ("007_add_database_health_scheduling.sql", "test_database_health.sql")
    for name in files:
        assert psql(empty_database_url, "-qf", name).returncode == 0
    assert schema_command(empty_database_url, "verify").returncode == 0


def test_verify_as_a_role_that_may_not_look_says_so(worker_url: str, schema_command: Run) -> None:
    done = schema_command(worker_url, "verify")
    assert done.returncode == 1
