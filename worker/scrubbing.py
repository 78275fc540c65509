"""Quotes what others say, and leaves no secret in it; standard library only."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

MAX_ERROR_CHARACTERS = 300
MASK = "***"
MIN_SCRUBBED_CHARACTERS = 4
MIN_COMMON_CHARACTERS = 6
"""From how many on a run of a secret's characters is a part of it and no chance."""

MAX_SEARCHED = 2_048
"""Characters of a connection string whose parts are searched for one by one."""
MAX_SPELLED = 4_096
"""Octets of a secret that are written in every form; beside a longer one nothing is shown."""
MAX_COMPARED = 4_000_000
"""Characters looked through for one quotation, some three milliseconds; then nothing is shown."""
EVERYTHING = ("",)
"""In place of forms: so short that `scrub` masks all."""

_WORD = re.compile(r"\S+")
_OPTION_VALUE = re.compile(r"(?<=[?&])([A-Za-z][A-Za-z0-9_.-]*=)[^\s&\"']+")
_SEPARATORS = re.compile(r"[\s/?#@:&=,;]+")
_MARKED = re.compile(b"\1+")
_QUOTE = re.compile(r'"([^"]*)"')
_CUT = "\u2026"
_ESCAPE = re.compile(
    rf"%([0-9a-f]{{2}})|\\x([0-9a-f]{{2}})|\\u([0-9a-f]{{4}})|(?:%|\\[xu]?)[0-9a-f]{{0,3}}(?={_CUT}\Z)"
)
_HEX = (re.compile("([0-9a-f]{2})"), re.compile("(?<=[0-9a-f])([0-9a-f]{2})"))
"""Octets in hex that begin where their digits do, and one digit later."""
_MUCH_HEX = re.compile("[0-9a-f]{8}")
_TAIL = 4
"""Characters of a run that are looked for first: rarely there by chance, and three runs end so."""

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
_SAFE = ("/", "!'()*")
"""What encoders leave as it is beside these: Python's by default, JavaScript's."""
_CODES = tuple(
    tuple(chr(c) if c in _UNRESERVED else f"%{c:02{x}}" for c in range(256)) for x in "Xx"
)
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


def clean(text: str) -> str:
    """Make a stranger's text one line of printable characters, short enough for a column."""
    return _printable(text[:MAX_ERROR_CHARACTERS])


def quoted(words: str, limit: int) -> str:
    """Quote a stranger's words within a text of ours, so that `scrub_quotes` can tell them apart.

    What is longer than `limit` characters is cut, and shows it.
    """
    return f'"{_told(cut(words, limit))}"'


def cut(words: str, limit: int) -> str:
    """Take so many characters, and show where there were more."""
    return words[:limit] + _CUT if len(words) > limit else words


def secret_forms(secret: str) -> tuple[str, ...]:
    """List the spellings in which a secret could appear in a text, a log line or a repr.

    Spellings that differ only in case or in base64's alphabet are the same to `scrub`, which also
    reads what is escaped byte by byte.
    """
    if len(secret) > MAX_SPELLED or len(_octets(secret)) > MAX_SPELLED:
        return EVERYTHING
    plain = {secret, unquote(secret)}
    coded = {form for s in plain for form in _percent_coded(_octets(s))}
    octets = [_octets(s) for s in plain | coded]
    in_base64 = {form for s in octets for form in _base64_coded(s)}
    escaped = {repr(s)[1:-1] for s in plain} | {json.dumps(s)[1:-1] for s in plain}
    escaped |= {repr(s)[2:-1] for s in octets} | {_told(s) for s in plain}
    variants = {form for s in plain for form in _variants(s)}
    return tuple((plain | coded | in_base64 | escaped | variants) - {""})


def secrets_of(text: str) -> tuple[str, ...]:
    """List what may not appear of a connection string that need not even be one."""
    if not text:
        return ()
    if len(text) > MAX_SEARCHED:
        return EVERYTHING
    authority, _, query = text.partition("?")
    user_info = (authority if "@" in authority else text).partition("://")[2].rpartition("@")[0]
    parts = {user_info, user_info.partition(":")[2]}
    parts |= {option.partition("=")[2] for option in query.split("&")}
    parts |= {part for part in _SEPARATORS.split(text) if len(part) >= MIN_SCRUBBED_CHARACTERS}
    return (text, *(form for part in parts for form in secret_forms(part)))


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


def _octets(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _percent_coded(octets: bytes) -> set[str]:
    """Write octets as each encoder would, with capital digits and with small ones."""
    forms = set()
    for codes in _CODES:
        careful = "".join([codes[c] for c in octets])
        forms |= {careful, careful.replace(codes[ord(" ")], "+")}
        for safe in _SAFE:
            form = careful
            for c in safe:
                form = form.replace(codes[ord(c)], c)
            forms.add(form)
    return forms


def _base64_coded(octets: bytes) -> set[str]:
    """Write octets as they look within the base64 of a longer text, wherever they begin in it."""
    forms = {base64.b64encode(octets).decode().rstrip("=")}
    for offset in range(3):
        coded = base64.b64encode(bytes(offset) + octets).decode().rstrip("=")
        form = coded[-(-offset * 8 // 6) :]
        core = form[: len(form) - ((offset + len(octets)) * 8 % 6 > 0)]
        shortest = form if len(core) >= MIN_COMMON_CHARACTERS else core
        forms |= {each for each in (form, shortest) if len(each) >= MIN_SCRUBBED_CHARACTERS}
    return forms


def _variants(text: str) -> set[str]:
    """Write what is not ASCII composed and decomposed, in either case, and octet by octet."""
    if text.isascii():
        return set()
    octets = _octets(text).decode("latin-1")
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    forms |= {text.upper(), text.lower(), octets, _told(octets)}
    return {form for form in forms if len(form) >= MIN_SCRUBBED_CHARACTERS}


def _folded(text: str) -> str:
    """Make equal what differs in case or base64's alphabet; ASCII alone, so no length changes."""
    return _octets(text).translate(_FOLD).decode(errors="surrogatepass")


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _told(words: str) -> str:
    """Write words as `quoted` does: its own mark must not occur in them."""
    return _printable(words).replace('"', "'")


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
    stem = words.removesuffix(_CUT)
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
