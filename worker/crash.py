"""Tells of a crash of ours without the secrets that its messages may quote."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from worker.quoting import cut
from worker.scrubbing import scrub

MAX_MESSAGE = 2_000
"""Characters of one exception's message."""
MAX_LINKS = 10
"""Exceptions of one chain, or members of one group, that are told of."""


def tell(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Write a traceback: our lines as they are, no locals, every message scrubbed."""
    forms = tuple(secrets)
    links: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in links and len(links) < MAX_LINKS:
        links.append(current)
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\n".join(_tell_one(link, forms) for link in reversed(links))


def _tell_one(error: BaseException, secrets: tuple[str, ...]) -> str:
    text = "".join(traceback.format_tb(error.__traceback__))
    text += f"{type(error).__qualname__}: {scrub(_message(error), secrets)}"
    members = error.exceptions[:MAX_LINKS] if isinstance(error, BaseExceptionGroup) else ()
    return "\n".join((text, *(tell(member, secrets) for member in members)))


def _message(error: BaseException) -> str:
    try:
        return cut(str(error), MAX_MESSAGE)
    except Exception:  # noqa: BLE001 -- a foreign exception that cannot even say what it is
        return "no message"
