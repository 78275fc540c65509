"""Faults of a MongoDB replica set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.mongodb_replica_set import MongoDBReplicaSet
from testbed.programs import ProgramError, wait_until
from tests.faults.matrix import Case, Make
from tests.faults.mongodb_cases import PATIENT, QUICK, case
from tests.faults.stage import Stage

_A_WHILE = 60


@asynccontextmanager
async def wrong_name(stage: Stage) -> AsyncIterator[Case]:
    members = _three(stage)
    url = members.url(replicaSet="other")
    yield case(members.members[0], url, members.options.password, config=QUICK)


@asynccontextmanager
async def named_by_one(stage: Stage) -> AsyncIterator[Case]:
    members = _three(stage)
    secondary = members.secondaries[0]
    url = secondary.url(replicaSet=str(members.options.replica_set))
    yield case(secondary, url, members.options.password)


@asynccontextmanager
async def secondary_asked_directly(stage: Stage) -> AsyncIterator[Case]:
    secondary = _three(stage).secondaries[0]
    url = secondary.url(directConnection="true")
    yield case(secondary, url, secondary.options.password)


@asynccontextmanager
async def stepped_down(stage: Stage) -> AsyncIterator[Case]:
    alone = _alone(stage)
    member = alone.primary
    member.execute("replSetStepDown", _A_WHILE, force=True)
    yield case(member, alone.url(), alone.options.password, config=QUICK)
    member.execute("replSetFreeze", 0)
    alone.await_primary()


@asynccontextmanager
async def majority_lost(stage: Stage) -> AsyncIterator[Case]:
    members = _three(stage)
    primary, lost = members.primary, members.secondaries
    for member in lost:
        member.kill()
    wait_until(lambda: not _has_primary(members), "the primary to step down", 30)
    yield case(primary, members.url(), members.options.password, config=QUICK)
    for member in lost:
        member.start()
    members.await_members()


@asynccontextmanager
async def primary_killed(stage: Stage) -> AsyncIterator[Case]:
    members = _three(stage)
    primary, others = members.primary, members.secondaries
    for member in others:
        member.execute("replSetFreeze", _A_WHILE)
    primary.kill()
    yield case(members.members[0], members.url(), members.options.password, config=QUICK)
    for member in others:
        member.execute("replSetFreeze", 0)
    members.await_primary()
    primary.start()
    members.await_members()


@asynccontextmanager
async def elected_anew(stage: Stage) -> AsyncIterator[Case]:
    members = _three(stage)
    killed = members.primary
    killed.kill()
    members.await_primary()
    yield case(members.members[0], members.url(), members.options.password, config=PATIENT)
    killed.start()
    members.await_members()


@asynccontextmanager
async def not_initiated(stage: Stage) -> AsyncIterator[Case]:
    options = MongoDBOptions(replica_set="rs0")
    server = stage.shared("mongodb to be initiated", lambda: MongoDBServer(options))
    yield case(server, server.url(), config=QUICK)


@asynccontextmanager
async def not_initiated_directly(stage: Stage) -> AsyncIterator[Case]:
    options = MongoDBOptions(replica_set="rs0")
    server = stage.shared("mongodb to be initiated", lambda: MongoDBServer(options))
    yield case(server, server.url(directConnection="true"), config=QUICK)


def _three(stage: Stage) -> MongoDBReplicaSet:
    """Share a replica set; whoever kills a member starts it again."""
    options = MongoDBOptions(password=token_hex(12))
    return stage.shared("mongodb, three members", lambda: MongoDBReplicaSet(3, options))


def _alone(stage: Stage) -> MongoDBReplicaSet:
    options = MongoDBOptions(password=token_hex(12))
    return stage.shared("mongodb, one member", lambda: MongoDBReplicaSet(1, options))


def _has_primary(members: MongoDBReplicaSet) -> bool:
    try:
        return members.primary.running
    except ProgramError:
        return False


MAKERS: dict[str, Make] = {
    "wrong replicaSet name": wrong_name,
    "a set of which one secondary is named": named_by_one,
    "secondary with directConnection": secondary_asked_directly,
    "primary stepped down": stepped_down,
    "majority lost": majority_lost,
    "primary killed with -9": primary_killed,
    "primary killed with -9, another one elected": elected_anew,
    "replica set not initiated": not_initiated,
    "replica set not initiated, with directConnection": not_initiated_directly,
}
