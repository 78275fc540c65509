from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from testbed.worker import Worker, eventually, health, register


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_no_row_makes_the_worker_contact_its_own_registry(
    registry_url: str, start: Callable[..., Worker], host: str
) -> None:
    parts = urlsplit(registry_url)
    await register(registry_url, "postgresql", registry_url.replace(str(parts.hostname), host))
    start(ALLOWED_NETWORKS="127.0.0.1/32,::1/128")

    async def is_blocked() -> bool:
        status, error = (await health(registry_url))["postgresql"]
        return status == "unknown" and (error or "").startswith("blocked: ")

    await eventually(is_blocked, "a row that names the registry's own address is blocked")


async def test_a_registry_that_options_name_is_protected_too(
    registry_url: str, worker_url: str, start: Callable[..., Worker]
) -> None:
    parts = urlsplit(worker_url)
    place = f"host={parts.hostname}&port={parts.port}"
    await register(registry_url, "postgresql", registry_url)
    start(DATABASE_URL=f"postgresql://{parts.username}:{parts.password}@{parts.path}?{place}")

    async def is_blocked() -> bool:
        status, error = (await health(registry_url))["postgresql"]
        return status == "unknown" and (error or "").startswith("blocked: ")

    await eventually(is_blocked, "a row that names the registry's own address is blocked")
