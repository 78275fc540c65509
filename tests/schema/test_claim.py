"""Who is due, who is leased, and who waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

LEASE = timedelta(seconds=45)
Add = Callable[..., Awaitable[UUID]]
Rows = Callable[..., Awaitable[list[Any]]]
Due = Callable[..., Awaitable[None]]
Read = Callable[[UUID], Awaitable[Any]]


async def test_a_registered_database_is_due_at_once_and_claimed_with_its_secret(
    add: Add, claim: Rows, schedule: Read
) -> None:
    database = await add(name="n", connection_string="redis://:s@h", config='{"db": 1}')
    (row,) = await claim()
    assert (row["id"], row["name"], row["engine"]) == (database, "n", "redis")
    assert (row["connection_string"], row["is_decrypted"]) == ("redis://:s@h", True)
    assert (row["config"], row["status"]) == ('{"db": 1}', "unknown")
    assert row["leased_until"] == row["claimed_at"] + LEASE
    assert (await schedule(database))["due_at"] == row["leased_until"]


async def test_a_leased_database_is_not_claimed_until_its_lease_is_over(
    owner: Any, add: Add, claim: Rows
) -> None:
    await add()
    assert len(await claim()) == 1
    assert await claim() == []
    await owner.execute(
        "update platform.database_schedules"
        " set due_at = now() - interval '1 us', leased_until = now() - interval '1 us'"
    )
    assert len(await claim()) == 1


async def test_what_is_due_within_the_coming_tick_is_claimed_and_nothing_later(
    add: Add, claim: Rows, due: Due
) -> None:
    soon, later = await add(), await add()
    await due(soon, -0.5)
    await due(later, -30)
    (row,) = await claim(horizon=1)
    assert row["id"] == soon
    assert row["slot"] > row["claimed_at"]


async def test_the_most_overdue_go_first(add: Add, claim: Rows, due: Due) -> None:
    databases = [await add() for _ in range(6)]
    for number, database in enumerate(databases):
        await due(database, 100 - number)
    assert [row["id"] for row in await claim(slots=4)] == databases[:4]
    assert [row["id"] for row in await claim(slots=4)] == databases[4:]


@pytest.mark.parametrize("time", ["-infinity", "0044-03-15 12:00 BC", "1066-10-14"])
async def test_a_database_that_is_due_since_time_out_of_mind_is_claimed_like_any_other(
    owner: Any, add: Add, claim: Rows, record: Rows, *, time: str
) -> None:
    old, other = await add(), await add()
    await owner.execute(
        f"update platform.database_schedules set due_at = '{time}' where database_id = $1", old
    )
    rows = await claim()
    assert [row["id"] for row in rows] == [old, other]
    assert rows[0]["claimed_at"] - rows[0]["slot"] < timedelta(days=367)
    assert all(row["next_due"] > rows[0]["claimed_at"] for row in await record(*rows))


async def test_what_was_made_due_at_a_time_that_nobody_can_read_is_recorded(
    owner: Any, add: Add, claim: Rows, record: Rows
) -> None:
    early, late = await add(), await add()
    rows = await claim()
    for database, time in ((early, "0044-03-15 12:00 BC"), (late, "20000-01-01")):
        await owner.execute(
            "update platform.database_schedules set leased_until = now() + interval '9 s',"
            f" due_at = '{time}' where database_id = $1",
            database,
        )
    assert [row["outcome"] for row in await record(*rows)] == ["recorded"] * 2


async def test_slow_databases_get_no_more_than_their_share_however_overdue(
    add: Add, claim: Rows, due: Due
) -> None:
    slow, quick = [await add() for _ in range(6)], [await add() for _ in range(6)]
    for database in slow:
        await due(database, 1000, slow=True)
    for database in quick:
        await due(database, 1)
    claimed = [row["id"] for row in await claim(slots=8, slow=4)]
    assert len(claimed) == 8
    assert len(set(claimed) & set(slow)) == 4
    assert len(await claim(slots=2, slow=4)) == 2
    assert {row["id"] for row in await claim(slots=9, slow=0)} <= set(quick)


@pytest.mark.parametrize("status", ["inactive", "error"])
async def test_only_active_databases_are_claimed_and_due_again_when_activated(
    owner: Any, add: Add, claim: Rows, worker: Any, status: str
) -> None:
    born = await add(status=status)
    turned = await add()
    change = "update platform.databases set status = $1"
    await owner.execute(change, status)
    await owner.execute("delete from platform.database_schedules where database_id = $1", born)
    await tend(worker)
    assert await claim() == []
    assert await worker.fetch("select * from platform.read_databases(null)") == []
    forced = "select * from platform.claim_databases_by_id(null, '45 s')"
    assert await worker.fetch(forced) == []
    await owner.execute(change, "active")
    assert {row["id"] for row in await claim()} == {born, turned}


async def tend(worker: Any, after: UUID | None = None, **jump: float) -> Any:
    return await worker.fetchrow(
        "select * from platform.tend_database_schedules($1, 500, $2, now() + $3)",
        after,
        LEASE,
        timedelta(**jump) if jump else None,
    )


async def test_a_missing_schedule_counts_as_due(
    owner: Any, add: Add, claim: Rows, worker: Any
) -> None:
    database = await add()
    await owner.execute("delete from platform.database_schedules")
    await tend(worker)
    assert [row["id"] for row in await claim()] == [database]
    await owner.execute("delete from platform.database_schedules")
    forced = "select * from platform.claim_databases_by_id(array[$1::uuid], '45 s')"
    assert [row["id"] for row in await worker.fetch(forced, database)] == [database]
    await owner.execute("delete from platform.database_schedules")
    read = await worker.fetch("select * from platform.read_databases(null)")
    assert [row["id"] for row in read] == [database]


async def test_what_does_not_decrypt_fails_alone(owner: Any, add: Add, claim: Rows) -> None:
    good, none = await add(connection_string="redis://:s@h"), await add()
    garbled = await add(connection_string="redis://***", connection_string_encrypted=b"\0" * 99)
    salt = await owner.fetchval("select uuid_send(version) from platform.database_salts limit 1")
    wrong = await add(connection_string="redis://***", connection_string_encrypted=salt + b"junk")
    found = {row["id"]: (row["connection_string"], row["is_decrypted"]) for row in await claim()}
    assert found == {
        good: ("redis://:s@h", True),
        none: (None, True),
        garbled: (None, False),
        wrong: (None, False),
    }


async def test_a_forced_claim_takes_what_is_not_due_but_nothing_leased(
    add: Add, claim: Rows, due: Due, worker: Any
) -> None:
    idle, leased, other = await add(), await add(), await add()
    await due(idle, -1000)
    await due(other, -1000)
    assert [row["id"] for row in await claim()] == [leased]
    forced = "select * from platform.claim_databases_by_id($1, '45 s')"
    (row,) = await worker.fetch(forced, [idle, leased])
    assert row["id"] == idle
    assert [row["id"] for row in await worker.fetch(forced, None)] == [other]


async def test_a_claim_among_known_rows_takes_those_that_are_due_and_leaves_them_their_rhythm(
    add: Add, claim: Rows, due: Due, schedule: Read, worker: Any
) -> None:
    leased = await add()
    assert [row["id"] for row in await claim()] == [leased]
    overdue, soon, later, unknown = [await add() for _ in range(4)]
    for database, ago in ((overdue, 7), (soon, -0.5), (later, -30), (unknown, 7)):
        await due(database, ago)
    before = await schedule(soon)
    known = "select * from platform.claim_known_databases($1, '1 s', '45 s')"
    rows = await worker.fetch(known, [leased, overdue, soon, later])
    assert [row["id"] for row in rows] == [overdue, soon]
    assert rows[1]["slot"] == before["due_at"]
    assert rows[1]["leased_until"] == rows[1]["claimed_at"] + LEASE
    assert not (await schedule(overdue))["spread"]
    assert [row["id"] for row in await claim()] == [unknown]


async def test_reading_claims_nothing(add: Add, claim: Rows, worker: Any) -> None:
    database = await add(connection_string="redis://:s@h")
    (row,) = await worker.fetch("select * from platform.read_databases($1)", [database])
    assert row["connection_string"] == "redis://:s@h"
    assert [row["id"] for row in await claim()] == [database]


async def test_a_lease_given_back_makes_the_row_due_at_its_slot(
    add: Add, claim: Rows, due: Due, schedule: Read, worker: Any
) -> None:
    database = await add()
    await due(database, 7)
    (row,) = await claim()
    give = "select platform.give_back_databases($1)"
    lease = (
        f'[{{"database_id": "{database}", "slot": "{row["slot"].isoformat()}",'
        ' "leased_until": "{}"}]'
    )
    stale = lease.replace("{}", (row["leased_until"] - LEASE).isoformat())
    assert await worker.fetchval(give, stale) == 0
    assert await claim() == []
    assert await worker.fetchval(give, lease.replace("{}", row["leased_until"].isoformat())) == 1
    assert (await schedule(database))["due_at"] == row["slot"]
    assert (await claim())[0]["slot"] == row["slot"]


@pytest.mark.parametrize(
    ("column", "value", "forgets"),
    [
        ("connection_string", "redis://:new@h", True),
        ("type", "mongodb", True),
        ("ssl_enabled", True, True),
        ("config", '{"db": 2}', False),
    ],
)
async def test_an_edit_bumps_the_revision_makes_due_and_forgets_what_no_longer_holds(
    owner: Any,
    add: Add,
    *,
    claim: Rows,
    record: Rows,
    due: Due,
    schedule: Read,
    column: str,
    value: object,
    forgets: bool,
) -> None:
    database = await add(connection_string="redis://:old@h")
    (before,) = await claim()
    await record(before)
    await due(database, -1000, slow=True)
    await owner.execute(f"update platform.databases set {column} = $1", value)
    edited = await schedule(database)
    assert (edited["slow"], edited["spread"]) == (False, True)
    assert edited["revision"] == before["revision"] + 1
    assert edited["status"] == ("unknown" if forgets else "healthy")
    (row,) = await claim(slow=0)
    assert row["revision"] == edited["revision"]


async def test_a_move_keeps_the_health_unless_the_secret_changes_too(
    owner: Any, add: Add, claim: Rows, record: Rows, schedule: Read
) -> None:
    moved = await add(connection_string="redis://:s@h")
    saved, both = [await add(connection_string="redis://:s@h") for _ in range(2)]
    before = await claim()
    await record(*before)
    other = await owner.fetchval("insert into platform.projects (name) values ('o') returning id")
    move = "update platform.databases set project_id = $1"
    await owner.execute(f"{move} where id = $2", other, moved)
    await owner.execute(
        f"{move}, connection_string = connection_string where id = $2", other, saved
    )
    await owner.execute(f"{move}, connection_string = 'redis://:t@h' where id = $2", other, both)
    found = [await schedule(id_) for id_ in (moved, saved, both)]
    revisions = {row["id"]: row["revision"] + 1 for row in before}
    assert [row["revision"] for row in found] == [revisions[id_] for id_ in (moved, saved, both)]
    assert [row["status"] for row in found] == ["healthy", "healthy", "unknown"]


async def test_names_and_metadata_are_no_edit(
    owner: Any, add: Add, claim: Rows, schedule: Read
) -> None:
    database = await add(connection_string="redis://:s@h")
    await claim()
    before = await schedule(database)
    await owner.execute("update platform.databases set name = 'm', metadata = '{\"a\": 1}'")
    await owner.execute("update platform.databases set connection_string = connection_string")
    await owner.execute("update platform.databases set config = config, status = status")
    after = await schedule(database)
    assert (after["revision"], after["due_at"]) == (before["revision"], before["due_at"])


async def test_an_edited_row_is_due_even_while_it_is_leased(
    owner: Any, add: Add, claim: Rows
) -> None:
    await add(connection_string="redis://:s@h")
    await claim()
    await owner.execute("update platform.databases set connection_string = 'redis://:t@h'")
    (row,) = await claim()
    assert row["connection_string"] == "redis://:t@h"


async def test_a_registry_clock_set_back_starves_no_row(
    add: Add, due: Due, schedule: Read, worker: Any
) -> None:
    databases = [await add() for _ in range(5)]
    for database in databases:
        await due(database, -3600, interval=60)
    await tend(worker, UUID(int=2**128 - 1), hours=1)
    for database in databases:
        found = await schedule(database)
        assert found["due_at"] <= found["now"] + timedelta(seconds=60)


async def test_what_lies_too_far_ahead_is_healed_even_by_a_worker_that_saw_no_jump(
    add: Add, due: Due, schedule: Read, worker: Any
) -> None:
    database, fine = await add(), await add()
    await due(database, -3600, interval=60)
    await due(fine, -80, interval=60)
    await tend(worker)
    healed, left = await schedule(database), await schedule(fine)
    assert healed["due_at"] <= healed["now"] + timedelta(seconds=60)
    assert left["due_at"] > left["now"] + timedelta(seconds=60)


async def test_a_registry_clock_set_forwards_makes_no_storm(
    add: Add, due: Due, schedule: Read, worker: Any
) -> None:
    databases = [await add() for _ in range(40)]
    for number, database in enumerate(databases):
        await due(database, 3600 - number, interval=600)
    await tend(worker, hours=-1)
    found = [await schedule(database) for database in databases]
    ahead = sorted((row["due_at"] - row["now"]).total_seconds() for row in found)
    assert ahead[-1] <= 600
    assert ahead[0] < 200
    assert ahead[-1] > 400


async def test_tending_goes_round_in_batches(add: Add, worker: Any) -> None:
    for _ in range(5):
        await add()
    call = "select next_after from platform.tend_database_schedules($1, 2, '45 s', null)"
    rounds, after = 0, None
    while (after := await worker.fetchval(call, after)) is not None:
        rounds += 1
    assert rounds == 2
