"""Faults of a `mongodb+srv` name, told by a nameserver of the test bed's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import token_hex

from testbed.misbehaving import MisbehavingServer, mute
from testbed.mongodb import MongoDBOptions, MongoDBUser
from testbed.mongodb_names import Records, SeedNameserver
from testbed.mongodb_replica_set import MongoDBReplicaSet
from tests.faults.matrix import Case, Make
from tests.faults.mongodb_cases import CONNECT_SECONDS, PATIENT, QUICK
from tests.faults.mongodb_fakes import FORBIDDEN
from tests.faults.stage import Stage
from worker.model import CheckResult
from worker.resolver import Resolver
from worker.words import Reason

NAME = "cluster.db.test"
SRV = f"_mongodb._tcp.{NAME}.", "SRV"
_ADDRESSES = {
    "a.db.test.": ["127.0.0.1"],
    "b.db.test.": ["127.0.0.1"],
    "a.other.test.": ["127.0.0.1"],
    "forbidden.db.test.": [FORBIDDEN],
}


def told(*hosts: str, txt: str | None = None) -> Make:
    """Make a row's case of a set whose SRV records name these hosts, and of its TXT record."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        port = _member(stage).members[0].port
        records = {SRV: [f"0 0 {port} {host}." for host in hosts]}
        if txt is not None:
            records[f"{NAME}.", "TXT"] = [f'"{txt}"']
        with SeedNameserver(_ADDRESSES, records) as names:
            yield _case(stage, names)

    return make


@asynccontextmanager
async def no_record(stage: Stage) -> AsyncIterator[Case]:
    with SeedNameserver({**_ADDRESSES, f"{NAME}.": ["127.0.0.1"]}, {}) as names:
        yield _case(stage, names)


@asynccontextmanager
async def hanging(stage: Stage) -> AsyncIterator[Case]:
    with SeedNameserver({}, {SRV: None}) as names:
        yield _case(stage, names, config=QUICK, seconds=CONNECT_SECONDS)


@asynccontextmanager
async def forbidden_target(stage: Stage) -> AsyncIterator[Case]:
    with MisbehavingServer(mute, host=FORBIDDEN) as forbidden:

        async def nobody_knocked(result: CheckResult) -> None:
            assert (result.reason is Reason.BLOCKED) == (forbidden.callers == 0)

        records: Records = {SRV: [f"0 0 {forbidden.port} forbidden.db.test."]}
        with SeedNameserver(_ADDRESSES, records) as names:
            made = _case(stage, names, config=QUICK)
            yield replace(made, afterwards=nobody_knocked)


def _case(
    stage: Stage,
    names: SeedNameserver,
    config: Mapping[str, object] = PATIENT,
    seconds: float | None = None,
) -> Case:
    members = _member(stage)
    (user,) = members.options.users
    return Case(
        url=f"mongodb+srv://{user.name}:{user.password}@{NAME}/?tls=false",
        address=NAME,
        config=config,
        seconds=seconds,
        secrets=(user.password,),
        resolver=Resolver(names.resolver()),
        during=names.for_everybody(),
    )


def _member(stage: Stage) -> MongoDBReplicaSet:
    """Share a set of one member whose user is known to a database of its own."""
    user = MongoDBUser("app", token_hex(12), "shop")
    options = MongoDBOptions(password=token_hex(12), users=(user,))
    return stage.shared("mongodb told by names", lambda: MongoDBReplicaSet(1, options))


MAKERS: dict[str, Make] = {
    "SRV and TXT options": told("a.db.test", txt="replicaSet=rs0&authSource=shop"),
    "SRV with several hosts": told("a.db.test", "b.db.test", txt="authSource=shop"),
    "TXT with a wrong replicaSet": told("a.db.test", txt="replicaSet=other&authSource=shop"),
    "TXT without authSource": told("a.db.test"),
    "TXT with a forbidden option": told("a.db.test", txt="tls=false"),
    "TXT with loadBalanced and several hosts": told(
        "a.db.test", "b.db.test", txt="loadBalanced=true"
    ),
    "SRV outside of the domain": told("a.other.test"),
    "no SRV record": no_record,
    "SRV look-up that hangs": hanging,
    "SRV target that is blocked": forbidden_target,
}
