"""What `run` does not need, it does not load: a worker starts within a second."""

from __future__ import annotations

import subprocess
import sys

NEEDLESS = {"pymongo", "motor", "redis", "rich", "pygments"}


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    words = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    return {name.partition(".")[0] for name in words.decode().split()}


def test_a_start_loads_neither_the_drivers_nor_what_prints_tables() -> None:
    assert not NEEDLESS & loaded_by("import worker.cli")


def test_what_a_start_does_without_can_be_loaded_afterwards() -> None:
    assert {"rich", "structlog"} <= loaded_by("import worker.cli; import worker.tables")


def test_garbage_is_collected_once_everything_is_loaded() -> None:
    program = """
import gc
from worker import __main__, cli
cli.main = lambda: print(gc.isenabled())
__main__.main()
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert told.split() == [b"True"]
