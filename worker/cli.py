"""Arguments in, exit code out; tables for people."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import click

from worker import __version__, app, logs, probes, schema_files, settings
from worker.check import Checker
from worker.crash import tell
from worker.deliver import check_facts
from worker.errors import WorkerError
from worker.model import CheckResult
from worker.network import AddressRules, Network
from worker.once import IncompleteError, check_once
from worker.spellings import secrets_of
from worker.unregistered import make_row
from worker.words import Reason, Status

PROGRAM = "health-worker"
EXIT_UNHEALTHY = 1
EXIT_UNUSABLE = 2


def main() -> None:
    """Run a command; every fault is one line on stderr, never a traceback."""
    _open_missing_streams()
    try:
        commands.main(prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(EXIT_UNHEALTHY)
    except click.exceptions.NoArgsIsHelpError as fault:
        fault.show()
        sys.exit(EXIT_UNUSABLE)
    except click.ClickException as fault:
        _fail(_without_operands(fault.format_message()))
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except WorkerError as fault:
        _fail(str(fault))
    except OSError as fault:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        _fail("" if isinstance(fault, BrokenPipeError) else f"cannot write: {fault.strerror}")
    except Exception as error:  # noqa: BLE001 -- Python's own traceback would quote secrets
        words = (word for word in (*os.environ.values(), *sys.argv[1:]) if "://" in word)
        _fail(tell(error, [part for word in words for part in secrets_of(word)]))


def _fail(text: str) -> NoReturn:
    for line in text.splitlines():
        click.echo(f"{PROGRAM}: {line}", err=True)
    sys.exit(EXIT_UNUSABLE)


def _without_operands(message: str) -> str:
    """Hide words of the command line, where a connection string may stand, or half of one."""
    known = commands.commands.keys() | schema.commands.keys()
    operands = {word for word in sys.argv[1:] if not word.startswith("-")} - known
    if any(word in message for word in operands):
        return "the arguments do not fit; they may hold secrets: not shown"
    return message


def _open_missing_streams() -> None:
    """Keep sockets from taking the number of a stream that our caller closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 -- open as long as we live


def _uuids(_: click.Context, __: click.Parameter, words: Sequence[str]) -> list[UUID]:
    """Read ids; a word that is none may be a connection string, and is not shown."""
    ids = []
    for number, word in enumerate(words, 1):
        try:
            ids.append(UUID(word))
        except ValueError:
            raise WorkerError(f"argument {number} is no id of a database (a UUID)") from None
    return ids


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def commands() -> None:
    """Ask every registered database server: could an application use you right now?"""


@commands.command()
def run() -> None:
    """Check every active database on its schedule, until SIGTERM."""
    worker = app.App(settings.read(settings.Settings, os.environ))
    sys.exit(app.run_loop(worker.run()))


@commands.command()
@click.argument("ids", nargs=-1, callback=_uuids, metavar="[ID ...]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--dry-run", is_flag=True, help="Record nothing and claim nothing.")
def check(ids: Sequence[UUID], *, as_json: bool, dry_run: bool) -> None:
    """Check all active databases (or these) once, now, and record the results."""
    read = settings.read(settings.Settings, os.environ)
    log = logs.configure(read.log_level, read.log_format, sys.stderr)
    try:
        results = app.run_loop(check_once(read, log, ids, dry_run=dry_run))
    except IncompleteError as fault:
        if fault.results:
            _show_all(fault.results, as_json=as_json)
        raise
    if results or as_json:
        _show_all(results, as_json=as_json)
    else:
        click.echo("no active database is registered")
    sys.exit(_exit_code(results))


def _show_all(results: Sequence[CheckResult], *, as_json: bool) -> None:
    in_order = sorted(
        results, key=lambda result: (result.identity.name, result.identity.database_id)
    )
    if as_json:
        click.echo(json.dumps([_document(result) for result in in_order], indent=2))
    else:
        _show(in_order)


@commands.command()
@click.argument("url", required=False)
@click.option("--url-env", metavar="NAME", help="Take the URL from this environment variable.")
@click.option("--config", default="{}", metavar="JSON", help="The row's config.")
@click.option("--ssl", is_flag=True, help="As if ssl_enabled were set.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def probe(url: str | None, *, url_env: str | None, config: str, ssl: bool, as_json: bool) -> None:
    """Test the connection string URL (- reads it from stdin), which need not be registered."""
    read = settings.read(settings.ProbeSettings, os.environ)
    log = logs.configure(read.log_level, read.log_format, sys.stderr)
    text = _url(url, url_env)
    table = probes.table(read.probes, read.mongodb_driver, Network(AddressRules.allow_everything()))
    row = make_row(text, config, ssl_enabled=ssl)
    checker = Checker(table, log, deadline=read.check_deadline_seconds, default_interval=60)
    result = app.run_loop(checker.check(row))
    document = _document(result)
    del document["id"], document["name"]
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _show([result])
    if result.reason is Reason.MISCONFIGURED:
        sys.exit(EXIT_UNUSABLE)
    sys.exit(_exit_code([result]))


@commands.group()
def schema() -> None:
    """Apply, verify or roll back the registry's schema."""


@schema.command()
def apply() -> None:
    """Apply every file in the order of the numbers; safe to repeat."""
    read = settings.read(settings.SchemaSettings, os.environ)
    url = read.schema_database_url.get_secret_value()
    for name in asyncio.run(schema_files.apply(url, read.registry_timeout_seconds)):
        click.echo(f"applied {name}")


@schema.command()
def verify() -> None:
    """Check that the registry holds what the files make; exits 1 when it does not."""
    read = settings.read(settings.SchemaSettings, os.environ)
    url = read.schema_database_url.get_secret_value()
    lines = asyncio.run(schema_files.verify(url, read.registry_timeout_seconds))
    for line in lines:
        detail = line.detail and f": {line.detail}"
        click.echo(f"{'PASS' if line.passed else 'FAIL'} {line.name}{detail}")
    sys.exit(0 if all(line.passed for line in lines) else EXIT_UNHEALTHY)


@schema.command()
@click.argument("number")
@click.option("--destroy-rows", type=int, metavar="N", help="How many rows you mean to destroy.")
def rollback(number: str, destroy_rows: int | None) -> None:
    """Undo one file by its NUMBER, such as 007."""
    read = settings.read(settings.SchemaSettings, os.environ)
    url = read.schema_database_url.get_secret_value()
    name = asyncio.run(
        schema_files.rollback(url, number, destroy_rows, read.registry_timeout_seconds)
    )
    click.echo(f"rolled back with {name}")


def _url(url: str | None, name: str | None) -> str:
    if (url is None) == (name is None):
        raise WorkerError("give a URL, - for stdin, or --url-env NAME")
    if name is not None:
        text = os.environ.get(name, "")
    else:
        text = sys.stdin.readline() if url == "-" else url or ""
    if not text.strip():
        raise WorkerError("the connection string is empty")
    return text.strip()


def _show(results: Sequence[CheckResult]) -> None:
    from worker import tables  # noqa: PLC0415 -- `run` needs no rich, whose loading takes long

    tables.show(results)


def _document(result: CheckResult) -> dict[str, Any]:
    facts = check_facts(result)
    del facts["project_id"]
    return {"id": facts.pop("database_id"), **facts}


def _exit_code(results: Sequence[CheckResult]) -> int:
    is_healthy = all(result.status is Status.HEALTHY for result in results)
    return 0 if is_healthy else EXIT_UNHEALTHY
