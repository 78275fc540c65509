"""Loopback ports that no other process of the test bed chooses at the same moment."""

from __future__ import annotations

import atexit
import random
import socket
from contextlib import closing

# Outgoing connections take ports up to 60999: a server restarted on one of those may find it taken.
LOWEST = 61000
HIGHEST = 65535

# A name in the kernel stands for each port we took. It vanishes with this process, however it ends.
_taken: dict[int, socket.socket] = {}


@atexit.register
def _release_all() -> None:
    """Let go in order, so that Python does not warn of sockets left open at a usual end."""
    while _taken:
        _taken.popitem()[1].close()


def free_port() -> int:
    """Take a free port above 61000; it is ours until it is released or this process ends."""
    ports = list(range(LOWEST, HIGHEST + 1))
    random.shuffle(ports)
    for port in ports:
        if port not in _taken and _take(port):
            return port
    raise RuntimeError(f"no free port between {LOWEST} and {HIGHEST}")


def release_port(port: int) -> None:
    """Give a port back, also one that was never taken."""
    if name := _taken.pop(port, None):
        name.close()


def _take(port: int) -> bool:
    """Claim a port among the processes of the test bed, unless somebody listens on it already."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name.bind(f"\0testbed-port-{port}")
    except OSError:
        name.close()
        return False
    if not _nobody_listens(port):
        name.close()
        return False
    _taken[port] = name
    return True


def _nobody_listens(port: int) -> bool:
    """Tell whether a server could bind the port on every IPv4 address."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
