"""Clients that sit, crawl or shout harm neither the page nor the worker's descriptors."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse

import psutil
import pytest

from worker.exposition import Bounds, Exposition, Vitals, bind
from worker.watchdog import Pulse

BOUNDS = Bounds(connections=50, request_seconds=2.0)
GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


class Page:
    def __init__(self) -> None:
        self.body = b"answer 42.0\n"

    def __call__(self, accept: str) -> tuple[bytes, str]:
        return self.body, "text/plain"


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def server(page: Page) -> Iterator[Exposition]:
    listening = bind("127.0.0.1", 0)
    server = Exposition(listening, Vitals(page, Pulse(), lambda: True), BOUNDS)
    server.start()
    yield server
    server.stop()
    listening.close()


def ask(server: Exposition, request: bytes = GET) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(request)
        answer = HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read()


def held(server: Exposition) -> int:
    connections = psutil.Process().net_connections("tcp4")
    return sum(c.laddr.port == server.port and c.status == "ESTABLISHED" for c in connections)


@pytest.mark.parametrize("says", [b"", b"GET /metrics HTT"], ids=["idle", "slow"])
def test_a_thousand_connections_that_ask_nothing_keep_nobody_from_the_page(
    server: Exposition, says: bytes
) -> None:
    with ExitStack() as stack:
        for _ in range(1000):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            if says:
                client.sendall(says)
        assert ask(server) == (200, b"answer 42.0\n")
        assert held(server) <= BOUNDS.connections + 1
        wait_until_held_is(server, 0)


def test_a_client_that_never_takes_its_page_is_let_go(server: Exposition, page: Page) -> None:
    page.body = b"x" * 20_000_000  # much more than sockets buffer
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(GET)
        assert client.recv(1)
        wait_until_held_is(server, 0)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n", 405),
        (b"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"BREW /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"\x16\x03\x01\x00\xff\x01\x00\x00\xfb\r\n\r\n", 400),
    ],
    ids=[
        "long line",
        "long header",
        "endless body",
        "wrong method",
        "unknown method",
        "no page",
        "TLS",
    ],
)
def test_an_absurd_request_gets_its_code_and_no_line_in_the_log(
    server: Exposition, request_: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert ask(server, request_)[0] == code
        assert ask(server) == (200, b"answer 42.0\n")
    assert caplog.records == []


def wait_until_held_is(server: Exposition, count: int) -> None:
    end = time.monotonic() + 10 * BOUNDS.request_seconds
    while held(server) != count:
        assert time.monotonic() < end, f"{held(server)} connections are still held"
        time.sleep(0.05)
