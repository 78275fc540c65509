"""The ways in which a registry goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.postgresql import PostgreSQLServer
from testbed.registry import RegistryServer

WAYS = ("stopped", "killed", "silent", "read-only", "failed over")


@dataclass(slots=True)
class Outage:
    """One registry that can be taken away in one way; owns neither server."""

    way: str
    registry: RegistryServer
    standby: PostgreSQLServer | None = None
    """Follows the registry; takes its place in a failover."""

    @property
    def server(self) -> PostgreSQLServer:
        """The server that is the registry now, or will be again."""
        return self.standby or self.registry

    def begin(self) -> None:
        """Take the registry away."""
        steps: dict[str, Callable[[], None]] = {
            "stopped": self.registry.stop,
            "killed": self.registry.kill,
            "silent": self.registry.pause,
            "read-only": lambda: self._set_read_only("on"),
            "failed over": self._fall,
        }
        steps[self.way]()

    def end(self) -> None:
        """Give it back, under the same address."""
        steps: dict[str, Callable[[], None]] = {
            "stopped": self.registry.start,
            "killed": self.registry.start,
            "silent": self.registry.resume,
            "read-only": lambda: self._set_read_only("off"),
            "failed over": self._promote,
        }
        steps[self.way]()

    def _set_read_only(self, value: str) -> None:
        self.registry.execute(f"alter system set default_transaction_read_only = {value}")
        self.registry.execute("select pg_reload_conf()")

    def _fall(self) -> None:
        """Leave a hot standby at the registry's address: it reads, and refuses to write."""
        assert self.standby is not None
        self.registry.kill()
        self.standby.stop()
        self.standby.port = self.registry.port
        self.standby.start()

    def _promote(self) -> None:
        self.server.execute("select pg_promote()")
