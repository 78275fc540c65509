"""Every check as the registry saw it: who was missed, who was checked twice, how even it is."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from uuid import UUID

from bench.servers import Registry

SLACK_SECONDS = 1.0
"""A check is noted when it ends, and one that fails may take longer than the one before."""
_INSTALL = """
create unlogged table public.bench_checks (database_id uuid, at timestamptz);
create function public.bench_note() returns trigger language plpgsql security definer as $f$
begin
  insert into public.bench_checks values (new.id, new.last_health_check_at);
  return null;
end $f$;
create trigger bench_note after update of last_health_check_at on platform.databases
  for each row execute function public.bench_note();
"""
Checks = Mapping[UUID, Sequence[float]]
"""POSIX timestamps of the checks of each database, the oldest first."""


class Journal:
    """A trigger in a registry of the benchmark's that notes every check."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def open(self) -> None:
        """Start noting, from an empty page."""
        async with self._registry.connected() as connection:
            if await connection.fetchval("select to_regclass('public.bench_checks')") is None:
                await connection.execute(_INSTALL)
            await connection.execute("truncate public.bench_checks")

    async def close(self) -> None:
        """Note nothing more, so that the registry costs what it costs."""
        async with self._registry.connected() as connection:
            await connection.execute("drop function public.bench_note() cascade")
            await connection.execute("drop table public.bench_checks")

    async def checked(self) -> int:
        """Count the databases that have been checked."""
        async with self._registry.connected() as connection:
            count: int = await connection.fetchval(
                "select count(distinct database_id) from public.bench_checks"
            )
            return count

    async def read(self) -> Checks:
        """Read all, with an empty list for each database that was never checked."""
        checks: defaultdict[UUID, list[float]] = defaultdict(list)
        async with self._registry.connected() as connection:
            rows = await connection.fetch(
                "select d.id, extract(epoch from c.at)::float8 as at from platform.databases d"
                " left join public.bench_checks c on c.database_id = d.id order by c.at"
            )
        for row in rows:
            checks[row["id"]] += [row["at"]] if row["at"] else []
        return checks


def missed(checks: Checks, longest: float, since: float, until: float) -> int:
    """Count the databases that were left alone for longer than so many seconds.

    The window is given in POSIX timestamps; a gap counts when it ends within or reaches beyond it.
    """
    longest += SLACK_SECONDS
    return sum(_longest_gap(moments, since, until) > longest for moments in checks.values())


def twice(
    checks: Checks, interval: float, since: float, until: float, slack: float = SLACK_SECONDS
) -> int:
    """Count the databases that were checked again within half of their interval, in seconds."""
    shortest = interval / 2 - slack
    return sum(
        any(gap < shortest for gap in _gaps(moments, since, until)) for moments in checks.values()
    )


def _gaps(moments: Sequence[float], since: float, until: float) -> list[float]:
    return [
        later - earlier for earlier, later in pairwise(moments) if later >= since and later <= until
    ]


def _longest_gap(moments: Sequence[float], since: float, until: float) -> float:
    last = max((moment for moment in moments if moment <= until), default=-math.inf)
    return max([*_gaps(moments, since, until), until - last])


def busiest_second(checks: Checks, since: float, until: float) -> float:
    """How many times the average second's checks the busiest one has."""
    moments = [at for row in checks.values() for at in row if since <= at < until]
    seconds = Counter(int(moment - since) for moment in moments)
    return max(seconds.values()) / (len(moments) / (until - since))
