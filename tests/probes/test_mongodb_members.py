"""Which member a client would use, and what is said where there is none (specification SDAM)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from testbed.mongodb_fake import hello, member
from worker.connection import split
from worker.errors import ProbeError
from worker.model import Answer
from worker.plan import Config, Host
from worker.probes.mongodb_members import MAX_HOSTS, Search, Unsuitable, Visit, judge
from worker.probes.mongodb_plan import MongoDBPlan, make_plan
from worker.words import Reason

PRIMARY = {"isWritablePrimary": True, "ismaster": True, "secondary": False}
A, B, C = Host("a", 1), Host("b", 2), Host("c", 3)
SET = ["a:1", "b:2", "c:3"]
SLOW = "slow"
REFUSED = ProbeError(Reason.REFUSED, "nothing listens there")
BLOCKED = ProbeError(Reason.BLOCKED, "not to be contacted")
OURS = ProbeError(Reason.INTERNAL, "the worker ran short: EMFILE")
Deployment = Mapping[Host, Mapping[str, Any] | ProbeError | str]


def plan(hosts: str = "a:1", **options: str) -> MongoDBPlan:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return make_plan(split(f"mongodb://{hosts}/?{query}"), Config({}), ssl_enabled=False)


def verdict(made: MongoDBPlan, about: Mapping[str, Any], host: Host = A) -> Reason:
    try:
        judge(made, Visit(host, made.replica_set), about)
    except Unsuitable as unsuitable:
        return unsuitable.fault.reason
    return Reason.OK


def primary(name: str = "rs", me: str = "a:1", hosts: list[str] = SET) -> Mapping[str, Any]:
    return member(name, me, hosts, **PRIMARY)


def secondary(me: str = "b:2", **more: Any) -> Mapping[str, Any]:
    return member("rs", me, SET, **more)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (hello(), Reason.OK),
        (hello(isWritablePrimary=False, ismaster=False), Reason.NOT_READY),
        (hello(msg="isdbgrid"), Reason.OK),
        ({"ismaster": True, "ok": 1}, Reason.OK),
        (primary(), Reason.OK),
        (secondary(), Reason.NOT_READY),
        (secondary(hidden=True), Reason.NOT_READY),
        (secondary(secondary=False, arbiterOnly=True), Reason.NOT_READY),
        (hello(isreplicaset=True, isWritablePrimary=False, ismaster=False), Reason.NOT_READY),
        (hello(isWritablePrimary="yes", ismaster=None), Reason.NOT_READY),
        ({}, Reason.NOT_READY),
    ],
)
def test_a_client_uses_what_takes_writes(about: Mapping[str, Any], expected: Reason) -> None:
    assert verdict(plan(), about) is expected


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (hello(), Reason.OK),
        (primary(), Reason.OK),
        (primary(me="elsewhere:9", hosts=["elsewhere:9"]), Reason.OK),
        (secondary(), Reason.OK),
        (secondary(hidden=True), Reason.OK),
        (secondary(secondary=False, arbiterOnly=True), Reason.NOT_READY),
        (secondary(secondary=False), Reason.NOT_READY),
    ],
)
def test_a_direct_connection_uses_whatever_serves_reads(
    about: Mapping[str, Any], expected: Reason
) -> None:
    assert verdict(plan(directConnection="true"), about) is expected


def test_several_hosts_are_a_set_or_all_mongos() -> None:
    several = plan("a:1,b:2")
    assert verdict(several, hello()) is Reason.MISCONFIGURED
    assert verdict(several, hello(msg="isdbgrid")) is Reason.OK
    assert verdict(several, primary()) is Reason.OK


@pytest.mark.parametrize("about", [hello(), hello(msg="isdbgrid"), primary("other"), secondary()])
def test_another_set_than_the_row_names_is_misconfigured(about: Mapping[str, Any]) -> None:
    assert verdict(plan(replicaSet="mine"), about) is Reason.MISCONFIGURED
    assert verdict(plan(replicaSet="mine", directConnection="true"), about) is Reason.MISCONFIGURED


def test_a_load_balancer_names_a_service() -> None:
    balanced = plan(loadBalanced="true")
    assert verdict(balanced, hello(serviceId=b"service", msg="isdbgrid")) is Reason.OK
    assert verdict(balanced, hello(msg="isdbgrid")) is Reason.MISCONFIGURED


def test_a_primary_is_asked_by_the_name_that_its_set_has_for_it() -> None:
    with pytest.raises(Unsuitable) as caught:
        judge(plan("localhost:1"), Visit(Host("localhost", 1)), primary())
    assert caught.value.primary == A
    assert caught.value.members == (A, B, C)


def test_a_members_host_names_may_be_in_capitals_and_its_hosts_passive() -> None:
    about = member("rs", "A:1", ["B:2"], passives=["A:1"], **PRIMARY)
    assert verdict(plan(), about) is Reason.OK


def test_what_a_member_names_is_taken_only_where_it_is_a_host() -> None:
    hosts = [
        "b:0",
        "b:65536",
        "b",
        ":1",
        "[::1]:2",
        "b:2\n",
        7,
        None,
        "x/y:1",
        "b:\N{FULLWIDTH DIGIT TWO}",
    ]
    with pytest.raises(Unsuitable) as caught:
        judge(plan(), Visit(A), {**secondary(), "hosts": hosts, "passives": "b:2", "primary": 1})
    assert caught.value.members == (Host("::1", 2),)
    assert caught.value.primary is None


class Asker:
    """Answers for the hosts of a deployment, and remembers who was asked."""

    def __init__(self, made: MongoDBPlan, deployment: Deployment) -> None:
        self.plan = made
        self.deployment = deployment
        self.asked: list[Host] = []

    async def __call__(self, visit: Visit) -> Answer:
        self.asked.append(visit.host)
        about = self.deployment.get(visit.host, REFUSED)
        if isinstance(about, ProbeError):
            raise about
        if isinstance(about, str):
            await asyncio.sleep(60)
            return Answer()
        judge(self.plan, visit, about)
        return Answer()


async def find(asker: Asker, seconds: float = 1.0) -> Answer:
    return await Search(asker.plan, asker, asyncio.get_running_loop().time() + seconds).run()


async def fault(asker: Asker, seconds: float = 1.0) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await find(asker, seconds)
    return caught.value


async def test_a_secondary_leads_to_its_primary() -> None:
    asker = Asker(plan("b:2"), {B: secondary(primary="a:1"), A: primary()})
    await find(asker)
    assert asker.asked == [B, A]


async def test_one_host_that_is_late_does_not_hold_the_next_one_up() -> None:
    asker = Asker(plan("b:2,a:1"), {B: SLOW, A: primary()})
    async with asyncio.timeout(1):
        await find(asker, seconds=60)


async def test_a_set_without_primary_is_not_ready_whatever_else_its_hosts_are() -> None:
    asker = Asker(plan("a:1,b:2,c:3", replicaSet="rs"), {A: REFUSED, B: secondary(), C: hello()})
    assert (await fault(asker)).reason is Reason.NOT_READY


async def test_a_primary_that_cannot_be_reached_is_named() -> None:
    told = await fault(Asker(plan("b:2"), {B: secondary(primary="a:1"), A: REFUSED}))
    assert told.reason is Reason.REFUSED
    assert "a:1" in told.text


async def test_a_trouble_of_ours_is_told_the_same_at_whatever_host_it_is_met() -> None:
    at_primary = Asker(plan("b:2"), {B: secondary(primary="a:1"), A: OURS})
    everywhere = Asker(plan("a:1,b:2,c:3", replicaSet="rs"), {A: OURS, B: OURS, C: OURS})
    for asker in (at_primary, everywhere):
        told = await fault(asker)
        assert (told.reason, told.text) == (Reason.INTERNAL, OURS.text)


async def test_a_blocked_primary_is_blocked() -> None:
    told = await fault(Asker(plan("b:2"), {B: secondary(primary="a:1"), A: BLOCKED}))
    assert told.reason is Reason.BLOCKED


async def test_a_blocked_member_is_told_before_a_missing_primary() -> None:
    told = await fault(Asker(plan("b:2"), {B: secondary(), A: BLOCKED}))
    assert told.reason is Reason.BLOCKED


async def test_a_host_of_another_set_is_no_primary_of_this_one() -> None:
    asker = Asker(plan("b:2"), {B: secondary(primary="a:1"), A: primary("another")})
    told = await fault(asker)
    assert told.reason is Reason.NOT_READY
    assert "no member of the set" in told.text


async def test_two_members_that_name_each_other_are_asked_once_each() -> None:
    deployment = {A: secondary("a:1", primary="b:2"), B: secondary("b:2", primary="a:1")}
    asker = Asker(plan(), deployment)
    assert (await fault(asker)).reason is Reason.NOT_READY
    assert asker.asked == [A, B, C]


async def test_a_server_that_names_hosts_without_end_makes_nobody_a_scanner() -> None:
    names = [f"victim{number}:1" for number in range(10_000)]
    asker = Asker(plan(), {A: member("rs", "a:1", names)})
    await fault(asker)
    assert len(asker.asked) == MAX_HOSTS


async def test_a_search_ends_in_its_time() -> None:
    async with asyncio.timeout(1):
        told = await fault(Asker(plan("a:1,b:2"), {A: SLOW, B: SLOW}), seconds=0.05)
    assert told.reason is Reason.TIMEOUT
