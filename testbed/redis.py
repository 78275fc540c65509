"""A Redis server, and replicas that follow it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlencode

from testbed.certificates import Certificate
from testbed.process import Command, Server
from testbed.programs import ProgramError, find_program

Reply = str | int | None | list["Reply"]

_SETTINGS = {
    "bind": "127.0.0.1",
    "protected-mode": "no",
    "save": '""',
    "enable-debug-command": "local",
    "enable-protected-configs": "local",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """How a Redis server is set up; `users` are ACL lines, `name on >password ~* +@all`."""

    password: str | None = None
    users: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    certificate: Certificate | None = None
    client_certificates: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "Ready to accept connections"


class RedisServer(Server):
    """A Redis server on 127.0.0.1 without persistence; with a certificate it speaks TLS only."""

    def __init__(
        self,
        options: RedisOptions | None = None,
        folder: Path | None = None,
        *,
        primary: RedisServer | None = None,
    ) -> None:
        """Set it up to stand alone, or to follow this primary; `options` may be replaced later."""
        super().__init__("redis", folder)
        self.options = options or RedisOptions()
        self._primary = primary

    def command(self) -> Command:
        """Write the configuration."""
        settings = {
            **_SETTINGS,
            **self._tls(),
            **self._replication(),
            "dir": str(self.folder.path),
            **self.options.settings,
        }
        if self.options.password is not None:
            settings["requirepass"] = f'"{self.options.password}"'
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [f"user {user}" for user in self.options.users]
        path = self.folder.write("redis.conf", "\n".join(lines) + "\n")
        return Command(
            arguments=[find_program("redis-server", "redis-server"), path],
            ready=lambda log: self.options.ready in log,
            environment=self.options.environment,
        )

    def url(
        self,
        user: str | None = None,
        password: str | None = None,
        database: str = "",
        **query: str,
    ) -> str:
        """Write a connection string; without user and password it is the default user's."""
        if user is None and password is None:
            password = self.options.password
        login = quote(user or "", safe="")
        if password is not None:
            login += f":{quote(password, safe='')}"
        scheme = "rediss" if self.options.certificate else "redis"
        url = f"{scheme}://{login}{'@' if login else ''}{self.host}:{self.port}"
        url += f"/{database}" if database or query else ""
        return f"{url}?{urlencode(query)}" if query else url

    def execute(self, *words: str) -> Reply:
        """Run one command as the default user, all rights; an error reply is raised."""
        with self.connection() as connection:
            return connection.execute(*words)

    @contextmanager
    def connection(self, seconds: float = 10.0) -> Iterator[RedisConnection]:
        """Keep one connection of the default user for several commands; a wait is bounded."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._secured(plain) as secured, secured.makefile("rb") as replies:
                connection = RedisConnection(secured, replies)
                if self.options.password is not None:
                    connection.execute("AUTH", self.options.password)
                yield connection

    def replica(self, options: RedisOptions | None = None) -> RedisServer:
        """Make a server that follows this one."""
        return RedisServer(options or self.options, primary=self)

    def _secured(self, plain: socket.socket) -> socket.socket:
        certificate = self.options.certificate
        if certificate is None:
            return plain
        context = ssl.create_default_context(cadata=certificate.authority.decode())
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # it may be the expired one
        if self.options.client_certificates:
            context.load_cert_chain(self.folder.path / "server.crt", self._key_path)
        return context.wrap_socket(plain)

    @property
    def _key_path(self) -> Path:
        return self.folder.path / "server.key"

    def _tls(self) -> dict[str, str]:
        certificate = self.options.certificate
        if certificate is None:
            return {"port": str(self.port)}
        return {
            "port": "0",
            "tls-port": str(self.port),
            "tls-replication": "yes",
            "tls-cert-file": str(self.folder.write("server.crt", certificate.certificate)),
            "tls-key-file": str(self.folder.write(self._key_path.name, certificate.key)),
            "tls-ca-cert-file": str(self.folder.write("ca.crt", certificate.authority)),
            "tls-auth-clients": "yes" if self.options.client_certificates else "no",
        }

    def _replication(self) -> dict[str, str]:
        if self._primary is None:
            return {}
        settings = {"replicaof": f"{self._primary.host} {self._primary.port}"}
        if self._primary.options.password is not None:
            settings["masterauth"] = f'"{self._primary.options.password}"'
        return settings


class RedisConnection:
    """The barest client, for what a test does to a server behind the worker's back."""

    def __init__(self, channel: socket.socket, replies: BinaryIO) -> None:
        """Take an open socket and the stream of its replies; both stay the caller's."""
        self._channel = channel
        self._replies = replies

    def execute(self, *words: str) -> Reply:
        """Send one command and read its reply; an error reply is raised."""
        self.send(*words)
        return self.receive()

    def send(self, *words: str) -> None:
        """Send one command without waiting, such as one that never ends."""
        parts = [word.encode() for word in words]
        body = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._channel.sendall(b"*%d\r\n%b" % (len(parts), body))

    def receive(self) -> Reply:
        """Read one reply; an error reply is raised."""
        line = self._replies.readline()
        if not line:
            raise ProgramError("redis closed the connection")
        kind, rest = line[:1], line[1:].rstrip(b"\r\n").decode()
        if kind == b"-":
            raise ProgramError(f"redis: {rest}")
        if kind == b"+":
            return rest
        size = int(rest)
        if kind == b":":
            return size
        if size < 0:
            return None
        if kind == b"*":
            return [self.receive() for _ in range(size)]
        return self._replies.read(size + 2)[:-2].decode()
