"""Secrets that nothing else can hold, and the search for them in whatever came out."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

BIRD = "Qz9xCanary"
"""The beginning of every secret here; whoever reads it anywhere has found a leak."""
HOSTILE = "@:/%#?&= '\"\\+é%41密"
"""What is written beside it in a connection string, percent-encoded."""

_SHORTEST = BIRD[:4]
"""A secret that was cut off must not show its beginning either."""


def _in_base64() -> list[str]:
    """Spell the bird in base64, wherever it begins in what was encoded."""
    whole = (base64.b64encode(f"{lead}{BIRD}".encode()).decode() for lead in ("", "x", "xx"))
    return [text.rstrip("=")[4:-2] for text in whole]


TRACES = re.compile("|".join(re.escape(form) for form in (_SHORTEST, *_in_base64())))


@dataclass(slots=True)
class Birds:
    """Hands out secrets, each another one."""

    count: int = 0
    released: list[str] = field(default_factory=list)

    def secret(self, tail: str = HOSTILE) -> str:
        """Make another secret, hostile unless another tail is named."""
        self.count += 1
        self.released.append(f"{BIRD}{self.count:03d}{tail}")
        return self.released[-1]

    def plain(self) -> str:
        """Make one of letters and digits alone."""
        return self.secret("")


def leaks(text: str) -> list[str]:
    """Cut out of a text where a secret shows, with what stands around it."""
    return [text[max(0, found.start() - 200) : found.end() + 60] for found in TRACES.finditer(text)]
