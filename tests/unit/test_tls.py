"""TLS off the loop: whose sums are done where, and what is shared."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from testbed.certificates import Certificates
from worker.addresses import AddressRules
from worker.network import Network
from worker.plan import Host, TlsRules
from worker.stopwatch import Stopwatch
from worker.tls import make_context

ALLOWANCE_SECONDS = 0.05
"""Of the main thread's own CPU time, in which nobody else is served."""
DEAR_GROUP = "ffdhe8192"
"""The longest one of TLS 1.3; a handshake in it takes a client three times the allowance."""
ANY = TlsRules(verifies_chain=False, verifies_name=False)


@contextmanager
def listening(certificates: Certificates, group: str) -> Iterator[Host]:
    """Shake hands in one group only, each caller in a thread of its own."""
    context = certificates.good.server_context()
    context.set_ecdh_curve(group)

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
    with listening(certificates, "prime256v1") as host:
        await shake_hands(network, host)
    with listening(certificates, DEAR_GROUP) as host:
        before = time.thread_time()
        await shake_hands(network, host)
        assert time.thread_time() - before < ALLOWANCE_SECONDS


async def test_whoever_asked_for_much_waits_for_his_like_alone(certificates: Certificates) -> None:
    network = Network(AddressRules.allow_everything())
    with listening(certificates, DEAR_GROUP) as dear, listening(certificates, "X25519") as usual:
        await shake_hands(network, dear)
        crowd = [asyncio.create_task(shake_hands(network, dear)) for _ in range(12)]
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        await shake_hands(network, usual)
        assert sum(task.done() for task in crowd) < len(crowd) / 2
        await asyncio.gather(*crowd)


def test_one_context_serves_all_names_with_the_same_authorities() -> None:
    names = [TlsRules(servername=f"db{number}.test") for number in range(3)]
    assert len({make_context(rules) for rules in (*names, TlsRules())}) == 1
    assert make_context(TlsRules()) is not make_context(ANY)
    assert make_context(ANY).verify_mode is ssl.CERT_NONE
