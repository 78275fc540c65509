"""MongoDB asked in its own words: look up, connect, `hello`, sign in, ping."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from worker.connection import ConnectionString
from worker.errors import ProbeError
from worker.model import Answer
from worker.network import Network
from worker.plan import Config, Host
from worker.probes.mongodb_login import Login, sign_in
from worker.probes.mongodb_members import Search, Unsuitable, Visit, judge
from worker.probes.mongodb_plan import (
    MongoDBPlan,
    make_plan,
    refuse_contradictions,
    txt_options,
    unusable,
)
from worker.probes.mongodb_strangers import recognize
from worker.probes.mongodb_wire import Conversation
from worker.scram import SaltedPasswords
from worker.stopwatch import Stopwatch
from worker.words import Phase, Reason


class MongoDBProbe:
    """Asks a MongoDB deployment over one connection to each host that it takes."""

    def __init__(self, network: Network, store: SaltedPasswords | None = None) -> None:
        self._network = network
        self._store = store or SaltedPasswords()

    def plan(
        self, connection: ConnectionString, config: Config, *, ssl_enabled: bool
    ) -> MongoDBPlan:
        """Make a plan of a row's data; see `make_plan`."""
        return make_plan(connection, config, ssl_enabled=ssl_enabled)

    async def ask(self, plan: MongoDBPlan) -> Answer:
        """Find the server that a client would use, sign in, ping, close; see `ports.Probe`."""
        end = asyncio.get_running_loop().time() + plan.connect_timeout
        looked_up = Stopwatch()
        if plan.is_srv:
            plan = await self._look_up(plan, looked_up)

        async def ask_host(visit: Visit) -> Answer:
            return await self._ask_host(plan, visit, end)

        if plan.is_direct or plan.is_load_balanced:
            try:
                answer = await ask_host(Visit(plan.hosts[0], plan.replica_set))
            except Unsuitable as unsuitable:
                raise unsuitable.fault from None
        else:
            answer = await Search(plan, ask_host, end).run()
        if not plan.is_srv:
            return answer
        names = looked_up.phases.get(Phase.DNS, 0.0) + answer.phases.get(Phase.DNS, 0.0)
        return replace(answer, phases={**answer.phases, Phase.DNS: names})

    async def _look_up(self, plan: MongoDBPlan, watch: Stopwatch) -> MongoDBPlan:
        """Put in place of the one name what DNS says: hosts and options (TXT)."""
        name = plan.hosts[0].name
        try:
            async with asyncio.timeout(plan.connect_timeout):
                hosts = await self._network.srv_hosts(name, watch)
                text = await self._network.txt(name, watch)
        except TimeoutError:
            raise self._network.too_late(watch, plan.connect_timeout) from None
        return with_dns(plan, hosts, text)

    async def _ask_host(self, plan: MongoDBPlan, visit: Visit, end: float) -> Answer:
        """Ask one host; raises Unsuitable for one that a client would not use."""
        loop = asyncio.get_running_loop()
        seconds = max(0.0, min(plan.host_timeout, end - loop.time()))
        login = Login(plan, self._store) if plan.username else None
        try:
            async with (
                asyncio.timeout(seconds) as bound,
                self._network.connect(visit.host, plan.tls, visit.watch) as connection,
            ):
                talk = Conversation(connection)
                with visit.watch(Phase.AUTH):
                    hello = await talk.hello(_extras(plan, login), seconds / 2)
                    judge(plan, visit, hello)
                    visit.is_chosen = True
                    await sign_in(talk, login, hello)
                seconds = plan.command_timeout
                bound.reschedule(loop.time() + seconds)
                with visit.watch(Phase.PING):
                    await talk.ping()
                return Answer(visit.watch.phases)
        except TimeoutError:
            if visit.watch.current is not Phase.PING:
                raise self._network.too_late(visit.watch, seconds) from None
            text = f"ping not answered within {seconds * 1000:.0f} ms"
            raise ProbeError(Reason.TIMEOUT, text) from None
        except ProbeError as fault:
            phase = visit.watch.current
            if visit.is_chosen or fault.reason is not Reason.CLOSED:
                raise
            raise (
                await recognize(self._network, visit.host, plan.tls, phase, end) or fault
            ) from None


def with_dns(plan: MongoDBPlan, hosts: tuple[Host, ...], text: str | None) -> MongoDBPlan:
    """Put SRV hosts and TXT options into a plan; what the row says goes first.

    Raises:
        ProbeError: `misconfigured` for a host outside of the name's domain or a bad option.
    """
    name = plan.hosts[0].name.rstrip(".")
    labels = name.split(".")
    # So the specification "Initial DNS Seedlist Discovery": a short name is a domain itself.
    domain = "." + ".".join(labels[1:] if len(labels) > 2 else labels)  # noqa: PLR2004 -- a.b.c
    hosts = tuple(Host(host.name.rstrip(".").lower(), host.port) for host in hosts)
    if not all(host.name.endswith(domain) for host in hosts):
        raise unusable(f"the SRV records of {name} name a host outside of its domain")
    options = txt_options(text or "")
    told = replace(
        plan,
        hosts=hosts,
        auth_source=plan.auth_source or options.get("authsource"),
        replica_set=plan.replica_set or options.get("replicaset"),
        is_load_balanced=plan.is_load_balanced or options.get("loadbalanced") == "true",
    )
    refuse_contradictions(told)
    return told


def _extras(plan: MongoDBPlan, login: Login | None) -> dict[str, object]:
    extras = dict(login.in_hello()) if login else {}
    return {**extras, "loadBalanced": True} if plan.is_load_balanced else extras
