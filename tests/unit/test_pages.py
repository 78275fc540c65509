"""The page of series, as clients of every kind meet it on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException, HTTPResponse

import psutil
import pytest

from worker.exposition import Exposition, Vitals, bind
from worker.pages import MAX_OLDER_PAGES, OPENMETRICS
from worker.watchdog import Pulse

GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = b"x" * 20_000_000  # much more than sockets buffer
READERS = 40
WITHIN_SECONDS = 5.0


class Page:
    """Shows what it was when it was begun, and is made no faster than it may."""

    def __init__(self) -> None:
        self.body = b"first"
        self.fault: Exception | None = None
        self.made = 0
        self.is_begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, accept: str) -> tuple[bytes, str]:
        self.made += 1
        body = self.body
        self.is_begun.set()
        self.may_end.wait()
        if self.fault:
            raise self.fault
        return body, accept or "text/plain"


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.may_end.set()


@pytest.fixture
def server(page: Page) -> Iterator[Exposition]:
    with closing(bind("127.0.0.1", 0)) as listening:
        server = Exposition(listening, Vitals(page, Pulse(), lambda: True))
        server.start()
        yield server
        page.may_end.set()
        if server._thread.is_alive():
            server.stop()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * READERS) as clients:
        yield clients


def call(server: Exposition) -> socket.socket:
    """Ask for the page and leave it to the caller to read it."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_SECONDS)
    client.sendall(GET)
    return client


def read(client: socket.socket) -> bytes:
    answer = HTTPResponse(client)
    answer.begin()
    return answer.read()


def get(server: Exposition, path: str = "/metrics", accept: str = "") -> tuple[int, bytes, str]:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_SECONDS)) as connection:
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["Content-Type"]


def connections(server: Exposition) -> int:
    held = psutil.Process().net_connections("tcp4")
    return sum(c.laddr.port == server.port and c.status == "ESTABLISHED" for c in held)


def wait_for_connections(server: Exposition, count: int) -> None:
    end = time.monotonic() + WITHIN_SECONDS
    while connections(server) != count:
        assert time.monotonic() < end, f"{connections(server)} connections are held"
        time.sleep(0.01)


def test_the_other_pages_answer_while_a_page_is_made(
    server: Exposition, page: Page, clients: ThreadPoolExecutor
) -> None:
    page.may_end.clear()
    waiting = clients.submit(get, server)
    page.is_begun.wait()
    assert get(server, "/healthz")[0] == 200
    assert get(server, "/readyz")[0] == 200
    assert not waiting.done()
    page.may_end.set()
    assert waiting.result()[:2] == (200, b"first")


def test_who_asks_while_a_page_is_made_shares_the_next_one_and_sees_what_has_changed(
    server: Exposition, page: Page
) -> None:
    page.may_end.clear()
    with ExitStack() as stack:
        early = stack.enter_context(call(server))
        page.is_begun.wait()
        page.body = b"changed"
        late = [stack.enter_context(call(server)) for _ in range(READERS)]
        assert get(server, "/healthz")[0] == 200  # so all those before it have been heard
        page.may_end.set()
        assert read(early) == b"first"
        assert {read(client) for client in late} == {b"changed"}
    assert page.made == 2


def test_everybody_gets_the_format_he_asks_for(
    server: Exposition, page: Page, clients: ThreadPoolExecutor
) -> None:
    asked = [f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5", "text/plain", "", "*/*"] * 5
    told = clients.map(lambda accept: get(server, accept=accept)[2], asked)
    assert list(told) == [OPENMETRICS, "text/plain", "text/plain", "text/plain"] * 5


def test_clients_that_do_not_read_cost_next_to_no_memory(server: Exposition, page: Page) -> None:
    page.body = LARGE
    page.may_end.clear()
    with ExitStack() as stack:
        readers = [stack.enter_context(call(server)) for _ in range(READERS)]
        before = psutil.Process().memory_info().rss
        page.may_end.set()
        for reader in readers:
            assert reader.recv(1)
        assert psutil.Process().memory_info().rss - before < len(LARGE)


def test_only_the_newest_pages_are_kept_for_clients_that_do_not_read(
    server: Exposition, page: Page
) -> None:
    page.body = LARGE
    with ExitStack() as stack:
        readers = []
        for _ in range(MAX_OLDER_PAGES + 2):
            readers.append(stack.enter_context(call(server)))
            assert readers[-1].recv(1, socket.MSG_PEEK)
        with pytest.raises((HTTPException, ConnectionError)):
            read(readers[0])
        assert {read(reader) for reader in readers[1:]} == {LARGE}


def test_a_connection_lives_on_after_a_large_page(server: Exposition, page: Page) -> None:
    page.body = LARGE
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=WITHIN_SECONDS)) as connection:
        connection.connect()
        first = connection.sock
        for method, expected in (("GET", LARGE), ("HEAD", b""), ("GET", LARGE)):
            connection.request(method, "/metrics")
            answer = connection.getresponse()
            assert answer.headers["Content-Length"] == str(len(LARGE))
            assert answer.read() == expected
            assert connection.sock is first


def test_a_client_of_http_1_0_gets_the_whole_page_and_its_end(
    server: Exposition, page: Page
) -> None:
    page.body = LARGE
    with socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert body == LARGE


def test_a_page_that_cannot_be_made_is_500_with_its_traceback_in_the_log_and_the_next_one_is_made(
    server: Exposition, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    page.fault = ZeroDivisionError("a fault of ours")
    assert get(server)[0] == 500
    assert [record.exc_info is not None for record in caplog.records] == [True]
    page.fault = None
    assert get(server)[:2] == (200, b"first")


def test_clients_that_leave_leave_no_line_in_the_log(
    server: Exposition, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    page.body = LARGE
    with call(server) as client:
        assert client.recv(1)
    page.is_begun.clear()
    page.may_end.clear()
    with call(server):
        page.is_begun.wait()
    wait_for_connections(server, 0)
    page.may_end.set()
    assert get(server)[:2] == (200, LARGE)
    assert caplog.records == []


def test_it_stops_at_once_while_a_page_is_made(server: Exposition, page: Page) -> None:
    page.may_end.clear()
    with call(server):
        page.is_begun.wait()
        assert seconds_to_stop(server) < 2


def test_it_stops_at_once_while_a_page_is_sent(server: Exposition, page: Page) -> None:
    page.body = LARGE
    with call(server) as client:
        assert client.recv(1)
        assert seconds_to_stop(server) < 2


def seconds_to_stop(server: Exposition) -> float:
    asked = time.monotonic()
    server.stop()
    return time.monotonic() - asked
