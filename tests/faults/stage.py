"""What a row may use to make its fault: servers that rows share, certificates, unique secrets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from secrets import token_hex
from typing import Any, TypeVar, cast

from testbed.certificates import Certificates
from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.postgresql import PostgreSQLOptions, PostgreSQLServer
from testbed.redis import RedisOptions, RedisServer

S = TypeVar("S", bound=AbstractContextManager[Any])


class Stage:
    """Keeps what rows share until the last one has run."""

    def __init__(self, certificates: Certificates, props: ExitStack) -> None:
        self.certificates = certificates
        self._props = props
        self._shared: dict[str, object] = {}

    def shared(self, name: str, make: Callable[[], S]) -> S:
        """Start a server when the first row asks for it by this name; it lasts for all."""
        if name not in self._shared:
            self._shared[name] = self._props.enter_context(make())
        return cast("S", self._shared[name])

    def secret(self) -> str:
        """Make a password that nothing else can hold, different in each of its spellings."""
        return f"cAnary-{token_hex(12)}@/%41+é"

    def redis(self) -> RedisServer:
        """Share a Redis with a password and sixteen databases."""
        return self.shared("redis", lambda: RedisServer(RedisOptions(password=token_hex(12))))

    def postgresql(self) -> PostgreSQLServer:
        """Share a PostgreSQL that demands SCRAM-SHA-256 of everybody."""
        options = PostgreSQLOptions(password=token_hex(12))
        return self.shared("postgresql", lambda: PostgreSQLServer(options))

    def mongodb(self) -> MongoDBServer:
        """Share a MongoDB that stands alone and demands credentials."""
        return self.shared("mongodb", lambda: MongoDBServer(MongoDBOptions(password=token_hex(12))))
