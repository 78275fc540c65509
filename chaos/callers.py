"""A thousand clients at the worker's HTTP server that sit or crawl."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from chaos.finding import Finding, Losses, percentile
from chaos.ground import INTERVAL_SECONDS, Rows, Witness, fill, settled, watching
from testbed.redis import RedisServer
from testbed.registry import RegistryServer
from testbed.worker import Worker

LATENESS_BOUND_SECONDS = 1.0
SCRAPE_BOUND_SECONDS = 5.0
"""Half of what Prometheus waits for by default."""
DESCRIPTORS_BOUND = 300
"""Slots, connections of the HTTP server, and what the process has anyway."""


async def callers(clients: int, rows: int, folder: Path) -> Finding:
    """Let half of the clients say nothing and half begin a request, and scrape beside them."""
    losses = Losses()
    with ExitStack() as stack:
        registry = stack.enter_context(RegistryServer())
        server = stack.enter_context(RedisServer())
        await fill(registry.url(), Rows("good", "redis", server.url(), rows))
        worker = stack.enter_context(Worker(registry.worker_url, folder))
        process = psutil.Process(worker.process.pid)
        scrapes, descriptors = [], 0
        async with watching(Witness()) as witness:
            witness.follow(worker)
            await settled(witness, rows)
            began = time.monotonic()
            for number in range(clients):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", worker.port)))
                if number % 2:
                    client.sendall(b"GET /metrics HTT")
            while time.monotonic() - began < 2 * INTERVAL_SECONDS:
                asked = time.monotonic()
                await asyncio.to_thread(worker.page, "/metrics")
                scrapes.append(time.monotonic() - asked)
                descriptors = max(descriptors, process.num_fds())
                await asyncio.sleep(0.2)
    late = percentile((c.lateness for c in witness.checks if c.moment > began), 99)
    slowest = max(scrapes)
    losses.expect(f"/metrics answers ({slowest:.2f} s)", holds=slowest < SCRAPE_BOUND_SECONDS)
    losses.expect(f"checks are on time ({late:.2f} s)", holds=late < LATENESS_BOUND_SECONDS)
    losses.expect(f"descriptors are bounded ({descriptors})", holds=descriptors < DESCRIPTORS_BOUND)
    figures = {"slowest scrape": slowest, "lateness p99": late, "descriptors": descriptors}
    return Finding(f"{clients} clients that sit or crawl", figures, losses.found)
