"""Contexts of TLS: who shares one, who waits for one, and how many are kept."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed.certificates import Certificates
from worker.contexts import MAX_CHARACTERS, MAX_CONTEXTS, Contexts
from worker.lanes import Lane
from worker.plan import MAX_CA_CHARACTERS, TlsRules
from worker.tls import build_context

SYSTEM = TlsRules()
ANY = TlsRules(verifies_chain=False, verifies_name=False)
LONG = 20
"""Seconds after which somebody waits for ever."""


def rules_of(certificates: Certificates, number: int = 0, size: int = 0) -> TlsRules:
    """Make rules with authorities of their own, of so many characters at least."""
    return TlsRules(ca=f"# {number}\n{'#' * size}\n{certificates.ca.decode()}")


@contextmanager
def busy(lane: Lane) -> Iterator[None]:
    """Keep the only thread of a lane, so that all others queue."""
    gate = threading.Event()
    running = asyncio.create_task(lane.run(1, gate.wait))
    try:
        yield
    finally:
        gate.set()
    assert not running.cancelled()


async def test_one_context_serves_all_names_with_the_same_authorities() -> None:
    contexts = Contexts()
    names = [TlsRules(servername=f"db{number}.test") for number in range(3)]
    assert len({await contexts.get(rules) for rules in (*names, SYSTEM)}) == 1
    assert await contexts.get(SYSTEM) is not await contexts.get(ANY)
    assert (await contexts.get(ANY)).verify_mode is ssl.CERT_NONE


async def test_who_wants_a_context_at_the_same_time_waits_for_the_same() -> None:
    contexts = Contexts()
    assert len(set(await asyncio.gather(*(contexts.get(SYSTEM) for _ in range(5))))) == 1


async def test_the_systems_authorities_do_not_wait_for_those_of_rows(
    certificates: Certificates,
) -> None:
    contexts = Contexts()
    with busy(contexts._of_rows):
        await asyncio.sleep(0)
        waits = asyncio.create_task(contexts.get(rules_of(certificates)))
        async with asyncio.timeout(LONG):
            await contexts.get(SYSTEM)
        assert not waits.done()
    await waits


async def test_no_row_throws_out_the_systems_authorities(certificates: Certificates) -> None:
    contexts = Contexts()
    before = await contexts.get(SYSTEM), await contexts.get(ANY)
    for number in range(MAX_CONTEXTS + 1):
        await contexts.get(rules_of(certificates, number))
    assert before == (await contexts.get(SYSTEM), await contexts.get(ANY))


async def test_of_authorities_so_many_characters_are_kept(certificates: Certificates) -> None:
    contexts = Contexts()
    size = MAX_CA_CHARACTERS // 2
    for number in range(2 * MAX_CHARACTERS // size):
        await contexts.get(rules_of(certificates, number, size))
    kept = [len(rules.ca or "") for rules in contexts._kept]
    assert MAX_CHARACTERS - 2 * size < sum(kept) <= MAX_CHARACTERS
    assert contexts._characters == sum(kept)


async def test_the_authorities_in_use_are_kept_and_others_thrown_out(
    certificates: Certificates,
) -> None:
    contexts, used = Contexts(), rules_of(certificates)
    context = await contexts.get(used)
    for number in range(1, 2 * MAX_CONTEXTS):
        await contexts.get(TlsRules(ca=f"# {number}\n{certificates.ca.decode()}"))
        assert await contexts.get(used) is context
    assert len(contexts._kept) == MAX_CONTEXTS


async def test_a_context_that_nobody_waits_for_any_more_is_not_made(
    certificates: Certificates,
) -> None:
    contexts, rules = Contexts(), rules_of(certificates)
    with busy(contexts._of_rows):
        await asyncio.sleep(0)
        gone = [asyncio.create_task(contexts.get(rules)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        assert not contexts._making
        late = asyncio.create_task(contexts.get(rules_of(certificates, 1)))
    await late
    assert list(contexts._kept) == [rules_of(certificates, 1)]


async def test_who_comes_after_the_last_has_gone_gets_a_context(
    certificates: Certificates,
) -> None:
    contexts, rules = Contexts(), rules_of(certificates)
    with busy(contexts._of_rows):
        await asyncio.sleep(0)
        gone = asyncio.create_task(contexts.get(rules))
        await asyncio.sleep(0)
        gone.cancel()
        stays = asyncio.create_task(contexts.get(rules))
        await asyncio.wait([gone])
    assert (await stays).get_ca_certs()


async def test_who_leaves_takes_the_context_from_nobody(certificates: Certificates) -> None:
    contexts, rules = Contexts(), rules_of(certificates)
    with busy(contexts._of_rows):
        await asyncio.sleep(0)
        gone, stays = (asyncio.create_task(contexts.get(rules)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
    assert (await stays).get_ca_certs()


async def test_what_is_being_made_is_kept_though_everybody_has_gone(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a row that is less patient than its authorities are long would never be checked."""
    contexts, rules = Contexts(), rules_of(certificates)
    begun, gate = threading.Event(), threading.Event()

    def build_at_leisure(rules: TlsRules) -> ssl.SSLContext:
        begun.set()
        gate.wait(LONG)
        return build_context(rules)

    monkeypatch.setattr("worker.contexts.build_context", build_at_leisure)
    gone = asyncio.create_task(contexts.get(rules))
    await asyncio.to_thread(begun.wait, LONG)
    gone.cancel()
    await asyncio.wait([gone])
    (_, task), *_ = contexts._making.values()
    gate.set()
    assert await contexts.get(rules) is await task
    assert gone.cancelled()


async def test_whom_nobody_verifies_costs_no_authorities() -> None:
    assert not (await Contexts().get(ANY)).cert_store_stats()["x509"]
