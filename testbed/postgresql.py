"""A PostgreSQL server, and standbys that follow it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlencode

from testbed.account import Folder, unprivileged
from testbed.certificates import Certificate
from testbed.process import Command, Server
from testbed.programs import ProgramError, clean_environment, find_program, one_line

_PACKAGE = "postgresql"
_READY = "database system is ready to accept"
# Throwaway data: fast rather than durable, and nothing left in /dev/shm after a kill -9.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgreSQLOptions:
    """How a PostgreSQL server is set up; `hba` is for TCP and rules from its first line down."""

    superuser: str = "postgres"
    password: str = "postgres-secret"
    settings: Mapping[str, str] = field(default_factory=dict)
    hba: Sequence[str] = (
        "host all all all scram-sha-256",
        "host replication all all scram-sha-256",
    )
    certificate: Certificate | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = _READY


class PostgreSQLServer(Server):
    """A PostgreSQL server on 127.0.0.1; not as root, which it refuses."""

    def __init__(
        self,
        options: PostgreSQLOptions | None = None,
        folder: Path | None = None,
        *,
        primary: PostgreSQLServer | None = None,
    ) -> None:
        """Set it up to stand alone, or to follow this primary; `options` may be replaced later."""
        super().__init__("postgresql", folder, unprivileged())
        self.options = options or PostgreSQLOptions()
        self._primary = primary
        self._data = self.folder.path / "data"

    def command(self) -> Command:
        """Make the data folder at the first start; settings and rules take effect at every one."""
        if not self._data.exists():
            self._make_data()
        folder = Folder("postgresql", self._data, self._account)
        folder.write("pg_hba.conf", "local all all trust\nlocal replication all trust\n")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.writelines(f"{line}\n" for line in self.options.hba)
        settings = {
            **_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder.path),
            **self._tls(),
            **self.options.settings,
        }
        arguments: list[str | Path] = [_program("postgres"), "-D", self._data]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        return Command(
            arguments=arguments,
            ready=lambda log: self.options.ready in log,
            environment=self.options.environment,
            stop_signal=signal.SIGINT,  # ends sessions instead of waiting for them
        )

    def url(
        self,
        user: str | None = None,
        password: str | None = None,
        database: str = "postgres",
        **query: str,
    ) -> str:
        """Write a connection string; without a user it is the superuser's."""
        if user is None:
            user, password = self.options.superuser, self.options.password
        login = quote(user, safe="")
        if password is not None:
            login += f":{quote(password, safe='')}"
        url = f"postgresql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"
        return f"{url}?{urlencode(query)}" if query else url

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser, whatever `hba` says; return unaligned rows without headings."""
        return self.psql("--command", sql, database=database)

    def psql(self, *arguments: str | Path, database: str = "postgres") -> str:
        """Run psql as the superuser with these arguments; stop at the first error and raise it."""
        return self._run(
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            f"--host={self.folder.path}",
            f"--port={self.port}",
            f"--username={self.options.superuser}",
            f"--dbname={database}",
            *arguments,
            environment={"PGOPTIONS": "--client-min-messages=warning"},
        ).rstrip("\n")

    def standby(self, *, hot: bool = True) -> PostgreSQLServer:
        """Make a server that follows this one; a cold one runs but lets nobody in."""
        options = replace(
            self.options,
            settings={**self.options.settings, "hot_standby": "on" if hot else "off"},
            ready=_READY if hot else "entering standby mode",
        )
        return PostgreSQLServer(options, primary=self)

    def _make_data(self) -> None:
        try:
            if self._primary is None:
                self._initialise()
            else:
                self._copy(self._primary)
        except BaseException:
            shutil.rmtree(self._data, ignore_errors=True)
            raise

    def _initialise(self) -> None:
        password = self.folder.write("superuser-password", self.options.password)
        self._run(
            "initdb",
            f"--pgdata={self._data}",
            f"--username={self.options.superuser}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        password.unlink()

    def _copy(self, primary: PostgreSQLServer) -> None:
        self._run(
            "pg_basebackup",
            f"--pgdata={self._data}",
            f"--host={primary.folder.path}",
            f"--port={primary.port}",
            f"--username={primary.options.superuser}",
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
        )

    def _tls(self) -> dict[str, str]:
        if self.options.certificate is None:
            return {}
        files = {
            "ssl_cert_file": self.folder.write("server.crt", self.options.certificate.certificate),
            "ssl_key_file": self.folder.write("server.key", self.options.certificate.key),
            "ssl_ca_file": self.folder.write("ca.crt", self.options.certificate.authority),
        }
        return {"ssl": "on", **{name: str(path) for name, path in files.items()}}

    def _run(
        self, name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a program of PostgreSQL's to its end, as the server's own account but for psql."""
        account = None if name == "psql" else self._account
        done = subprocess.run(
            [_program(name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder.path,
            env=clean_environment(**(environment or {})),
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode != 0:
            raise ProgramError(f"{name}: {one_line(done.stderr or done.stdout)}")
        return done.stdout


def _program(name: str) -> Path:
    """Find a program of the newest PostgreSQL; Debian keeps its servers off PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    newest = sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    return find_program(name, _PACKAGE, *(path for path in newest if os.access(path, os.X_OK)))
