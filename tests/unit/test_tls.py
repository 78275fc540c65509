"""TLS off the loop: whose sums are done where, and what is shared."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest

from testbed.certificates import Certificates
from testbed.fakes import Lines, make_row
from testbed.worker import eventually
from worker.addresses import AddressRules
from worker.check import Checker
from worker.errors import ProbeError
from worker.handshakes import DEAR_SECONDS, Handshakes
from worker.network import Network
from worker.plan import Host, TlsRules
from worker.probes.redis import RedisProbe
from worker.stopwatch import Stopwatch
from worker.tls import TlsSession, _certificates, build_context, count_certificates
from worker.words import Engine, Reason

ALLOWANCE_SECONDS = 0.05
"""Of the main thread's own CPU time, in which nobody else is served."""
DEAR_GROUP = "ffdhe8192"
USUAL_GROUP = "prime256v1"
"""The longest one of TLS 1.3; a handshake in it takes a client three times the allowance."""
ANY = TlsRules(verifies_chain=False, verifies_name=False)


class Steps(TlsSession):
    """A handshake whose steps take so many CPU seconds each."""

    def __init__(self, *steps: float) -> None:
        super().__init__(build_context(ANY), "localhost")
        self._steps = list(steps)
        self.threads = list[str]()
        """Where each step was taken."""

    def shake_hands(self, received: bytes) -> bool:
        self.threads.append(threading.current_thread().name)
        end = time.thread_time() + self._steps.pop(0)
        while time.thread_time() < end:
            pass
        return not self._steps


async def take(handshakes: Handshakes, host: Host, *steps: float) -> str:
    """Shake hands in these steps; tell which lane took the last."""
    await handshakes.begin(ANY, host)
    session = Steps(*steps)
    while not await handshakes.go_on(session, b"", host):
        pass
    return session.threads[-1].rpartition("_")[0]


@contextmanager
def listening(certificates: Certificates, group: str) -> Iterator[Host]:
    """Shake hands in one group only, each caller in a thread of its own."""
    context = certificates.good.server_context()
    try:
        context.set_ecdh_curve(group)
    except ssl.SSLError:  # some builds of Python 3.11 take only groups of elliptic curves
        pytest.skip(f"this Python serves no {group}")

    def serve(caller: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(caller, server_side=True) as secured:
            secured.recv(1)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],)).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield Host("127.0.0.1", server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


async def shake_hands(network: Network, host: Host) -> None:
    async with asyncio.timeout(20), network.connect(host, ANY, Stopwatch()):
        return


async def test_the_sums_that_a_server_chooses_are_not_done_on_the_loop(
    certificates: Certificates,
) -> None:
    network = Network(AddressRules.allow_everything())
    with listening(certificates, USUAL_GROUP) as host:
        await shake_hands(network, host)
    with listening(certificates, DEAR_GROUP) as host:
        before = time.thread_time()
        await shake_hands(network, host)
        assert time.thread_time() - before < ALLOWANCE_SECONDS


async def test_whoever_asked_for_much_waits_for_his_like_alone(certificates: Certificates) -> None:
    network = Network(AddressRules.allow_everything())
    with listening(certificates, DEAR_GROUP) as dear, listening(certificates, USUAL_GROUP) as usual:
        await shake_hands(network, dear)
        crowd = [asyncio.create_task(shake_hands(network, dear)) for _ in range(12)]
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        await shake_hands(network, usual)
        assert sum(task.done() for task in crowd) < len(crowd) / 2
        await asyncio.gather(*crowd)


async def test_authorities_are_read_once_and_off_the_loop_though_they_are_broken(
    certificates: Certificates,
) -> None:
    broken = certificates.ca.decode() * 200 + "-----BEGIN CERTIFICATE-----\nMII=\n"
    handshakes = Handshakes()
    loop, everything = time.thread_time(), time.process_time()
    for _ in range(30):
        with pytest.raises(ProbeError, match="no certificate in PEM form"):
            await handshakes.begin(TlsRules(ca=broken), Host("127.0.0.1", 1))
    assert time.thread_time() - loop < ALLOWANCE_SECONDS
    assert time.process_time() - everything < 10 * ALLOWANCE_SECONDS


def test_text_between_certificates_is_no_fault(certificates: Certificates) -> None:
    ca = certificates.ca.decode()
    context = build_context(TlsRules(ca=f"# one\n{ca}# the same\n{ca}# no more\n"))
    assert len(context.get_ca_certs()) == 1


async def test_no_server_is_taken_for_cheap_because_it_sends_a_byte_at_a_time() -> None:
    handshakes, host = Handshakes(), Host("dear.test", 1)
    assert await take(handshakes, host, 2 * DEAR_SECONDS) == "tls"
    assert await take(handshakes, host, *[0.0] * 100, 0.0) == "tls-dear"


async def test_a_server_that_was_dear_once_is_forgiven_with_its_handshakes() -> None:
    handshakes, host = Handshakes(), Host("busy.test", 1)
    await take(handshakes, host, 2 * DEAR_SECONDS)
    lanes = [await take(handshakes, host, 0.0) for _ in range(20)]
    assert (lanes[0], lanes[-1]) == ("tls-dear", "tls")


@pytest.mark.parametrize("label", ["CERTIFICATE", "X509 CERTIFICATE"])
def test_authorities_are_read_one_by_one_under_either_name_of_a_certificate(
    label: str, certificates: Certificates
) -> None:
    """In one text, 64 KB of them took the interpreter for 30 ms and more."""
    ca = certificates.ca.decode().replace(" CERTIFICATE-", f" {label}-")
    assert len(build_context(TlsRules(ca=ca)).get_ca_certs()) == 1
    pieces = _certificates(f"# five\n{ca * 5}# no more\n")
    assert [piece.count("BEGIN") for piece in pieces] == [1] * 5
    assert count_certificates(ca * 5) == 5


READ_AUTHORITIES = """
import sys
from worker.errors import ProbeError
from worker.plan import TlsRules
from worker.tls import build_context
try:
    build_context(TlsRules(ca=sys.argv[1]))
except ProbeError as fault:
    print(fault.reason)
"""


def test_an_encrypted_authority_makes_nobody_wait_for_a_pass_phrase(
    certificates: Certificates,
) -> None:
    begin = "-----BEGIN CERTIFICATE-----\n"
    headers = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{'00' * 16}\n\n"
    authorities = certificates.ca.decode().replace(begin, begin + headers)
    with subprocess.Popen(
        [sys.executable, "-c", READ_AUTHORITIES, authorities],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # without a terminal it waits for the standard input
    ) as reading:
        try:
            reading.wait(timeout=20)
        finally:
            reading.kill()
        assert reading.stdout is not None
        assert reading.stdout.read() == b"misconfigured\n"


async def nothing_is_kept() -> bool:
    return not any(isinstance(kept, TlsSession) for kept in gc.get_objects())


async def test_a_check_that_failed_in_tls_leaves_nothing_in_memory(
    certificates: Certificates,
) -> None:
    probe = RedisProbe(Network(AddressRules.allow_everything()))
    checker = Checker({Engine.REDIS: probe}, Lines(), deadline=20, default_interval=60)
    gc.collect()
    gc.disable()
    try:
        with listening(certificates, USUAL_GROUP) as host:
            url = f"rediss://{host.name}:{host.port}"
            row = replace(make_row(), connection_string=url)
            assert {(await checker.check(row)).reason for _ in range(5)} == {Reason.TLS}
        await eventually(nothing_is_kept, "the threads, too, let go of every session", within=5)
    finally:
        gc.enable()
