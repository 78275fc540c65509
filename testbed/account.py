"""Whose rights a server runs with, and the folders that it owns."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REMOVALS = 20
REMOVAL_SECONDS = 0.1
"""What a server's last process still writes while it ends makes its folder stay once more."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine; the one who runs us is None wherever an account may be named."""

    user: int
    group: int

    def owns(self, path: Path) -> None:
        """Hand over a file or a folder."""
        os.chown(path, self.user, self.group)


def unprivileged() -> Account | None:
    """Find an account for servers that refuse to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise RuntimeError("PostgreSQL refuses to run as root: add a user named postgres or nobody")


class Folder:
    """A private folder of one server; made and removed by us unless the caller names one."""

    def __init__(self, name: str, path: Path | None = None, account: Account | None = None) -> None:
        """Make the folder and hand it to the account."""
        self._ours = path is None
        self._account = account
        # Not below pytest's folders: only the user who runs us may enter those.
        self.path = path or Path(tempfile.mkdtemp(prefix=f"testbed-{name}-"))
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account:
            account.owns(self.path)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file that its owner alone may read."""
        path = self.path / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if self._account:
            self._account.owns(path)
        return path

    def make(self, name: str) -> Path:
        """Make a folder inside, private like this one."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        if self._account:
            self._account.owns(path)
        return path

    def remove(self) -> None:
        """Remove the folder with all that is in it, when it is ours."""
        for _ in range(REMOVALS if self._ours else 0):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                return
            time.sleep(REMOVAL_SECONDS)
