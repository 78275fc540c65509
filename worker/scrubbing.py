"""Quotes what others say, and leaves no secret in it; standard library only."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

MAX_ERROR_CHARACTERS = 300
MASK = "***"
MIN_SCRUBBED_CHARACTERS = 4
MIN_COMMON_CHARACTERS = 6
"""From how many on a run of a secret's characters is a part of it and no chance."""

MAX_SEARCHED = 2_048
"""Characters of a connection string whose parts are searched for one by one."""

_WORD = re.compile(r"\S+")
_OPTION_VALUE = re.compile(r"(?<=[?&])([A-Za-z][A-Za-z0-9_.-]*=)[^\s&\"']+")
_SEPARATORS = re.compile(r"[\s/?#@:&=,;]+")
_HEX = re.compile(r"%[0-9A-F]{2}")
_QUOTE = re.compile(r'"([^"]*)"')
_CUT = "\u2026"
_SAFE = ("", "/", "!'()*")
"""What encoders leave as it is: careful ones, Python's by default, JavaScript's."""
_URL_SAFE = str.maketrans("+/", "-_")


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
    """List the spellings in which a secret could appear in a text, a log line or a repr."""
    plain = {secret, unquote(secret)}
    coded = {quote(s, safe, errors="surrogatepass") for s in plain for safe in _SAFE}
    coded |= {quote_plus(s, errors="surrogatepass") for s in plain}
    coded |= {_HEX.sub(lambda match: match[0].lower(), s) for s in coded}
    octets = [s.encode(errors="surrogatepass") for s in plain | coded]
    in_base64 = {base64.b64encode(s).decode().rstrip("=") for s in octets}
    in_base64 |= {s.translate(_URL_SAFE) for s in in_base64}
    escaped = {repr(s)[1:-1] for s in plain} | {json.dumps(s)[1:-1] for s in plain}
    escaped |= {repr(s)[2:-1] for s in octets} | {_told(s) for s in plain}
    return tuple((plain | coded | in_base64 | escaped) - {""})


def secrets_of(text: str) -> tuple[str, ...]:
    """List what may not appear of a connection string that need not even be one."""
    if not text:
        return ()
    if len(text) > MAX_SEARCHED:
        return (text[:1],)  # so short that `scrub` masks everything
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
    forms = sorted(set(secrets), key=len, reverse=True)
    if forms and len(forms[-1]) < MIN_SCRUBBED_CHARACTERS:
        return MASK
    for form in forms:
        words = _without_parts(words.replace(form, MASK), form)
        if words.endswith(_CUT):
            words = _without_beginning(words.removesuffix(_CUT), form) + _CUT
    if "@" in words:
        words = _WORD.sub(lambda match: _without_user_info(match[0]), words)
    return _OPTION_VALUE.sub(rf"\1{MASK}", words)


def scrub_quotes(text: str, secrets: Iterable[str]) -> str:
    """Scrub what is `quoted` in a text of ours."""
    forms = tuple(secrets)
    return _QUOTE.sub(lambda match: f'"{scrub(match[1], forms)}"', text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _told(words: str) -> str:
    """Write words as `quoted` does: its own mark must not occur in them."""
    return _printable(words).replace('"', "'")


def _without_user_info(word: str) -> str:
    start, end = word.find("://"), word.rfind("@")
    return f"{word[: start + 3]}{MASK}{word[end:]}" if 0 <= start < end else word


def _without_parts(words: str, secret: str) -> str:
    """Mask every run of characters that the words have in common with a secret."""
    kept, at = [], 0
    while at < len(words):
        end = at + MIN_COMMON_CHARACTERS
        if end > len(words) or words[at:end] not in secret:
            kept.append(words[at])
            at += 1
            continue
        while end < len(words) and words[at : end + 1] in secret:
            end += 1
        kept.append(MASK)
        at = end
    return "".join(kept)


def _without_beginning(words: str, secret: str) -> str:
    """Mask a secret that was cut off at the end."""
    for size in range(min(len(words), len(secret) - 1), 0, -1):
        if words.endswith(secret[:size]):
            return words[:-size] + MASK
    return words
