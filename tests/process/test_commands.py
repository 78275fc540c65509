"""Exit codes and output of the commands, and one clear line for bad input."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import asyncpg
import pytest

from testbed.postgresql import PostgreSQLServer
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


def test_check_of_an_empty_registry_says_that_it_is_empty(worker_url: str) -> None:
    done = check(worker_url)
    assert (done.returncode, done.stdout) == (0, "no active database is registered\n")
    assert json.loads(check(worker_url, "--json").stdout) == []


def test_check_says_in_one_line_that_the_registry_is_away() -> None:
    done = check("postgresql://worker:hunter2@127.0.0.1:1/registry")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("health-worker: the registry at 127.0.0.1:1 cannot be used: ")
    assert "hunter2" not in line


async def test_check_waits_for_a_row_that_an_open_transaction_holds(
    registry_url: str, worker_url: str, redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    editor = await asyncpg.connect(registry_url)
    try:
        async with editor.transaction():
            await editor.execute("select from platform.databases for update")
            checking = asyncio.create_task(asyncio.to_thread(check, worker_url))
            await asyncio.wait({checking}, timeout=4)
            assert not checking.done()
        assert (await checking).returncode == 0
    finally:
        await editor.close()
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


def test_a_word_that_is_no_id_is_counted_and_not_shown(worker_url: str) -> None:
    done = check(worker_url, "redis://:hunter2-secret@host")
    assert done.returncode == 2
    assert done.stderr == "health-worker: argument 1 is no id of a database (a UUID)\n"


def test_an_id_that_nobody_has_is_named(worker_url: str) -> None:
    nobody = "00000000-0000-0000-0000-000000000001"
    done = check(worker_url, nobody)
    assert done.returncode == 2
    assert done.stderr == f"health-worker: no active database has the id {nobody}\n"


ONE_LINE = {
    ("probe", "garbage"): "starts with none of mongodb, ",
    ("probe", ""): "the connection string is empty",
    ("probe", "redis://host", "--config", "[1]"): "--config is no JSON object",
    ("probe", "redis://host", "--config", "{"): "--config is no JSON object",
    ("schema", "apply"): "DATABASE_URL is not set",
    ("schema", "rollback"): "NUMBER",
    ("nonsense",): "the arguments do not fit",
}


@pytest.mark.parametrize("words", ONE_LINE)
def test_a_fault_of_the_command_line_is_one_line(words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("health-worker: ")
    assert ONE_LINE[words] in line


def test_an_unknown_rollback_is_one_line(empty_database_url: str) -> None:
    done = command("schema", "rollback", "005", DATABASE_URL=empty_database_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "health-worker: no rollback for 005: there are 006, 007\n"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=require", "speaks no TLS"),
        ("sslmode=hunter2", "an option of DATABASE_URL cannot be used"),
        ("hunter2=1", "an option of DATABASE_URL cannot be used"),
    ],
)
def test_an_option_of_the_registry_that_cannot_work_ends_run(
    worker_url: str, query: str, words: str
) -> None:
    url = f"{worker_url}?{query}"
    done = command("run", DATABASE_URL=url, PORT="0", METRICS_HOST="127.0.0.1")
    assert done.returncode == 1
    assert words in json.loads(done.stdout.splitlines()[-1])["message"]
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b"])
def test_a_registry_password_that_is_not_encoded_is_refused_and_not_shown(password: str) -> None:
    done = command("check", DATABASE_URL=f"postgresql://user:{password}@127.0.0.1/platform")
    assert done.returncode == 2
    assert "percent-encode" in done.stderr
    assert password not in done.stderr


async def test_a_registry_is_reached_through_its_socket_with_a_hostile_password(
    registry_url: str, cluster: PostgreSQLServer, redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    role, password = "hostile_login", "p@ss/w:rd?#%é "
    cluster.execute(
        f"create role {role} login password '{password}' in role platform_health_worker"
    )
    database = registry_url.rpartition("/")[2]
    direct = cluster.url(user=role, password=password, database=database)
    query = urlencode({"host": cluster.folder.path, "port": cluster.port})
    socket_url = f"postgresql://{role}@/{database}?{query}"
    assert check(f"{direct}?sslmode=prefer", "--dry-run").returncode == 0
    if os.geteuid() != 0:  # as root the server's folder is that of another user
        assert check(socket_url, "--dry-run").returncode == 0


@pytest.mark.parametrize("host", ["not-an-address.invalid", "192.0.2.1"])
def test_a_metrics_host_that_is_no_address_of_ours_ends_run(worker_url: str, host: str) -> None:
    done = command("run", DATABASE_URL=worker_url, PORT="0", METRICS_HOST=host)
    assert done.returncode == 1
    message = json.loads(done.stdout.splitlines()[-1])["message"]
    assert message.startswith(f"PORT 0 on METRICS_HOST {host} cannot be bound")
    assert "Errno" not in message


async def test_a_name_steers_neither_the_terminal_nor_the_markup(
    registry_url: str, worker_url: str, redis_server: RedisServer
) -> None:
    await register(registry_url, "redis", redis_server.url())
    connection = await asyncpg.connect(registry_url)
    for name in ("[red]x[/]", "[/]", "a\x1b[31mb\nc"):
        await connection.execute(
            "insert into platform.databases (project_id, name, type, connection_string)"
            " select project_id, $1, type, 'redis://127.0.0.1:1' from platform.databases"
            " where name = 'redis'",
            name,
        )
    await connection.close()
    for columns in ("80", "160"):
        done = command(
            "check", DATABASE_URL=worker_url, ALLOWED_NETWORKS="127.0.0.1/32", COLUMNS=columns
        )
        assert done.returncode == 1, done.stderr
        assert "[red]x[/]" in done.stdout
        assert "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}c" in done.stdout
        assert "\x1b" not in done.stdout
        assert all(len(line) <= int(columns) for line in done.stdout.splitlines())


@pytest.mark.parametrize("words", [("--json",), ()])
def test_a_reader_that_leaves_early_gets_no_traceback(
    worker_url: str, words: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "check", "--dry-run", *words],
        env={"DATABASE_URL": worker_url},
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode != 0


def test_a_full_disk_is_one_line(redis_server: RedisServer) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "worker", "probe", redis_server.url()],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == b"health-worker: cannot write: No space left on device\n"


def test_closed_streams_do_not_break_a_command(redis_server: RedisServer) -> None:
    line = f'exec {sys.executable} -m worker probe "$URL" <&- >&-'
    done = subprocess.run(
        ["sh", "-c", line],
        env={"URL": redis_server.url()},
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
