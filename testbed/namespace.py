"""A network of our own, in which packets vanish and routes end; for root alone."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.programs import find_program

OWN = "198.51.100.1"
"""An address (RFC 5737) of this network itself, and not a loopback one."""
SWALLOWED = "198.51.100.9"
"""An address whose packets leave and are never answered."""
NO_ROUTE = "203.0.113.9"
"""An address to which the way is known to be closed."""
NO_IPV6 = "2001:db8::9"
"""An address of a family (RFC 3849) that this network does not route at all."""
_CLONE_NEWNET = 0x40000000
_VOID = (
    "link set lo up",
    "link add void0 type veth peer name void1",
    "link set void0 up",
    "link set void1 up",
    f"address add {OWN}/24 dev void0",
    f"neighbour add {SWALLOWED} lladdr 02:00:00:00:00:09 dev void0",
    "route add unreachable 203.0.113.0/24",
)
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_libc = ctypes.CDLL(None, use_errno=True)


def may_make_namespaces() -> bool:
    """Whether we are allowed to: another user than root would need a process of its own for it."""
    return os.geteuid() == 0


def with_resolv_conf(path: Path) -> Sequence[str]:
    """Make the beginning of a command that finds this file in place of the machine's own."""
    lay = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return [str(find_program("unshare", "util-linux")), "--mount", "sh", "-c", lay, str(path)]


class Namespace:
    """A network namespace; gone as soon as nobody uses it, however this process ends."""

    def __init__(self, *, is_cut_off: bool = False) -> None:
        """Lay no cable at all where it is to be cut off."""
        self._is_cut_off = is_cut_off
        self._descriptor = -1

    def __enter__(self) -> Self:
        maker = threading.Thread(target=self._make)
        maker.start()
        maker.join()
        if not self._is_cut_off:
            with self.entered():
                for words in _VOID:
                    ip = find_program("ip", "iproute2")
                    subprocess.run([ip, *words.split()], check=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread in; threads and programs that it starts meanwhile are born there."""
        home = _open_own()
        try:
            _check(_libc.setns(self._descriptor, _CLONE_NEWNET))
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET))
            os.close(home)

    def _make(self) -> None:
        _check(_libc.unshare(_CLONE_NEWNET))
        self._descriptor = _open_own()


@contextmanager
def only_port(port: int) -> Iterator[None]:
    """Leave the network that this thread is in one port for all that it calls."""
    before = _PORTS.read_text()
    _PORTS.write_text(f"{port} {port}")
    try:
        yield
    finally:
        _PORTS.write_text(before)


def _open_own() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _check(answer: int) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
