"""Rows of ten megabytes are told of in short lines, and cost neither memory nor time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import asyncpg

from testbed.redis import RedisServer
from testbed.worker import Worker, eventually, health, register
from worker.connection import MAX_URL_CHARACTERS
from worker.target import MAX_CONFIG_CHARACTERS

HUGE = 10_000_000
LINE_CHARACTERS = 2_000
GROWTH_KILOBYTES = 30_000
"""Of the peak: less than three of the ten megabytes that each of the rows holds."""
LATE_MILLISECONDS = 2_500
"""Half of the good row's interval: the registry, too, is busy with fifty megabytes here."""
OFTEN = '{"healthCheck": {"intervalSeconds": 5}, "retryStrategy": {"maxAttempts": 1}}'
URL_TEXT = f"misconfigured: the connection string is longer than {MAX_URL_CHARACTERS} characters"
CONFIG_TEXT = f"misconfigured: config is longer than {MAX_CONFIG_CHARACTERS} characters"


def peak(worker: Worker) -> int:
    """Read the most memory that it ever had, in kilobytes."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


async def test_rows_of_ten_megabytes_are_told_in_short_lines_and_harm_nobody(
    registry_url: str, start: Callable[..., Worker], redis_server: RedisServer
) -> None:
    url, words = redis_server.url(), "x" * HUGE
    await register(registry_url, "redis", url, OFTEN, name="good")
    worker = start()

    async def is_good() -> bool:
        return (await health(registry_url)).get("good") == ("healthy", None)

    await eventually(is_good, "the good row is healthy")
    before = peak(worker)
    await register(registry_url, "redis", url, json.dumps({"retryStrategy": words}), name="config")
    await register(registry_url, "redis", url, json.dumps({"unknown": words}), name="unknown key")
    await register(registry_url, "redis", f"{url}/{words}", OFTEN, name="url")
    await register(registry_url, "redis", words, OFTEN, name="no url")
    await register(registry_url, "redis", url, OFTEN, name=words)

    def checks(name: str) -> int:
        return sum(event["name"] == name for event in worker.events("check_finished"))

    async def all_checked() -> bool:
        names = "config", "unknown key", "url", "no url", f"{words[:200]}\N{HORIZONTAL ELLIPSIS}"
        return all(map(checks, names)) and checks("good") >= 3

    await eventually(all_checked, "every row is checked, the good one again and again")
    assert await errors(registry_url) == {
        "config": CONFIG_TEXT,
        "unknown": CONFIG_TEXT,
        "url": URL_TEXT,
        "no url": URL_TEXT,
        "good": None,
        "xxxxxxx": None,
    }
    assert peak(worker) - before < GROWTH_KILOBYTES
    lines = worker.log.read_text().splitlines() + worker.page("/metrics").splitlines()
    assert max(map(len, lines)) < LINE_CHARACTERS
    good = [event for event in worker.events("check_finished") if event["name"] == "good"]
    assert max(event["lateness_ms"] for event in good[-2:]) < LATE_MILLISECONDS


async def errors(url: str) -> dict[str, str | None]:
    """Read what is recorded, by the first letters of a name."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select trim(left(name, 7)) as name, health_check_error as error from platform.databases"
    )
    await connection.close()
    return {row["name"]: row["error"] for row in rows}
