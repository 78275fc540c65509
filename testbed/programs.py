"""What every part of the test bed needs of programs: to find them, to wait, to say what failed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.005
_TAIL_CHARACTERS = 600


class ProgramError(Exception):
    """A program is missing, did not start, or refused what it was told; the text is one line."""


def find_program(name: str, package: str, *folders: Path) -> Path:
    """Find a program in these folders, else on PATH, or say in one line what to install."""
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return folder / name
    if found := shutil.which(name, path=_search_path()):
        return Path(found)
    raise ProgramError(f"{name} is not installed: on Debian, apt-get install {package}")


def clean_environment(**extra: str) -> dict[str, str]:
    """Make an environment in which nothing of the user's (PG*, LC_*, ...) can change a server."""
    return {"PATH": _search_path(), "LC_ALL": "C.UTF-8", **extra}


def one_line(text: str) -> str:
    """Fold the end of an output into one line."""
    return " / ".join(text[-_TAIL_CHARACTERS:].strip().splitlines()) or "it printed nothing"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Return as soon as the condition holds; name it when it does not in this many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ProgramError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(POLL_SECONDS)


def _search_path() -> str:
    # Debian keeps some servers in sbin, which an ordinary user's PATH does not name.
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
