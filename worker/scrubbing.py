"""Leaves no secret in what others say; standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from worker.quoting import CUT
from worker.spellings import MIN_COMMON_CHARACTERS, MIN_SCRUBBED_CHARACTERS, octets_of

MASK = "***"
MAX_COMPARED = 4_000_000
"""Characters looked through for one quotation, some three milliseconds; then nothing is shown."""
_WORD = re.compile(r"\S+")
_OPTION_VALUE = re.compile(r"(?<=[?&])([A-Za-z][A-Za-z0-9_.-]*=)[^\s&\"']+")
_MARKED = re.compile(b"\1+")
_QUOTE = re.compile(r'"([^"]*)"')
_ESCAPE = re.compile(
    rf"%([0-9a-f]{{2}})|\\x([0-9a-f]{{2}})|\\u([0-9a-f]{{4}})|(?:%|\\[xu]?)[0-9a-f]{{0,3}}(?={CUT}\Z)"
)
_HEX = tuple(
    re.compile(rf"{before}(?:([0-9a-f]{{2}})|[0-9a-f](?={CUT}\Z))")
    for before in ("", "(?<=[0-9a-f])")
)
"""Octets in hex that begin where their digits do, and one digit later; the last may be cut."""
_MUCH_HEX = re.compile(rf"[0-9a-f]{{8}}|[0-9a-f]{{2}}{CUT}\Z")
_TAIL = 4
"""Characters of a run that are looked for first: rarely there by chance, and three runs end so."""

_FOLD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", b"abcdefghijklmnopqrstuvwxyz+/")


class _Reading(NamedTuple):
    """Words as somebody reads them who decodes what is escaped in them."""

    words: str
    starts: tuple[int, ...]
    """Where each character stands in the words as they were said, and their end."""


class _Wanted(NamedTuple):
    """Forms of secrets made ready to be found."""

    forms: frozenset[str]
    texts: tuple[str, ...]
    """All of them in a row, those in ASCII and the others, which are slower to search."""
    size: int
    """Characters of both texts."""


def scrub(words: str, secrets: Iterable[str] = ()) -> str:
    """Mask the given secrets, long parts of them, and what looks like a secret part of a URL.

    A secret under four characters occurs in ordinary words, and the gaps would tell it: then all
    is masked. So never scrub a text of ours: a gap in words that are known tells the secret, too.
    """
    return _scrub(words, _want(secrets))


def scrub_quotes(text: str, secrets: Iterable[str]) -> str:
    """Scrub what is `quoted` in a text of ours; asks for no secret where nothing is."""
    if '"' not in text:
        return text
    wanted = _want(secrets)
    return _QUOTE.sub(lambda match: f'"{_scrub(match[1], wanted)}"', text)


def _want(secrets: Iterable[str]) -> _Wanted:
    forms = frozenset(map(_folded, secrets))
    texts = tuple(
        "\0".join(form for form in forms if form.isascii() is is_ascii)
        for is_ascii in (True, False)
    )
    return _Wanted(forms, texts, sum(map(len, texts)))


def _scrub(words: str, wanted: _Wanted) -> str:
    if any(len(form) < MIN_SCRUBBED_CHARACTERS for form in wanted.forms):
        return MASK
    found = _find(_folded(words), wanted)
    if found is None:
        return MASK
    words = _without(words, found)
    if "@" in words:
        words = _WORD.sub(lambda match: _without_user_info(match[0]), words)
    return _OPTION_VALUE.sub(rf"\1{MASK}", words)


def _folded(text: str) -> str:
    """Make equal what differs in case or base64's alphabet; ASCII alone, so no length changes."""
    return octets_of(text).translate(_FOLD).decode(errors="surrogatepass")


def _without_user_info(word: str) -> str:
    start, end = word.find("://"), word.rfind("@")
    return f"{word[: start + 3]}{MASK}{word[end:]}" if 0 <= start < end else word


def _find(words: str, wanted: _Wanted) -> bytearray | None:
    """Mark every character that belongs to a secret; None where that takes too long to tell."""
    found, left = bytearray(len(words)), MAX_COMPARED
    for reading in _readings(words):
        marks = bytearray(len(reading.words))
        left = _find_runs(reading.words, wanted, marks, left)
        if left < 0:
            return None
        _find_rest(reading.words, wanted, marks)
        for match in _MARKED.finditer(marks):
            start, end = reading.starts[match.start()], reading.starts[match.end()]
            found[start:end] = b"\1" * (end - start)
    return found


def _readings(words: str) -> Iterator[_Reading]:
    yield _Reading(words, tuple(range(len(words) + 1)))
    if _ESCAPE.search(words):
        yield _read(words, _ESCAPE)
    if _MUCH_HEX.search(words):
        for pattern in _HEX:
            yield _read(words, pattern)


def _read(words: str, pattern: re.Pattern[str]) -> _Reading:
    """Decode what the pattern finds, and drop what it finds cut off."""
    read: list[str] = []
    starts: list[int] = []
    at = 0
    for match in pattern.finditer(words):
        read += words[at : match.start()]
        starts += range(at, match.start())
        if match.lastindex:
            read.append(chr(int(match[match.lastindex], 16)))
            starts.append(match.start())
        at = match.end()
    said = _folded("".join((*read, words[at:])))
    return _Reading(said, (*starts, *range(at, len(words) + 1)))


def _find_runs(words: str, wanted: _Wanted, found: bytearray, left: int) -> int:
    """Mark the runs of characters that the words have in common with a secret.

    Tells how many more characters may be looked through: fewer than none where it gave up.
    """
    at = 0
    while (end := at + MIN_COMMON_CHARACTERS) <= len(words):
        left -= wanted.size
        if left < 0:
            break
        if not any(words[end - _TAIL : end] in text for text in wanted.texts):
            at += MIN_COMMON_CHARACTERS - _TAIL + 1
            continue
        left -= wanted.size
        if any(words[at:end] in text for text in wanted.texts):
            found[at:end] = b"\1" * MIN_COMMON_CHARACTERS
        at += 1
    return left


def _find_rest(words: str, wanted: _Wanted, found: bytearray) -> None:
    """Mark the secrets that are too short for a run, and beginnings that were cut off."""
    stem = words.removesuffix(CUT)
    for form in wanted.forms:
        if len(form) < MIN_COMMON_CHARACTERS:
            _find_whole(words, form, found)
        if stem != words:
            _find_beginning(stem, form, found)


def _find_whole(words: str, form: str, found: bytearray) -> None:
    at = words.find(form)
    while at >= 0:
        found[at : at + len(form)] = b"\1" * len(form)
        at = words.find(form, at + 1)


def _find_beginning(stem: str, form: str, found: bytearray) -> None:
    """Mark a secret that was cut off at the end, where that is too short for a run."""
    for size in range(min(len(form), MIN_COMMON_CHARACTERS) - 1, 0, -1):
        if stem.endswith(form[:size]):
            found[len(stem) - size : len(stem)] = b"\1" * size
            return


def _without(words: str, found: bytearray) -> str:
    kept, at = [], 0
    for match in _MARKED.finditer(found):
        kept.append(words[at : match.start()])
        at = match.end()
    return MASK.join((*kept, words[at:]))
