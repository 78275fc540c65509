"""Nothing that a row or a server says steers the terminal of whoever looks."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from demo.screen import picture, sentence
from testbed.misbehaving import MisbehavingServer, answering
from testbed.ports import free_port, release_port
from testbed.worker import register

EVIL = "n\x1b]0;owned\x07\x1b[2J\x1b[95m\x9b31m\u202etxt\u2066\u2028\x85\x7f\x08\r\nforged"
CURT = "\x1bc\x9b2J\u202e\x85"
"""Without the blanks and brackets for which a renderer might quote it."""
COLOUR = re.compile(r"\x1b\[(?!95m)[0-9;]*m")
"""Rich's and structlog's own; EVIL's is none of theirs."""
STEERING = {"Cc", "Cf", "Zl", "Zp"}
CONFIG = '{"retryStrategy": {"maxAttempts": 1}}'


@contextmanager
def rude_server() -> Iterator[str]:
    with MisbehavingServer(answering(b"-ERR " + EVIL.encode() + b"\r\n")) as server:
        yield f"redis://127.0.0.1:{server.port}"


def steering_in(text: str) -> set[str]:
    """List what is neither printable nor the end of a line, colours left out."""
    rest = COLOUR.sub("", text).replace("\r\n", "\n").replace("\n", "")
    return {repr(sign) for sign in rest if unicodedata.category(sign) in STEERING}


def lines_of(text: str) -> Sequence[str]:
    return COLOUR.sub("", text).splitlines()


def at_a_terminal(words: Sequence[str], until: str = "", **environment: str) -> str:
    """Run the worker's command at a terminal; return what it wrote up to its end, or to a word."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "ALLOWED_NETWORKS": "127.0.0.1/32",
            **environment,
        },
    )
    os.close(theirs)
    said = b""
    with suppress(OSError):  # that is how a terminal ends
        while chunk := os.read(ours, 65_536):
            said += chunk
            if until and until.encode() in said:
                process.terminate()
    process.wait(timeout=30)
    os.close(ours)
    return said.decode()


async def run_in_colours(worker_url: str) -> str:
    port = free_port()
    environment: Mapping[str, str] = {
        "DATABASE_URL": worker_url,
        "LOG_FORMAT": "console",
        "LOG_LEVEL": "debug",
        "METRICS_HOST": "127.0.0.1",
        "PORT": str(port),
    }
    said = await asyncio.to_thread(
        lambda: at_a_terminal(["run"], until="is unhealthy", **environment)
    )
    release_port(port)
    return said


async def test_no_table_lets_names_or_errors_steer_the_terminal(
    registry_url: str, worker_url: str
) -> None:
    with rude_server() as url:
        await register(registry_url, "redis", url, CONFIG, name=EVIL)
        checked = await asyncio.to_thread(at_a_terminal, ["check"], DATABASE_URL=worker_url)
        probed = await asyncio.to_thread(at_a_terminal, ["probe", url + "/" + EVIL[:9]])
        tried = await asyncio.to_thread(at_a_terminal, ["probe", url])
    for said in (checked, tried):
        assert "not_ready" in said
        assert "ERR" in said
    assert "misconfigured" in probed
    assert [steering_in(said) for said in (checked, probed, tried)] == [set()] * 3
    assert not [line for line in lines_of(checked) if line.startswith("forged")]


async def test_no_line_of_the_log_for_people_steers_the_terminal(
    registry_url: str, worker_url: str
) -> None:
    with rude_server() as url:
        await register(registry_url, "redis", url, CONFIG, name=EVIL)
        await register(registry_url, "redis", "redis://host/" + EVIL, CONFIG, name=CURT)
        said = await run_in_colours(worker_url)
    assert "is unhealthy" in said
    assert steering_in(said) == set()
    assert not [line for line in lines_of(said) if line.startswith("forged")]


@pytest.mark.parametrize("columns", [80, 160])
def test_the_table_of_the_demo_lets_nobody_steer_the_terminal(columns: int) -> None:
    row = {
        "name": EVIL,
        "type": "redis",
        "health_check_status": "unhealthy",
        "last_reason": "not_ready",
        "latency_seconds": None,
        "age": 1.0,
        "health_check_error": f"not_ready: {EVIL}",
    }
    change = {
        "timestamp": datetime.now(UTC).isoformat(),
        "level": "error",
        "message": f"{EVIL} is unhealthy",
        "status": "unhealthy",
    }
    screen = StringIO()
    console = Console(file=screen, width=columns, force_terminal=True)
    console.print(picture([row], 9464, columns), sentence(change))
    said = screen.getvalue()
    assert "unhealthy" in said
    assert steering_in(said) == set()
    assert not [line for line in lines_of(said) if line.startswith("forged")]
