"""Which member of a MongoDB deployment a client would use, found through `hello`.

Facts: the MongoDB specification "Server Discovery And Monitoring".
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from worker.connection import MAX_PORT
from worker.errors import MAX_HOST, ProbeError
from worker.model import Answer
from worker.plan import Host
from worker.probes.mongodb_plan import MongoDBPlan, unusable
from worker.quoting import quoted
from worker.stopwatch import Stopwatch
from worker.words import Reason

MAX_HOSTS = 10
"""Hosts asked in one attempt, whatever the servers name."""
STAGGER = 0.25
"""Seconds after which the next host is asked beside one that has not answered."""

_MAX_MEMBERS = 50
_HELPFUL = (Reason.BLOCKED, Reason.NOT_READY, Reason.MISCONFIGURED)
_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,253})):([0-9]{1,5})", re.ASCII
)


class Unsuitable(Exception):  # noqa: N818 -- no error: the host answers, another one may serve
    """A host that answered, but that a client would not use, and whom it names instead."""

    def __init__(
        self,
        fault: ProbeError,
        set_name: str | None = None,
        primary: Host | None = None,
        members: Iterable[Host] = (),
    ) -> None:
        super().__init__(fault)
        self.fault = fault
        self.set_name = set_name
        self.primary = primary
        self.members = tuple(members)


class Visit:
    """One host being asked."""

    def __init__(self, host: Host, set_name: str | None = None) -> None:
        self.host = host
        self.set_name = set_name
        """The replica set that the host must be a member of; None means any, or none."""
        self.watch = Stopwatch()
        self.is_chosen = False
        """Whether a client would use this host: from then on its trouble is the answer."""


def judge(plan: MongoDBPlan, visit: Visit, hello: Mapping[str, Any]) -> None:
    """Decide by its `hello` whether a client would use this host.

    Raises:
        Unsuitable: it would not.
    """
    if plan.is_load_balanced:
        if "serviceId" not in hello:
            raise Unsuitable(unusable("loadBalanced is true, but no load balancer answers there"))
        return
    name = hello.get("setName")
    is_primary = (hello.get("isWritablePrimary") or hello.get("ismaster")) is True
    if name is None and hello.get("isreplicaset") is True:
        raise Unsuitable(_not_ready("the replica set is not initiated there"))
    if visit.set_name is not None and name != visit.set_name:
        stray = _not_ready("the host is no member of the set that names it")
        raise Unsuitable(unusable(_wrong_set(name)) if plan.replica_set else stray)
    if plan.is_direct:
        if not is_primary and hello.get("secondary") is not True:
            raise Unsuitable(_not_ready("the server is neither primary nor secondary"))
    elif name is not None:
        _judge_member(visit.host, hello, is_primary=is_primary)
    elif not is_primary:
        raise Unsuitable(_not_ready("the server takes no writes"))
    elif len(plan.hosts) > 1 and hello.get("msg") != "isdbgrid":
        # A driver leaves a standalone server out where several hosts are listed.
        raise Unsuitable(unusable("several hosts are named, but one is no member of a replica set"))


def _judge_member(host: Host, hello: Mapping[str, Any], *, is_primary: bool) -> None:
    members = list(_hosts(hello, "hosts", "passives"))
    if is_primary and (not members or host in members):
        return
    # A driver contacts members by the names that they have for each other, never by its own.
    named = _host(hello.get("me" if is_primary else "primary"))
    text = "the primary calls itself otherwise" if is_primary else "the replica set has no primary"
    name = hello["setName"]
    set_name = name if isinstance(name, str) else None
    raise Unsuitable(_not_ready(text), set_name, None if named == host else named, members)


def _wrong_set(name: object) -> str:
    if not isinstance(name, str):
        return "replicaSet is given, but the server is no member of a replica set"
    return f"replicaSet is not the name of the server's set, which is {quoted(name, 64)}"


def _not_ready(text: str) -> ProbeError:
    return ProbeError(Reason.NOT_READY, text)


def _hosts(hello: Mapping[str, Any], *keys: str) -> Iterator[Host]:
    for key in keys:
        listed = hello.get(key)
        if isinstance(listed, list):
            yield from filter(None, map(_host, listed[:_MAX_MEMBERS]))


def _host(text: object) -> Host | None:
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None or not 1 <= int(match[3]) <= MAX_PORT:
        return None
    return Host((match[1] or match[2]).lower(), int(match[3]))


class Search:
    """Asks hosts until one is found that a client would use; the first one found answers.

    A driver asks all at once and goes on asking. Here one is asked after the other, the next one
    when an answer is late, and each once: a check is repeated anyway.
    """

    def __init__(
        self, plan: MongoDBPlan, ask: Callable[[Visit], Awaitable[Answer]], end: float
    ) -> None:
        """Take what asks one host, and the loop's time at which the search is over."""
        self._plan = plan
        self._ask = ask
        self._end = end
        self._waiting = deque(plan.hosts[:MAX_HOSTS])
        self._known = set(self._waiting)
        self._own = frozenset(() if plan.is_srv else plan.hosts)
        """The hosts that the row itself names."""
        self._set_name = plan.replica_set
        self._primary: Host | None = None
        self._faults: dict[Host, ProbeError] = {}
        self._running: dict[asyncio.Future[Answer], Visit] = {}

    async def run(self) -> Answer:
        """Find the host and pass on its answer.

        Raises:
            ProbeError: what is wrong with the host found, or why none is.
        """
        if len(self._waiting) == 1:
            visit = self._visit()
            try:
                return await self._ask(visit)
            except Unsuitable as unsuitable:
                self._learn(visit.host, unsuitable)
        try:
            while self._waiting or self._running:
                self._start_one()
                if (answer := await self._await_one()) is not None:
                    return answer
                if asyncio.get_running_loop().time() >= self._end and not self._is_found:
                    break
        finally:
            await self._stop()
        raise self._verdict()

    def _visit(self) -> Visit:
        return Visit(self._waiting.popleft(), self._set_name)

    @property
    def _is_found(self) -> bool:
        return any(visit.is_chosen for visit in self._running.values())

    def _start_one(self) -> None:
        if self._waiting and not self._is_found:
            visit = self._visit()
            self._running[asyncio.ensure_future(self._ask(visit))] = visit

    async def _await_one(self) -> Answer | None:
        left = max(0.0, self._end - asyncio.get_running_loop().time())
        patience = None if self._is_found else min(left, STAGGER) if self._waiting else left
        done, _ = await asyncio.wait(
            self._running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            visit = self._running.pop(task)
            try:
                return task.result()
            except Unsuitable as unsuitable:
                self._learn(visit.host, unsuitable)
            except ProbeError as fault:
                if visit.is_chosen:
                    raise self._at(visit.host, fault) from None
                self._faults[visit.host] = fault
        return None

    def _learn(self, host: Host, unsuitable: Unsuitable) -> None:
        self._faults[host] = unsuitable.fault
        # The first set met is the one meant; hosts of another one are nobody's members.
        self._set_name = self._set_name or unsuitable.set_name
        for member in (unsuitable.primary, *unsuitable.members):
            if member and member not in self._known and len(self._known) < MAX_HOSTS:
                self._known.add(member)
                self._waiting.append(member)
        if primary := unsuitable.primary:
            self._primary = primary
            if primary in self._waiting:
                self._waiting.remove(primary)
                self._waiting.appendleft(primary)

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _verdict(self) -> ProbeError:
        """Choose of all that went wrong what helps most."""
        for visit in self._running.values():
            text = f"no answer within {self._plan.connect_timeout * 1000:.0f} ms"
            self._faults.setdefault(visit.host, ProbeError(Reason.TIMEOUT, text))
        if (primary := self._primary) in self._faults:
            fault = self._faults[primary]
            if fault.reason is Reason.INTERNAL:
                return fault
            text = f"the primary, known to its set as {self._told(primary)}: {fault.text}"
            return ProbeError(fault.reason, text)
        return self._at(*min(self._faults.items(), key=lambda told: _rank(told[1].reason)))

    def _at(self, host: Host, fault: ProbeError) -> ProbeError:
        """Say which host it is; a trouble of ours is the same at each."""
        name = self._told(host)
        if fault.reason is Reason.INTERNAL or name in fault.text:
            return fault
        return ProbeError(fault.reason, f"{fault.text} ({name})")

    def _told(self, host: Host) -> str:
        """Name a host, quoted where it is a server that has named it."""
        return str(host) if host in self._own else quoted(str(host), MAX_HOST)


def _rank(reason: Reason) -> int:
    """Put a set without primary before a host that is none of its members: the set is the news."""
    return _HELPFUL.index(reason) if reason in _HELPFUL else len(_HELPFUL)
