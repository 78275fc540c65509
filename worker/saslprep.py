"""SASLprep (RFC 4013): how a password is prepared before SCRAM."""

from __future__ import annotations

import stringprep
import unicodedata

MAX_PREPARED = 1_024
"""Characters; to normalize many accents on one letter takes time by their number squared."""

_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(password: str) -> bytes:
    """Prepare a password by SASLprep (RFC 4013); one that it forbids travels as it is (libpq)."""
    if password.isascii() or len(password) > MAX_PREPARED:
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    text = unicodedata.normalize("NFKC", mapped)
    is_forbidden = any(is_in(c) for c in text for is_in in _PROHIBITED)
    return (password if not text or is_forbidden or _mixes_directions(text) else text).encode()


def _mixes_directions(text: str) -> bool:
    if not any(map(stringprep.in_table_d1, text)):
        return False
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return not ends or any(map(stringprep.in_table_d2, text))
