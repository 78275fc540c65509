"""Threads shared by jobs of every cost: who goes first, and that everybody goes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from worker.lanes import Lane

CHEAP, DEAR = 0.001, 0.004


@contextmanager
def busy(lane: Lane) -> Iterator[None]:
    """Keep a lane's only thread from ending its job, so that all others queue."""
    gate = threading.Event()
    running = asyncio.create_task(lane.run(CHEAP, gate.wait))
    try:
        yield
    finally:
        gate.set()
    assert not running.cancelled()


async def served(lane: Lane, *jobs: Sequence[float]) -> Sequence[float]:
    """Let jobs of these costs come, each group a turn of the loop later; tell who went when."""
    order = list[float]()
    with busy(lane):
        await asyncio.sleep(0)
        running = [
            asyncio.create_task(lane.run(cost, order.append, cost))
            for group in jobs
            for cost in group
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    return order


async def test_a_cheap_job_does_not_wait_for_dear_ones_that_came_before() -> None:
    order = await served(Lane(1, "test"), [DEAR] * 20, [CHEAP] * 3)
    assert CHEAP not in order[4:]


async def test_a_dear_job_gets_its_turn_though_cheap_ones_never_stop_coming() -> None:
    lane, is_served, cheap = Lane(1, "test"), threading.Event(), 0

    async def go_on_and_on() -> None:
        nonlocal cheap
        while not is_served.is_set() and cheap < 1_000:
            await lane.run(CHEAP, lambda: None)
            cheap += 1

    with busy(lane):
        await asyncio.sleep(0)
        crowd = [asyncio.create_task(go_on_and_on()) for _ in range(5)]
        await asyncio.sleep(0)
        dear = asyncio.create_task(lane.run(DEAR, is_served.set))
        await asyncio.sleep(0)
    await asyncio.gather(dear, *crowd)
    assert cheap < 50


async def test_who_has_not_come_for_long_has_nothing_saved_up() -> None:
    lane = Lane(1, "test")
    await served(lane, [CHEAP] * 200)
    order = await served(lane, [CHEAP] * 100, [DEAR] * 100)
    assert order[:50].count(DEAR) in range(5, 25)


async def test_jobs_of_one_cost_go_in_the_order_of_their_coming() -> None:
    costs = [CHEAP * (1 + number / 100) for number in range(2, -1, -1)]
    assert await served(Lane(1, "test"), costs) == costs


async def test_whoever_is_cancelled_leaves_his_turn_to_the_next() -> None:
    lane, order = Lane(1, "test"), list[str]()
    with busy(lane):
        await asyncio.sleep(0)
        gone, stays = (
            asyncio.create_task(lane.run(CHEAP, order.append, name)) for name in ("gone", "stays")
        )
        await asyncio.sleep(0)
        gone.cancel()
    await stays
    assert order == ["stays"]


def work(seconds: float) -> None:
    """Take the CPU for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_a_class_whose_jobs_take_more_than_expected_pays_for_it() -> None:
    lane, order = Lane(1, "test"), list[str]()

    def lie() -> None:
        work(20 * DEAR)
        order.append("liar")

    with busy(lane):
        await asyncio.sleep(0)
        liars = [asyncio.create_task(lane.run(CHEAP, lie)) for _ in range(5)]
        honest = [asyncio.create_task(lane.run(DEAR, order.append, "honest")) for _ in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*honest)
    assert order.count("liar") < 3
    await asyncio.gather(*liars)


async def test_a_job_that_nobody_waits_for_any_more_is_paid_for_all_the_same() -> None:
    lane, order, begun = Lane(1, "test"), list[str](), threading.Event()

    def lie() -> None:
        begun.set()
        work(20 * DEAR)

    with busy(lane):
        await asyncio.sleep(0)
        liar = asyncio.create_task(lane.run(CHEAP, lie))
        await asyncio.sleep(0)
    await asyncio.to_thread(begun.wait)
    liar.cancel()
    jobs = [(CHEAP, "liar's like")] * 5 + [(DEAR, "honest")] * 5
    await asyncio.gather(*(lane.run(cost, order.append, name) for cost, name in jobs))
    assert "honest" not in order[-5:]
    assert liar.cancelled()


async def test_a_job_tells_what_cpu_time_it_took() -> None:
    _, seconds = await Lane(1, "test").run(CHEAP, work, DEAR)
    assert DEAR <= seconds < 2 * DEAR
