"""Every byte that comes out of the worker is searched for secrets, whatever fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from testbed.certificates import Certificates
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from testbed.worker import PROJECT, Worker, eventually
from tests.canary.birds import Birds, leaks
from tests.canary.rows import Row, flock
from tests.canary.sabotage import lay
from worker import schema_files, settings
from worker.errors import WorkerError
from worker.once import check_once
from worker.ports import Level, Log
from worker.words import Event

# As much as a database administrator might ever write down.
VERBOSE = {
    "log_statement": "all",
    "log_min_messages": "debug2",
    "log_min_error_statement": "debug5",
    "log_error_verbosity": "verbose",
    "log_min_duration_statement": "0",
    "log_duration": "on",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_lock_waits": "on",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_verbose": "on",
    "auto_explain.log_parameter_max_length": "-1",
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A registry full of secrets, and who may use it."""

    registry: PostgreSQLServer
    rows: list[Row]
    worker_url: str
    owner_url: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scene]:
    """Register every row before the registry writes down what it is told."""
    birds = Birds()
    worker_password, owner_password = birds.secret(), birds.secret()
    options = PostgreSQLOptions(password=owner_password)
    with flock(birds, certificates) as rows, PostgreSQLServer(options) as registry:
        asyncio.run(fill(registry.url(), rows, worker_password))
        registry.stop()
        registry.options = replace(options, settings=VERBOSE)
        registry.start()
        yield Scene(
            registry,
            rows,
            registry.url("health_worker", worker_password),
            registry.url(),
            lay(tmp_path_factory.mktemp("canary") / "sabotage"),
        )


async def fill(url: str, rows: list[Row], worker_password: str) -> None:
    await schema_files.apply(url, 30)
    connection = await asyncpg.connect(url)
    literal = await connection.fetchval("select quote_literal($1)", worker_password)
    await connection.execute(
        f"create role health_worker login password {literal} in role platform_health_worker"
    )
    await connection.execute(
        "insert into platform.projects (id, name) values ($1, 'canary')", PROJECT
    )
    await connection.executemany(
        "insert into platform.databases (project_id, name, type, connection_string, config)"
        " values ($1, $2, $3, $4, $5)",
        [(PROJECT, row.name, row.engine, row.url, row.config) for row in rows],
    )
    await connection.execute(
        "insert into platform.databases (project_id, name, type, connection_string,"
        " connection_string_encrypted) values ($1, 'garbled', 'redis', 'redis://***', '\\x00')",
        PROJECT,
    )
    await connection.close()


async def reasons(url: str) -> dict[tuple[str, str], str | None]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select d.name, d.type, s.last_reason from platform.databases d"
        " join platform.database_schedules s on s.database_id = d.id"
    )
    await connection.close()
    return {(row["type"], row["name"]): row["last_reason"] for row in rows}


async def tables(url: str) -> str:
    """Read every row of every table and view, as text."""
    connection = await asyncpg.connect(url)
    names = await connection.fetch(
        "select table_name from information_schema.tables where table_schema = 'platform'"
        " and table_name <> 'databases_with_connection_strings'"
    )
    text = []
    for (name,) in names:
        rows = await connection.fetch(f"select t::text from platform.{name} t")
        text += [f"{name}: {row[0]}" for row in rows]
    await connection.close()
    return "\n".join(text)


def command(*words: str, given: str = "", **environment: str) -> str:
    """Run a command to its end and return all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *words],
        input=given,
        env={"PATH": os.environ["PATH"], "LOG_LEVEL": "debug", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return f"it exited with {done.returncode}\n{done.stdout}\n{done.stderr}"


PAGES = ("/", "/metrics", "/healthz", "/readyz", "/nowhere")
ways = pytest.mark.parametrize(
    ("probes", "style"),
    [
        ("wire", "json"),
        ("drivers", "console"),
    ],
)


@pytest.mark.timeout(240)
@ways
def test_no_secret_comes_out_whatever_fails(
    probes: str, style: str, tmp_path: Path, scene: Scene
) -> None:
    environment = {
        "PROBES": probes,
        "LOG_FORMAT": style,
        "REGISTRY_TIMEOUT_SECONDS": "2",
    }
    asyncio.run(forget_checks(scene.owner_url))
    told = asyncio.run(watch(scene, tmp_path, environment))
    told["registry's log"] = scene.registry.log
    found = {name: leaks(text)[:9] for name, text in told.items() if leaks(text)}
    assert not found, found
    assert all(told.values())
    assert "platform.record_check_results" in told["registry's log"]


async def forget_checks(url: str) -> None:
    """Make every row due, as if it had never been checked."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "update platform.database_schedules"
        " set due_at = now(), last_reason = null, leased_until = null, slow = false"
    )
    await connection.close()


