"""What processes have cost so far: CPU time and memory, as the kernel counts them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds (user and system) that were spent so far."""

    seconds: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read one process."""
        times = psutil.Process(pid).cpu_times()
        return cls(times.user + times.system)

    @classmethod
    def of_family(cls, pid: int) -> Self:
        """Read a process, those that it started, and those of them that have ended."""
        parent = psutil.Process(pid)
        times = parent.cpu_times()
        seconds = times.user + times.system + times.children_user + times.children_system
        for child in parent.children(recursive=True):
            try:
                spent = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds += spent.user + spent.system
        return cls(seconds)

    def since(self, before: Cost) -> float:
        """CPU seconds from then to now."""
        return self.seconds - before.seconds


def resident_megabytes(pid: int) -> float:
    """Resident memory of one process."""
    resident: int = psutil.Process(pid).memory_info().rss
    return resident / 2**20


def peak_megabytes(pid: int) -> float:
    """The most resident memory that one process has had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak) / 2**10
