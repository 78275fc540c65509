"""JSON logging: our events and every library's log, one object a line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, TextIO

from worker.crash import tell
from worker.ports import Level, Log
from worker.scrubbing import scrub
from worker.words import Event


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let a package look as if it were not installed, unless it is loaded already."""
    modules: dict[str, Any] = sys.modules
    if package in modules:
        yield
        return
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]


# It would load all of rich, for tracebacks that we write ourselves.
with _hidden("rich"):
    import structlog

LIBRARY_EVENT = "library_log"
"""The event of a line that a library wrote; alerts have no use for it."""

FIRST = ("timestamp", "level", "event", "message")
"""The keys of every line, in their order."""

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_METHODS = {"warn": "warning"}
EventDict = MutableMapping[str, Any]


def _name_level(_: object, __: str, event: EventDict) -> EventDict:
    """Use the four names of the contract."""
    level = event.get("level")
    event["level"] = {"warning": "warn", "critical": "error", "exception": "error"}.get(
        str(level), level
    )
    return event


def _name_library(_: object, __: str, event: EventDict) -> EventDict:
    """Put a library's text where people look for it, and keep `event` a name."""
    if event.pop("_from_structlog", False):
        return event
    event["message"] = str(event.get("event"))
    event["event"] = LIBRARY_EVENT
    return event


def _tell(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """Write a library's exception as we write our own."""
    return tell(exc_info[1])


def _scrub_all(_: object, __: str, event: EventDict) -> EventDict:
    """Mask whatever looks like a secret part of a URL, the last line of defence."""
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = scrub(value)
    return event


def _order(_: object, __: str, event: EventDict) -> EventDict:
    """Put first what everybody looks for."""
    return {**{key: event[key] for key in FIRST if key in event}, **event}


def _escape_all(_: object, __: str, event: EventDict) -> EventDict:
    """Keep a stranger's words from steering the terminal: the renderer quotes only some of them."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(_escaped(sign) for sign in value)
    return event


def _escaped(sign: str) -> str:
    is_harmless = sign.isprintable() or sign == "\n"  # the renderer quotes what has several lines
    return sign if is_harmless else ascii(sign)[1:-1]


def _mark_ours(_: object, __: str, event: EventDict) -> EventDict:
    event["_from_structlog"] = True
    return event


def configure(level: str, style: Literal["json", "console"], stream: TextIO | None = None) -> Log:
    """Send every log of the process to one stream (stdout) and return the way to write events."""
    stamps: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[Any] = (
        [structlog.processors.JSONRenderer(default=str)]
        if style == "json"
        else [_escape_all, structlog.dev.ConsoleRenderer(colors=False)]
    )
    handler = _Handler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamps, structlog.stdlib.add_logger_name],
            processors=[
                structlog.processors.ExceptionRenderer(_tell),
                _drop_record,
                _name_library,
                _name_level,
                _scrub_all,
                _order,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    ours = logging.getLogger("worker")
    ours.setLevel(_LEVELS[level])
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            *stamps,
            _mark_ours,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return _writer(structlog.stdlib.get_logger("worker"), _LEVELS[level])


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines as long as somebody reads them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the library's name
        """Go on without a log when its reader has left or the disk is full."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _drop_record(_: object, __: str, event: EventDict) -> EventDict:
    event.pop("_record", None)
    return event


def _writer(logger: Any, threshold: int) -> Log:
    def write(event: Event, level: Level, message: str, **facts: object) -> None:
        # Every check says something at debug; structlog needs 12 us to find that nobody listens.
        if _LEVELS[level] < threshold:
            return
        getattr(logger, _METHODS.get(level, level))(event.value, message=message, **facts)

    return write
