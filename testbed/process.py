"""Programs that die with their parent and are started, stopped, killed and paused by their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from testbed.account import Account, Folder
from testbed.ports import free_port, release_port
from testbed.programs import (
    POLL_SECONDS,
    ProgramError,
    clean_environment,
    find_program,
    one_line,
    wait_until,
)

# The kernel calls the thread that started a child its parent. This one lives as long as we do.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testbed-spawner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, how to know from its output that it is up, and how to end it."""

    arguments: Sequence[str | Path]
    ready: Callable[[str], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    start_seconds: float = 30.0
    stop_seconds: float = 10.0


class Child(ABC):
    """A program in a folder of its own; its output lands in the file `log` there."""

    def __init__(
        self, name: str, folder: Path | None = None, account: Account | None = None
    ) -> None:
        """Name it; without a folder it gets a temporary one, removed when it is closed."""
        self.name = name
        self.folder = Folder(name, folder, account)
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._command: Command | None = None

    @abstractmethod
    def command(self) -> Command:
        """Write the files that the program needs and say how to run it; called at every start."""

    @property
    def pid(self) -> int:
        """The process that runs now."""
        if self._process is None:
            raise ProgramError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it printed, over all its starts."""
        try:
            return self._log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def _log_path(self) -> Path:
        return self.folder.path / "log"

    def start(self) -> None:
        """Start it and return when it is ready; a failure shows the end of its log."""
        if self.running:
            return
        before = len(self.log)
        self._command = self.command()
        with self._log_path.open("ab") as output:
            self._process = self._spawn(self._command, output)
        try:
            self._await_ready(self._command, before)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it politely and wait; kill it when it does not end in its time."""
        if self._process is None or self._command is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(self._command.stop_signal)
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(self._command.stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it and the processes it made with SIGKILL."""
        if self._process is None:
            return
        family = list(self._family())
        self._signal(signal.SIGKILL, family)
        self._process.wait()
        self._process = None
        wait_until(lambda: not any(map(_is_alive, family)), f"the end of {self.name}")

    def pause(self) -> None:
        """Freeze it and the processes it made with SIGSTOP; the kernel still accepts for it."""
        self._signal(signal.SIGSTOP, list(self._family()))

    def resume(self) -> None:
        """Let it go on after a pause."""
        self._signal(signal.SIGCONT, list(self._family()))

    def close(self) -> None:
        """Stop it and remove its folder if that was made for it."""
        try:
            self.stop()
        finally:
            self.folder.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spawn(self, command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
        # setpriv and not preexec_fn: that one may deadlock in a process that has threads.
        setpriv = find_program("setpriv", "util-linux")
        arguments = [setpriv, "--pdeathsig", "KILL", "--", *command.arguments]

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder.path,
                env=clean_environment(**command.environment),
                start_new_session=True,  # a Ctrl-C is for us; we stop the servers in our order
                user=self._account.user if self._account else None,
                group=self._account.group if self._account else None,
                extra_groups=[] if self._account else None,
            )

        if threading.current_thread() is threading.main_thread():
            return spawn()
        return _spawner.submit(spawn).result()

    def _await_ready(self, command: Command, before: int) -> None:
        end = time.monotonic() + command.start_seconds
        while not command.ready(output := self.log[before:]):
            if not self.running:
                raise ProgramError(f"{self.name} did not start: {one_line(output)}")
            if time.monotonic() > end:
                raise ProgramError(
                    f"{self.name} was not ready in {command.start_seconds:g} s: {one_line(output)}"
                )
            time.sleep(POLL_SECONDS)

    def _signal(self, number: signal.Signals, family: Sequence[int]) -> None:
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _family(self) -> Iterator[int]:
        """Yield its own pid and those of the processes that it made."""
        if not self.running:
            return
        yield self.pid
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if _parent(stat.read_text()) == self.pid:
                    yield int(stat.parent.name)


class Program(Child):
    """A program of one fixed command."""

    def __init__(self, name: str, command: Command, folder: Path | None = None) -> None:
        """Take the command that every start runs."""
        super().__init__(name, folder)
        self._fixed = command

    def command(self) -> Command:
        """Return the command."""
        return self._fixed


class Server(Child):
    """A program that listens on a loopback port of its own, the same one after every start."""

    host = "127.0.0.1"

    def __init__(
        self, name: str, folder: Path | None = None, account: Account | None = None
    ) -> None:
        """Take a free port."""
        super().__init__(name, folder, account)
        self.port = free_port()

    def close(self) -> None:
        """Stop it, remove its folder if that was made for it, give the port back."""
        super().close()
        release_port(self.port)


def _parent(stat: str) -> int:
    return int(stat.rpartition(")")[2].split()[1])


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
