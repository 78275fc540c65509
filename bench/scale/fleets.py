"""Simulated fleets: many rows, few servers, some of them dead in various ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from bench.servers import Fleet
from testbed.misbehaving import MisbehavingServer, hang_up, mute, saying
from testbed.ports import free_port, release_port
from worker.words import Engine

Rows = list[Mapping[str, Any]]
SHARES = {Engine.REDIS: 0.45, Engine.MONGODB: 0.45, Engine.POSTGRESQL: 0.1}
DEAD_SHARE = 0.05
IMPATIENT = {"connectTimeout": 2000, "commandTimeout": 2000}


@contextmanager
def mixed(servers: Fleet, count: int, interval: int) -> Iterator[Rows]:
    """Make so many rows of every engine, one in twenty of them dead."""
    dead = round(count * DEAD_SHARE)
    alive = healthy(servers, count - dead, interval)
    with _graves(servers) as urls:
        config = {**IMPATIENT, "healthCheck": {"intervalSeconds": interval}}
        yield alive + [
            {"type": engine, "url": url, "config": config, "copies": dead // len(urls)}
            for engine, url in urls
        ]


def healthy(servers: Fleet, count: int, interval: int) -> Rows:
    """Make so many rows of every engine, all of them well."""
    config = {"healthCheck": {"intervalSeconds": interval}}
    return [
        {"type": engine, "url": servers.urls[engine], "config": config, "copies": copies}
        for engine, share in SHARES.items()
        if (copies := round(count * share))
    ]


@contextmanager
def _graves(servers: Fleet) -> Iterator[list[tuple[Engine, str]]]:
    """Keep what is dead: refused, wrong password, silent, closed at once, no database at all."""
    mongodb = urlsplit(servers.urls[Engine.MONGODB])
    nobody = free_port()
    with (
        MisbehavingServer(mute) as silent,
        MisbehavingServer(hang_up) as closing,
        MisbehavingServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", hang_up)) as stranger,
    ):
        yield [
            (Engine.REDIS, f"redis://:secret@127.0.0.1:{nobody}"),
            (Engine.MONGODB, f"mongodb://root:not-it@{mongodb.hostname}:{mongodb.port}/"),
            (Engine.REDIS, f"redis://:secret@127.0.0.1:{silent.port}"),
            (Engine.MONGODB, f"mongodb://root:secret@127.0.0.1:{closing.port}/"),
            (Engine.POSTGRESQL, f"postgresql://app:secret@127.0.0.1:{stranger.port}/app"),
        ]
    release_port(nobody)
