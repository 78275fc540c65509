"""Others that do a part of the job: two exporters of Debian's, the drivers of Node."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlsplit

import aiohttp

from bench.costs import Cost
from bench.subject import AT_ONCE, Figures, Order, best
from bench.table import Report
from testbed.ports import free_port
from testbed.process import Command, Program

NODE_SCRIPT = Path(__file__).parent / "node_drivers.cjs"
NODE_PACKAGES = {"redis": "redis", "mongodb": "mongodb", "postgresql": "pg"}
EXPORTER_CHECKS = 500
EXPORTER_ROUNDS = 3
_TCP_MODULE = """modules:
  redis:
    prober: tcp
    timeout: 5s
    tcp:
      query_response:
        - send: "AUTH {password}"
        - expect: "^.OK"
        - send: "PING"
        - expect: "^.PONG"
"""


def exporters(url: str, report: Report) -> Iterator[tuple[str, Figures]]:
    """Let the exporters ask a Redis."""
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port}"
    for name, wanted, arguments, path in (
        (
            "prometheus-blackbox-exporter",
            "probe_success 1",
            lambda folder: [f"--config.file={_module(folder, parts.password or '')}"],
            f"/probe?module=redis&target={where}",
        ),
        (
            "prometheus-redis-exporter",
            "redis_up 1",
            lambda _: [f"--redis.password={parts.password}"],
            f"/scrape?target={quote(f'redis://{where}', safe='')}",
        ),
    ):
        if shutil.which(name) is None:
            report.leave_out(f"{name} is not installed")
            continue
        with _exporter(name, arguments) as (program, address):
            rounds = [
                asyncio.run(_scrape(program, address + path, wanted))
                for _ in range(EXPORTER_ROUNDS)
            ]
            yield name, best(rounds)


def node_driver(order: Order, report: Report) -> list[Figures]:
    """Let a driver of Node's ask a server; no figures where there is none."""
    package = NODE_PACKAGES[order["engine"]]
    node = shutil.which("node")
    if node is None:
        report.leave_out("node is not installed")
        return []
    done = subprocess.run(
        [node, NODE_SCRIPT],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        report.leave_out(f"Node's {package}: npm install --prefix bench redis mongodb pg")
        return []
    return [Figures(*figures) for figures in json.loads(done.stdout)]


def _module(folder: Path, password: str) -> Path:
    path = folder / "blackbox.yml"
    path.write_text(_TCP_MODULE.format(password=password), encoding="utf-8")
    return path


@contextmanager
def _exporter(name: str, arguments: Callable[[Path], list[str]]) -> Iterator[tuple[Program, str]]:
    port = free_port()
    listen = f"--web.listen-address=127.0.0.1:{port}"
    with TemporaryDirectory(prefix="bench-") as folder:
        command = Command(
            arguments=[name, listen, *arguments(Path(folder))], ready=lambda _: _answers(port)
        )
        with Program(name, command) as program:
            yield program, f"http://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def _scrape(program: Program, url: str, wanted: str) -> Figures:
    async with aiohttp.ClientSession() as session:

        async def ask() -> None:
            async with session.get(url) as answer:
                text = await answer.text()
            if wanted not in text:
                raise ValueError(f"{program.name} does not say {wanted}")

        await _times(ask, AT_ONCE)
        cpu, wall = Cost.of(program.pid), time.perf_counter()
        await _times(ask, EXPORTER_CHECKS)
        seconds = time.perf_counter() - wall
        spent = Cost.of(program.pid).since(cpu)
    return Figures(spent / EXPORTER_CHECKS * 1e6, seconds / EXPORTER_CHECKS * 1e6)


async def _times(ask: Callable[[], Awaitable[None]], checks: int) -> None:
    left = iter(range(checks))

    async def one_after_the_other() -> None:
        for _ in left:
            await ask()

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
