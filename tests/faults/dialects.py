"""What the generic rows must know of an engine: how to write a URL, and where a talk stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from tests.faults.stage import Stage
from worker.words import Engine

CONNECT_SECONDS = 0.5
COMMAND_SECONDS = 0.4
QUICK: Mapping[str, object] = {
    "connectTimeout": int(CONNECT_SECONDS * 1000),
    "commandTimeout": int(COMMAND_SECONDS * 1000),
}
"""For what only time ends."""
PATIENT: Mapping[str, object] = {"connectTimeout": 3_000, "commandTimeout": 3_000}
"""For what ends by itself, on a busy machine, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One engine, as far as a fault on a socket is concerned."""

    engine: Engine
    config: Mapping[str, object]
    """For what only time ends."""
    patient: Mapping[str, object]
    """For what ends by itself."""
    connect_seconds: float
    """When an attempt must have ended that never got as far as a ping."""
    template: str
    """A URL with places for `secret` and `place`."""
    tls_template: str
    sign_in: Callable[[Stage], tuple[int, str, str]]
    """Share a real server: its port, a URL's template that lets one in, and the secret."""
    heard_before_sign_in: int
    """Messages of ours before the one that proves who we are."""
    heard_before_ping: int
    welcome: bytes
    """The answer to our first message."""
    flood: tuple[bytes, bytes]
    """How an answer without end begins, and goes on."""
    huge: bytes
    """An answer that declares 2 GB."""

    def url(self, secret: str, host: str, port: int, *, tls: bool = False) -> str:
        """Write a connection string with this password."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        template = self.tls_template if tls else self.template
        return template.format(secret=quote(secret, safe=""), place=place)


def _redis(stage: Stage) -> tuple[int, str, str]:
    server = stage.redis()
    return server.port, "redis://:{secret}@{place}", server.options.password or ""


def _postgresql(stage: Stage) -> tuple[int, str, str]:
    server = stage.postgresql()
    return server.port, "postgresql://postgres:{secret}@{place}/postgres", server.options.password


REDIS = Dialect(
    engine=Engine.REDIS,
    config=QUICK,
    patient=PATIENT,
    connect_seconds=CONNECT_SECONDS,
    template="redis://:{secret}@{place}",
    tls_template="rediss://:{secret}@{place}",
    sign_in=_redis,
    heard_before_sign_in=0,
    heard_before_ping=1,
    welcome=b"+OK\r\n",
    flood=(b"+", b"x"),
    huge=b"$2147483647\r\n",
)
POSTGRESQL = Dialect(
    engine=Engine.POSTGRESQL,
    config=QUICK,
    patient=PATIENT,
    connect_seconds=CONNECT_SECONDS,
    template="postgresql://postgres:{secret}@{place}/postgres",
    tls_template="postgresql://postgres:{secret}@{place}/postgres?sslmode=verify-full",
    sign_in=_postgresql,
    heard_before_sign_in=1,
    heard_before_ping=3,
    welcome=b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
    flood=(b"", b"N\0\0\0\x10SNOTICE\0Mx\0\0"),
    huge=b"R\x7f\xff\xff\xff\0\0\0\x0a",
)
