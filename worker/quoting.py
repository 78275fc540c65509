"""How strangers' words are written into texts of ours; standard library only."""

from __future__ import annotations

MAX_ERROR_CHARACTERS = 300
CUT = "\u2026"
"""Stands for what was cut off."""


def clean(text: str) -> str:
    """Make a stranger's text one line of printable characters, short enough for a column."""
    return printable(text[:MAX_ERROR_CHARACTERS])


def quoted(words: str, limit: int) -> str:
    """Quote a stranger's words within a text of ours, so that `scrub_quotes` can tell them apart.

    What is longer than `limit` characters is cut, and shows it.
    """
    return f'"{told(cut(words, limit))}"'


def cut(words: str, limit: int) -> str:
    """Take so many characters, and show where there were more."""
    return words[:limit] + CUT if len(words) > limit else words


def printable(text: str) -> str:
    """Put a space in place of each character that moves a cursor or hides."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def told(words: str) -> str:
    """Write words as `quoted` does: its own mark must not occur in them."""
    return printable(words).replace('"', "'")
