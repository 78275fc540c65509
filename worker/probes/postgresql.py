"""PostgreSQL asked in its own words: host after host, TLS, sign in, query, goodbye."""

from __future__ import annotations

import asyncio

from worker.connection import ConnectionString
from worker.errors import ProbeError
from worker.model import Answer
from worker.network import Network
from worker.plan import Config, Host
from worker.probes.postgresql_plan import PostgreSQLPlan, make_plan
from worker.probes.postgresql_wire import ElsewhereError, Session, ask_for_tls
from worker.probes.strangers import recognize
from worker.scram import SaltedPasswords
from worker.stopwatch import Stopwatch
from worker.words import Engine, Phase, Reason

_UNREACHED = frozenset({Reason.DNS, Reason.REFUSED, Reason.UNREACHABLE, Reason.TIMEOUT})


class PostgreSQLProbe:
    """Asks a PostgreSQL in its own words over one connection."""

    def __init__(self, network: Network, store: SaltedPasswords | None = None) -> None:
        self._network = network
        self._store = store or SaltedPasswords()

    def plan(
        self, connection: ConnectionString, config: Config, *, ssl_enabled: bool
    ) -> PostgreSQLPlan:
        """Make a plan of a row's data; see `make_plan`."""
        return make_plan(connection, config, ssl_enabled=ssl_enabled)

    async def ask(self, plan: PostgreSQLPlan) -> Answer:
        """Ask host after host as libpq does, sign in, query, close; see `ports.Probe`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + plan.connect_timeout
        for index, host in enumerate(plan.hosts[:-1]):
            share = (end - loop.time()) / (len(plan.hosts) - index)
            watch = Stopwatch()
            try:
                return await self._ask(plan, host, share, watch)
            except ProbeError as fault:
                if not _is_passed_over(fault, watch):
                    raise
        return await self._ask(plan, plan.hosts[-1], end - loop.time(), Stopwatch())

    async def _ask(
        self, plan: PostgreSQLPlan, host: Host, seconds: float, watch: Stopwatch
    ) -> Answer:
        """Ask one host, which has these seconds until it takes a query."""
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(seconds) as bound,
                self._network.connect(host, None, watch) as connection,
            ):
                is_encrypted = plan.tls is not None and await ask_for_tls(
                    connection, host, plan.tls, watch, is_optional=plan.is_tls_optional
                )
                session = Session(connection, is_encrypted=is_encrypted)
                with watch(Phase.AUTH):
                    session.start(
                        {"user": plan.username, "database": plan.database, **plan.parameters}
                    )
                    await session.sign_in(
                        plan.username, plan.password, self._store, only_scram=plan.only_scram
                    )
                bound.reschedule(loop.time() + plan.command_timeout)
                with watch(Phase.PING):
                    value = await session.query(plan.wish.query)
                answer = Answer(watch.phases)
        except TimeoutError:
            if watch.current is not Phase.PING:
                raise self._network.too_late(watch, seconds) from None
            text = f"the query is not answered within {plan.command_timeout * 1000:.0f} ms"
            raise ProbeError(Reason.TIMEOUT, text) from None
        except ProbeError as fault:
            if plan.tls is not None:
                raise
            raise await recognize(
                self._network, host, watch, fault, but=Engine.POSTGRESQL
            ) from None
        if value == plan.wish.answer:
            return answer
        raise unwished(plan)


def unwished(plan: PostgreSQLPlan) -> ProbeError:
    """Say that the server answered, but not as its application needs it."""
    if plan.session == "any":
        return ProbeError(Reason.PROTOCOL, "SELECT 1 does not bring 1")
    text = f"no session with target_session_attrs={plan.session}"
    return ElsewhereError(Reason.NOT_READY, text)


def _is_passed_over(fault: ProbeError, watch: Stopwatch) -> bool:
    """Whether libpq would go on to the next host: not once this one has refused the user."""
    is_unreached = fault.reason in _UNREACHED and watch.current is not Phase.PING
    return is_unreached or isinstance(fault, ElsewhereError)
