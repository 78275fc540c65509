"""Each workaround for somebody else's fault is needed: without it, its row of the table fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from testbed.namespace import may_make_namespaces
from tests.faults.cell import run
from tests.faults.matrix import Way
from tests.faults.stage import Stage
from tests.faults.table import ROWS
from worker import dialing, errors
from worker.probes.drivers import postgresql as asyncpg_probe
from worker.probes.drivers import redis as redis_py_probe
from worker.resolver import Resolver
from worker.tls import build_context

Break = Callable[[pytest.MonkeyPatch], None]
as_root = pytest.mark.skipif(
    not may_make_namespaces(), reason="only root can move a running process into another network"
)


def let_redis_py_retry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redis_py_probe, "Retry", lambda *_: Retry(ExponentialBackoff(), 10))


def let_asyncpg_name_the_host(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(asyncpg_probe, "_context", build_context)


def believe_in_every_name(patch: pytest.MonkeyPatch) -> None:
    rules = tuple(rule for rule in errors.NETWORK_RULES if rule[0] is not UnicodeError)
    patch.setattr(errors, "NETWORK_RULES", rules)


def trust_our_resolver(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Resolver, "is_silent", lambda *_: False)


def take_several_faults_as_they_come(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dialing, "_weightiest", lambda error: error)


def wait_for_the_first_family(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dialing, "STAGGER_SECONDS", 60.0)


@pytest.mark.parametrize(
    ("row", "way", "undo"),
    [
        ("redis: nothing listens", Way.DRIVERS, let_redis_py_retry),
        ("postgresql: servername", Way.DRIVERS, let_asyncpg_name_the_host),
        ("postgresql: a name that cannot be", Way.DRIVERS, believe_in_every_name),
        ("redis: our resolver is silent", Way.WIRE, trust_our_resolver),
        pytest.param(
            "redis: one family without route, nothing listens",
            Way.WIRE,
            take_several_faults_as_they_come,
            marks=as_root,
        ),
        ("redis: a second family answers", Way.WIRE, wait_for_the_first_family),
    ],
)
async def test_a_row_fails_without_its_workaround(
    row: str, way: Way, undo: Break, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fault,) = (each for each in ROWS if str(each) == row)
    undo(monkeypatch)
    with pytest.raises(AssertionError):
        await run(fault, way, stage)
