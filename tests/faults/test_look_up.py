"""Names as the machine's own resolver sees them: what the libraries cannot be given otherwise.

A whole `probe` runs in a network of our own whose resolv.conf names a nameserver of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.faulty_nameserver import FaultyNameserver
from testbed.namespace import Namespace, may_make_namespaces, with_resolv_conf
from testbed.programs import clean_environment

DNS_HOST, DNS_PORT = "127.0.0.1", 53
CONFIG = {
    "connectTimeout": 700,
    "commandTimeout": 300,
    "serverSelectionTimeoutMS": 700,
    "retryStrategy": {"maxAttempts": 1},
}

pytestmark = pytest.mark.skipif(
    not may_make_namespaces(), reason="only root can lay another resolv.conf over this machine's"
)
each_way = pytest.mark.parametrize(
    ("engine", "way"), [("redis", "wire"), ("redis", "drivers"), ("postgresql", "drivers")]
)


def probe(url: str, way: str, folder: Path, *, is_silent: bool = False) -> str:
    """Ask as `health-worker probe` does, in the other network."""
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {DNS_HOST}\noptions timeout:2 attempts:1\n")
    ask = [sys.executable, "-m", "worker", "probe", url, "--config", json.dumps(CONFIG), "--json"]
    with (
        Namespace() as network,
        network.entered(),
        FaultyNameserver(host=DNS_HOST, port=DNS_PORT, is_silent=is_silent),
    ):
        done = subprocess.run(
            [*with_resolv_conf(resolv), *ask],
            stdout=subprocess.PIPE,
            check=False,  # it ends with 1 where the answer is no
            env=clean_environment(PROBES=way),
        )
    return str(json.loads(done.stdout)["reason"])


@each_way
def test_an_unknown_host_is_dns(engine: str, way: str, tmp_path: Path) -> None:
    assert probe(f"{engine}://user@nowhere.test/0", way, tmp_path) == "dns"


@each_way
def test_a_look_up_that_hangs_is_dns(engine: str, way: str, tmp_path: Path) -> None:
    # The libraries give no sign of what they were doing when their time was over.
    expected = "dns" if way == "wire" else "timeout"
    assert probe(f"{engine}://user@hangs.test/0", way, tmp_path) == expected


def test_a_silent_resolver_of_ours_is_internal(tmp_path: Path) -> None:
    assert probe("redis://database.test", "wire", tmp_path, is_silent=True) == "internal"
