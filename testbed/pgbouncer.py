"""A PgBouncer in transaction mode in front of a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from testbed.account import unprivileged
from testbed.postgresql import PostgreSQLServer
from testbed.process import Command, Server
from testbed.programs import find_program

_PACKAGE = "pgbouncer"


class PgBouncer(Server):
    """Lends the connections of a small pool for a transaction at a time; not as root."""

    def __init__(
        self, server: PostgreSQLServer, user: str, password: str, *, pool_size: int = 1
    ) -> None:
        """Take the server behind it, the one role it lets in, and how many connections it keeps."""
        super().__init__("pgbouncer", account=unprivileged())
        self._server = server
        self._user = user
        self._password = password
        self._pool_size = pool_size

    def command(self) -> Command:
        """Write its two files and say how to run it."""
        roles = self.folder.write("roles.txt", f'"{self._user}" "{self._password}"\n')
        configuration = self.folder.write("pgbouncer.ini", self._configuration(roles))
        return Command(
            arguments=[find_program("pgbouncer", _PACKAGE), configuration],
            ready=lambda log: "process up" in log,
        )

    def url(self, database: str = "postgres") -> str:
        """Write the connection string of its role."""
        login = f"{quote(self._user, safe='')}:{quote(self._password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{database}"

    def _configuration(self, roles: Path) -> str:
        return f"""[databases]
* = host={self._server.host} port={self._server.port}
[pgbouncer]
listen_addr = {self.host}
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {roles}
pool_mode = transaction
default_pool_size = {self._pool_size}
max_client_conn = 1000
"""
