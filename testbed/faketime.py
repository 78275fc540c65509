"""A wall clock that is set under a running program; its monotonic clock stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from testbed.programs import ProgramError

_LIBRARIES = ("/usr/lib", "/usr/local/lib")


class FakeClock:
    """A file that says by how much programs are wrong; those started with its environment obey."""

    def __init__(self, folder: Path) -> None:
        """Make the file in this folder, which any program may enter from now on."""
        folder.chmod(0o755)
        self._file = folder / "offset"
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set the clock so many seconds forwards, or back."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.replace(self._file)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program needs to obey."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> Path:
    for folder in _LIBRARIES:
        for found in sorted(Path(folder).rglob("libfaketimeMT.so.1")):
            return found
    raise ProgramError("faketime is not installed: on Debian, apt-get install faketime")
