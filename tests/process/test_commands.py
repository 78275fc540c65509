"""Exit codes and output of the commands, and one clear line for bad input."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import asyncpg
import pytest

from testbed.redis import RedisServer
from testbed.worker import health, register


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *words],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return command("check", *words, DATABASE_URL=url, ALLOWED_NETWORKS="127.0.0.1/32")


async def test_check_records_what_it_prints(
    registry_url: str, worker_url: str, redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    done = check(worker_url, "--json")
    assert done.returncode == 0, done.stderr
    (document,) = json.loads(done.stdout)
    assert set(document) == {
        *("id", "name", "engine", "status", "reason", "error", "latency_ms", "attempts")
    }
    assert (document["status"], document["reason"]) == ("healthy", "ok")
    assert await health(registry_url) == {"redis": ("healthy", None)}


async def test_a_dry_run_records_and_claims_nothing(
    registry_url: str, worker_url: str, redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    assert check(worker_url, "--dry-run").returncode == 0
    assert await health(registry_url) == {"redis": ("unknown", None)}


async def test_check_exits_1_when_a_row_is_not_healthy(registry_url: str, worker_url: str) -> None:
    await register(registry_url, "redis", "not a URL, but hunter2-secret")
    done = check(worker_url)
    assert done.returncode == 1
    assert "misconfigured" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


async def test_bad_rows_harm_no_other(
    registry_url: str, worker_url: str, redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    connection = await asyncpg.connect(registry_url)
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " select project_id, 'no object', type, 'redis://h', '[1]' from platform.databases"
    )
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " select project_id, 'wrong type', type, 'redis://h', '{\"connectTimeout\": \"1s\"}'"
        " from platform.databases where name = 'redis'"
    )
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string,"
        " connection_string_encrypted)"
        " select project_id, 'garbled', type, 'redis://***', '\\x00'"
        " from platform.databases where name = 'redis'"
    )
    await connection.close()
    done = check(worker_url, "--json")
    reasons = {document["name"]: document["reason"] for document in json.loads(done.stdout)}
    assert reasons == {
        "redis": "ok",
        "no object": "misconfigured",
        "wrong type": "misconfigured",
        "garbled": "undecryptable",
    }


def test_probe_needs_no_registry_and_prints_no_password(redis_server: RedisServer) -> None:
    done = command("probe", redis_server.url(), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "healthy"
    assert "id" not in document
    wrong = command("probe", f"redis://:hunter2-secret@{redis_server.host}:{redis_server.port}")
    assert wrong.returncode == 1
    unusable = command("probe", "redis://:hunter2/secret@host")
    assert unusable.returncode == 2
    assert "hunter2" not in wrong.stdout + wrong.stderr + unusable.stdout + unusable.stderr


def test_probe_without_a_url_is_a_usage_error() -> None:
    assert command("probe").returncode == 2
    assert command("probe", "--url-env", "NOT_SET_ANYWHERE").returncode == 2


@pytest.mark.parametrize("word", ["run", "check"])
def test_settings_that_do_not_parse_are_named_all_at_once_without_their_values(word: str) -> None:
    done = command(word, TICK_SECONDS="hunter2", PORT="hunter2", DATABASE_URL="hunter2")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert {"TICK_SECONDS", "PORT", "DATABASE_URL"} <= {
        line.split()[1].rstrip(":") for line in done.stderr.splitlines()
    }
    assert "hunter2" not in done.stderr


def test_a_registry_that_refuses_us_ends_run_with_one_line(worker_url: str) -> None:
    url = worker_url.replace("worker-secret", "not-the-secret")
    done = command("run", DATABASE_URL=url, PORT="0", METRICS_HOST="127.0.0.1")
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert last["event"] == "worker_stopped"
    assert "refuses us" in last["message"]
    assert "Traceback" not in done.stdout + done.stderr
    assert "not-the-secret" not in done.stdout + done.stderr


def test_a_missing_schema_ends_run_with_what_to_do(empty_database_url: str) -> None:
    done = command("run", DATABASE_URL=empty_database_url, PORT="0", METRICS_HOST="127.0.0.1")
    assert done.returncode == 1
    assert "health-worker schema apply" in json.loads(done.stdout.splitlines()[-1])["message"]


def test_a_port_in_use_ends_run_with_one_line(worker_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("run", DATABASE_URL=worker_url, PORT=port, METRICS_HOST="127.0.0.1")
    assert done.returncode == 1
    assert "in use" in json.loads(done.stdout.splitlines()[-1])["message"]


def test_schema_apply_verify_and_rollback(empty_database_url: str) -> None:
    environment = {"SCHEMA_DATABASE_URL": empty_database_url}
    assert command("schema", "verify", **environment).returncode != 0
    assert command("schema", "apply", **environment).returncode == 0
    verified = command("schema", "verify", **environment)
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.count("PASS") >= 10
    assert command("schema", "rollback", "006", **environment).returncode == 2
    assert command("schema", "rollback", "007", **environment).returncode == 0
    assert command("schema", "rollback", "006", **environment).returncode == 0
