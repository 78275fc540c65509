"""The stage that every row of the table of faults is made on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from testbed.certificates import Certificates
from tests.faults.stage import Stage

pytest.register_assert_rewrite("tests.faults.cell")


@pytest.fixture(scope="session")
def stage(certificates: Certificates) -> Iterator[Stage]:
    with ExitStack() as props:
        yield Stage(certificates, props)
