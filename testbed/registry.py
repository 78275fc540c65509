"""A registry in a server of its own, so that a test may break it."""

from __future__ import annotations

from pathlib import Path

from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer

_SCHEMA = Path(__file__).parent.parent / "schema"
_ROLE = "health_worker_login"
_PASSWORD = "worker-secret"


class RegistryServer(PostgreSQLServer):
    """A PostgreSQL server with the schema, and a login role that may do what the worker may."""

    def __init__(self, options: PostgreSQLOptions | None = None) -> None:
        """Set it up; the schema is applied at the first start; a commit survives kill -9."""
        options = options or PostgreSQLOptions(settings={"synchronous_commit": "on"})
        super().__init__(options)
        self._is_empty = True

    @property
    def worker_url(self) -> str:
        """The connection string of a member of platform_health_worker."""
        return self.url(_ROLE, _PASSWORD)

    def start(self) -> None:
        """Start it, with the schema in place."""
        super().start()
        if not self._is_empty:
            return
        for path in sorted(_SCHEMA.glob("0*.sql")):
            if "register" not in path.name:
                self.psql("--file", path)
        self.execute(
            f"create role {_ROLE} login password '{_PASSWORD}' in role platform_health_worker"
        )
        self._is_empty = False

    def cut_workers(self) -> None:
        """End every session of a worker's, in the midst of a statement or not."""
        self.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{_ROLE}'"  # noqa: S608 -- a constant of ours
        )