async def watch(made: Scene, folder: Path, given: dict[str, str]) -> dict[str, str]:
    """Let a worker check every row, take its registry away for a while, and keep what it says."""
    told: dict[str, str] = {}
    environment = {**given, **made.environment}
    worker = Worker(made.worker_url, folder, SCHEMA_DATABASE_URL=made.owner_url, **environment)
    try:

        async def all_checked() -> bool:
            return None not in (await reasons(made.owner_url)).values()

        await eventually(all_checked, "every row is checked", within=60)
        found = await reasons(made.owner_url)
        assert {found[engine, "ok"] for engine in ("redis", "mongodb", "postgresql")} == {"ok"}
        assert len(set(found.values())) > 10
        told |= {path: worker_page(worker, path) for path in PAGES}
        told["tables"] = await tables(made.owner_url)
        made.registry.kill()
        await eventually(said(worker, "registry_unreachable"), "the outage is logged")
        told |= {f"{path} in an outage": worker_page(worker, path) for path in PAGES}
        made.registry.start()
        await eventually(said(worker, "registry_recovered"), "the recovery is logged", within=40)
        told["tables later"] = await tables(made.owner_url)
    finally:
        worker.stop()
    told["worker"] = worker.log.read_text()
    for event in ("check_crashed", "tick_failed", "database_rejected"):
        assert event in told["worker"], event
    checking = {"DATABASE_URL": made.worker_url, "ALLOWED_NETWORKS": "127.0.0.1/32", **environment}
    told["check --json"] = command("check", "--json", **checking)
    return told


def said(worker: Worker, event: str) -> Callable[[], Awaitable[bool]]:
    async def is_said() -> bool:
        return event in worker.log.read_text()

    return is_said


def worker_page(worker: Worker, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", worker.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = f"{answer.status} {answer.getheaders()}\n{answer.read().decode()}"
    connection.close()
    return text


@pytest.mark.timeout(240)
def test_no_command_prints_a_secret_of_its_arguments(scene: Scene) -> None:
    secret = Birds().plain()
    url = f"redis://u:{secret}@h"
    runs: dict[str, Callable[[], str]] = {
        "two words": lambda: command("probe", f"redis://u:{secret}", f"{secret}@h"),
        "no id": lambda: command("check", url),
        "no command": lambda: command(url),
        "no number": lambda: command("schema", "rollback", "006", "--destroy-rows", secret),
        "from stdin": lambda: command("probe", "-", given=f"redis://u:{secret}/@h\n"),
        "surrogate": lambda: command("probe", f"redis://u:{secret}\udc80@h", "--json"),
    }
    for row in scene.rows:
        if (row.engine, row.name) in PROBED:
            words = "probe", row.url, "--config", row.config
            runs[row.name] = partial(command, *words, LOG_FORMAT="console")
    assert len(runs) == 6 + len(PROBED)
    with ThreadPoolExecutor(4) as threads:
        told = dict(zip(runs, threads.map(lambda run: run(), runs.values()), strict=True))
    found = {name: leaks(text)[:9] for name, text in told.items() if leaks(text)}
    assert not found, found
    assert not {name: text for name, text in told.items() if "Traceback" in text}


PROBED = {
    ("redis", "wrong"),
    ("redis", "echoes"),
    ("postgresql", "tells behind much else"),
    ("mongodb", "tells in quotes"),
    ("mongodb", "refused tlsCAFile"),
}


async def check(url: str, log: Log) -> None:
    read = settings.read(settings.Settings, {"DATABASE_URL": url})
    assert not leaks(repr(read))
    await check_once(read, log, [], dry_run=True)


async def verify(url: str, _: Log) -> None:
    read = settings.read(settings.SchemaSettings, {"DATABASE_URL": url})
    await schema_files.verify(read.schema_database_url.get_secret_value(), 1)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{0}@127.0.0.1:{port}/db",
        "postgresql://u:{0}@127.0.0.1:{port}/db?sslmode={0}",
        "postgresql://u:{0}@127.0.0.1:{port}/db?target_session_attrs={0}",
        "postgresql://u:{0}@127.0.0.1:{port}/db?password={0}&sslrootcert=/{0}",
        "postgresql://u:12/{0}@127.0.0.1:{port}/db",
        "postgresql://u:12?{0}@127.0.0.1:{port}/db",
        "postgresql://u:12#{0}@127.0.0.1:{port}/db",
        "postgresql://u:{0}@127.0.0.1:{0}/db",
        "postgresql://u:{0}@[{0}/db",
        "mysql://u:{0}@h/db",
        "{0}",
        "postgresql:///db?host=/{0}",
    ],
)
async def test_a_registry_that_cannot_be_used_is_told_of_without_secrets(
    url: str, free_port: int
) -> None:
    given = url.format(Birds().plain(), port=free_port)
    told: list[str] = []

    def log(event: Event, level: Level, message: str, **facts: object) -> None:
        told.append(f"{event} {message} {facts}")

    for use in (check, verify):
        with pytest.raises(WorkerError) as caught:
            await use(given, log)
        told.append(str(caught.value))
    assert not leaks("\n".join(told)), told


@pytest.mark.timeout(240)
def test_a_registry_that_refuses_us_is_told_of_without_secrets(worker_url: str) -> None:
    secret = quote(Birds().secret(), safe="")
    wrong = worker_url.replace("worker-secret", secret)
    missing = f"{worker_url}_missing?application_name={secret}"
    for words, url in ((("run",), wrong), (("check",), missing), (("schema", "verify"), wrong)):
        text = command(*words, DATABASE_URL=url, PORT="0", METRICS_HOST="127.0.0.1")
        assert not leaks(text)
        assert "exited with 0" not in text
        assert "Traceback" not in text


def test_the_search_finds_a_secret_in_every_form() -> None:
    secret = Birds().secret()
    for text in (secret, quote(secret), repr(secret), json.dumps({"a": secret}), secret[:5]):
        assert leaks(f"it is {text}!"), text
    for lead in ("", "u", "u:"):
        assert leaks(base64.b64encode(f"{lead}{secret}".encode()).decode())
