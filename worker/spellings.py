"""The spellings in which a secret may appear in others' words; standard library only."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from urllib.parse import unquote

from worker.quoting import told

MIN_SCRUBBED_CHARACTERS = 4
MIN_COMMON_CHARACTERS = 6
"""From how many on a run of a secret's characters is a part of it and no chance."""

MAX_SEARCHED = 2_048
"""Characters of a connection string whose parts are searched for one by one."""
MAX_SPELLED = 4_096
"""Octets of a secret that are written in every form; beside a longer one nothing is shown."""
EVERYTHING = ("",)
"""In place of forms: so short that `scrub` masks all."""

_SEPARATORS = re.compile(r"[\s/?#@:&=,;]+")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
_SAFE = ("/", "!'()*")
"""What encoders leave as it is beside these: Python's by default, JavaScript's."""
_CODES = tuple(
    tuple(chr(c) if c in _UNRESERVED else f"%{c:02{x}}" for c in range(256)) for x in "Xx"
)


def secret_forms(secret: str) -> tuple[str, ...]:
    """List the spellings in which a secret could appear in a text, a log line or a repr.

    Spellings that differ only in case or in base64's alphabet are the same to `scrub`, which also
    reads what is escaped byte by byte.
    """
    if len(secret) > MAX_SPELLED or len(octets_of(secret)) > MAX_SPELLED:
        return EVERYTHING
    plain = {secret, unquote(secret)}
    coded = {form for s in plain for form in _percent_coded(octets_of(s))}
    octets = [octets_of(s) for s in plain | coded]
    in_base64 = {form for s in octets for form in _base64_coded(s)}
    escaped = {repr(s)[1:-1] for s in plain} | {json.dumps(s)[1:-1] for s in plain}
    escaped |= {repr(s)[2:-1] for s in octets} | {told(s) for s in plain}
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
    octets = octets_of(text).decode("latin-1")
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    forms |= {text.upper(), text.lower(), octets, told(octets)}
    return {form for form in forms if len(form) >= MIN_SCRUBBED_CHARACTERS}


def octets_of(text: str) -> bytes:
    """Encode a text that need not be one: lone surrogates, too."""
    return text.encode(errors="surrogatepass")
