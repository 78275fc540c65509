"""The stage that every row of the table of faults is made on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
import uvloop

from testbed.certificates import Certificates
from tests.faults.stage import Stage

pytest.register_assert_rewrite("tests.faults.cell")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that the worker runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def stage(certificates: Certificates) -> Iterator[Stage]:
    with ExitStack() as props:
        yield Stage(certificates, props)
