"""One object a line, ours and every library's, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from worker import logs
from worker.ports import Log
from worker.words import Event


@pytest.fixture
def stream() -> Iterator[StringIO]:
    """Put back what was configured before."""
    root, ours = logging.getLogger(), logging.getLogger("worker")
    before = root.handlers[:], root.level, ours.level
    yield StringIO()
    logging.captureWarnings(False)
    root.handlers[:], level, ours.level = before
    root.setLevel(level)


def lines(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(stream: StringIO, level: str = "debug") -> Log:
    return logs.configure(level, "json", stream)


def test_an_event_is_one_object_with_the_keys_that_everybody_looks_for_first(
    stream: StringIO,
) -> None:
    log = configured(stream)
    log(Event.CHECK_FINISHED, "warn", "a sentence", name="db", attempts=2)
    (line,) = lines(stream)
    assert list(line)[:4] == ["timestamp", "level", "event", "message"]
    assert line["level"] == "warn"
    assert line["event"] == "check_finished"
    assert (line["message"], line["name"], line["attempts"]) == ("a sentence", "db", 2)
    assert line["timestamp"].endswith("Z")


def test_a_level_hides_what_is_below_it(stream: StringIO) -> None:
    log = configured(stream, "warn")
    log(Event.CHECK_FINISHED, "debug", "hidden")
    log(Event.WORKER_STARTED, "info", "hidden")
    log(Event.TICK_FAILED, "error", "shown")
    assert [line["message"] for line in lines(stream)] == ["shown"]


def test_a_librarys_line_goes_the_same_way_under_a_name_of_its_own(stream: StringIO) -> None:
    configured(stream)
    logging.getLogger("asyncio").error("it took %s", "long")
    logging.getLogger("pymongo").debug("chatter")
    (line,) = lines(stream)
    assert (line["event"], line["message"], line["level"]) == (
        logs.LIBRARY_EVENT,
        "it took long",
        "error",
    )


SECRET = "hunter2"


def _fail(password: str) -> None:
    raise ValueError(f"cannot use redis://u:{password}@h?password={password}")


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exception_of_a_librarys_shows_no_locals_and_no_url(
    stream: StringIO, style: Any
) -> None:
    logs.configure("debug", style, stream)
    try:
        _fail(SECRET)
    except ValueError:
        logging.getLogger("asyncio").exception("Task failed for redis://u:%s@h", SECRET)
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert "u:***" not in text
    assert "***@h" in text


def test_the_last_line_of_defence_masks_urls_in_every_fact(stream: StringIO) -> None:
    log = configured(stream)
    log(Event.TICK_FAILED, "error", "redis://u:hunter2@h", error="mongodb://h?password=hunter2")
    assert "hunter2" not in stream.getvalue()


def test_what_json_cannot_write_is_written_all_the_same(stream: StringIO) -> None:
    log = configured(stream)
    log(Event.TICK_FAILED, "error", "lone \udc80, nul \0", thing=object())
    assert len(lines(stream)) == 1
