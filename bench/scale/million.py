"""A registry of a million rows: what a claim and a record take, and whether it stays in shape."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median, quantiles
from typing import Any

from bench import aims
from bench.metering import starting
from bench.servers import Fleet, Registry
from bench.table import Report, Row
from worker.words import Engine

ROWS = 1_000_000
IN_TURN = 20_000
"""Rows that are checked over and over; the others are due in a year."""
ROUNDS = 20
BATCH = 500
CALL_AIM = 30.0
"""Milliseconds."""
WORKER_SECONDS = 40.0
"""Long enough for two of the worker's refreshes."""
WHAT = f"registry of {ROWS:,} rows"
TABLES = ("databases", "database_schedules", "database_health_changes")
# What the triggers would do row by row. Every row has a ciphertext of its own: of equal ones
# PostgreSQL may decrypt one for all.
_FILL = """
set session_replication_role = replica;
with one as materialized (
  select *, platform.open_connection_string(project_id, connection_string_encrypted) as clear
  from platform.databases)
insert into platform.databases (project_id, name, type, connection_string,
  connection_string_encrypted, config, health_check_status, last_health_check_at)
select project_id, 'redis ' || i, type, connection_string,
  platform.seal_connection_string(project_id, clear), config, 'healthy', now()
from one, generate_series(2, {rows}) i;
insert into platform.database_schedules (database_id, due_at, spread, interval_seconds, last_reason)
select id, now() + interval '1 year', false, 3600, 'ok' from platform.databases
on conflict (database_id) do update set due_at = excluded.due_at, spread = false;
reset session_replication_role;
update platform.database_schedules set due_at = now() - random() * interval '10 s'
where database_id in (select id from platform.databases order by id limit {in_turn});
"""
_CLAIM = "select * from platform.claim_databases($1, $1, '1 day', '45 s')"
_RECORD = "select * from platform.record_check_results($1)"
_TEND = "select * from platform.tend_database_schedules(null, 500, '45 s', now())"


@dataclass(slots=True)
class _Times:
    """Seconds of every call."""

    claims: list[float] = field(default_factory=list)
    records: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What PostgreSQL counts of the tables."""

    bytes: int
    wal: float
    """Bytes written to the log of changes since the server was made."""
    updates: int
    hot_updates: int
    scans: int


def measure(servers: Fleet, registry: Registry, report: Report) -> None:
    """Fill it, go round in it, then let a worker work on it."""
    asyncio.run(_fill(servers, registry))
    times = asyncio.run(_go_round(registry, 2))
    before = asyncio.run(_shape(registry))
    later = asyncio.run(_go_round(registry, ROUNDS))
    after = asyncio.run(_shape(registry))
    for name, calls in (
        ("claim", times.claims + later.claims),
        ("record", times.records + later.records),
    ):
        p99 = f"p99 {quantiles(calls, n=100)[-1] * 1e3:.0f} ms"
        note = ", ".join(filter(None, (p99, aims.here(report, Engine.POSTGRESQL, CALL_AIM))))
        what = f"{WHAT}: {name} of {BATCH}, median"
        report.add(Row(what, median(calls) * 1e3, "ms", CALL_AIM, note))
    hot = (after.hot_updates - before.hot_updates) / (after.updates - before.updates) * 100
    growth = (after.bytes / before.bytes - 1) * 100
    note = f"{after.bytes / 2**20:,.0f} MB"
    wal = (after.wal - before.wal) / (ROUNDS * IN_TURN)
    report.add(
        Row(f"{WHAT}: writes to platform.databases that are not HOT", 100 - hot, "%", 5.0),
        Row(f"{WHAT}: growth of tables and indexes, {ROUNDS} rounds", growth, "%", 3.0, note),
        Row(f"{WHAT}: log of changes a check", wal, "bytes", note="without full page images"),
    )
    _let_a_worker_work(registry, report)


async def _fill(servers: Fleet, registry: Registry) -> None:
    await registry.empty()
    await registry.fill(
        [{"type": Engine.REDIS, "url": servers.urls[Engine.REDIS], "config": {}, "copies": 1}]
    )
    async with registry.connected() as connection:
        await connection.execute("alter system set autovacuum_naptime = '5s'")
        await connection.execute("select pg_reload_conf()")
        await connection.execute(_FILL.format(rows=ROWS, in_turn=IN_TURN), timeout=600)
        await connection.execute("vacuum analyze", timeout=600)


async def _go_round(registry: Registry, rounds: int) -> _Times:
    times = _Times()
    async with registry.connected() as connection:
        for _ in range(rounds * IN_TURN // BATCH):
            began = time.perf_counter()
            rows = await connection.fetch(_CLAIM, BATCH)
            claimed = time.perf_counter()
            results = json.dumps([_result(row) for row in rows])
            answered = time.perf_counter()
            await connection.fetch(_RECORD, results)
            times.claims.append(claimed - began)
            times.records.append(time.perf_counter() - answered)
            await connection.fetch(_TEND)
    return times


def _result(row: Mapping[str, Any]) -> Mapping[str, object]:
    return {
        "database_id": str(row["id"]),
        "revision": row["revision"],
        "slot": row["slot"].isoformat(),
        "leased_until": row["leased_until"].isoformat(),
        "started_at": row["claimed_at"].isoformat(),
        "checked_at": (row["claimed_at"] + timedelta(milliseconds=1)).isoformat(),
        "status": "healthy",
        "reason": "ok",
        "error": None,
        "latency_seconds": 0.001,
        "interval_seconds": 3600,
    }


async def _shape(registry: Registry) -> _Shape:
    await asyncio.sleep(2)  # what a session has counted shows up to a second later
    async with registry.connected() as connection:
        sizes: Sequence[int] = [
            await connection.fetchval(
                "select pg_total_relation_size($1::regclass)", f"platform.{t}"
            )
            for t in TABLES
        ]
        rows = await connection.fetch(
            "select relname, seq_scan, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables"
            " where schemaname = 'platform' and relname = any ($1)",
            TABLES,
        )
        wal = await connection.fetchval("select pg_current_wal_lsn() - '0/0'::pg_lsn")
    writes = next(row for row in rows if row["relname"] == "databases")
    return _Shape(
        sum(sizes),
        float(wal),
        writes["n_tup_upd"],
        writes["n_tup_hot_upd"],
        sum(row["seq_scan"] for row in rows),
    )


def _let_a_worker_work(registry: Registry, report: Report) -> None:
    asyncio.run(_make_due(registry))
    before = asyncio.run(_shape(registry))
    with starting(registry.worker_url) as start:
        worker = start()
        time.sleep(WORKER_SECONDS)
        overdue = next(
            float(line.split()[1])
            for line in worker.page("/metrics").splitlines()
            if line.startswith("database_health_overdue_databases ")
        )
        size = len(worker.page("/metrics")) / 1024
    after = asyncio.run(_shape(registry))
    note = f"{overdue:,.0f} overdue, a page of metrics has {size:.0f} KB"
    report.add(
        Row(f"{WHAT}, a worker at work: sequential scans", after.scans - before.scans, "", 0, note)
    )


async def _make_due(registry: Registry) -> None:
    """Make rows due over the next forty seconds."""
    async with registry.connected() as connection:
        await connection.execute(
            "update platform.database_schedules set due_at = now() + random() * interval '40 s'"
            " where database_id in (select database_id from platform.database_schedules"
            "  where due_at < now() + interval '1 day' limit $1)",
            IN_TURN // 4,
        )
