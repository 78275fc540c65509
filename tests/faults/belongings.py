"""What a check holds while it runs, and must not hold two seconds later."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil

PATIENCE = 2.0
"""Seconds within which nothing of a check may be left."""
_SERVERS = frozenset({"misbehaving"})
"""Threads of the test bed's own servers."""


class _Connection(NamedTuple):
    """Our end of one, and the other."""

    fd: int
    ours: Any
    theirs: Any


def belongings() -> frozenset[object]:
    """List our ends of connections, our tasks, and our threads that do something."""
    return frozenset((*_connections(), *_tasks(), *_threads()))


async def await_nothing_but(before: frozenset[object]) -> frozenset[object]:
    """Wait until all that came since is gone; return what is not in its time."""
    end = time.monotonic() + PATIENCE
    while True:
        left = belongings() - before
        if not left or time.monotonic() > end:
            return left
        await asyncio.sleep(0.005)


def connections_of(left: frozenset[object]) -> frozenset[object]:
    """Pick the connections."""
    return frozenset(each for each in left if isinstance(each, _Connection))


def _connections() -> Iterator[object]:
    connections = psutil.Process().net_connections("inet")
    ours = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    for each in connections:
        if not each.laddr or each.laddr.port not in ours:
            yield _Connection(each.fd, each.laddr, each.raddr)


def _tasks() -> Iterator[object]:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            yield task


def _threads() -> Iterator[object]:
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        # A pool's thread that waits for its next work is nobody's leftover.
        is_idle = frame is not None and frame.f_code.co_name == "_worker"
        if thread.name not in _SERVERS and not is_idle:
            yield thread
