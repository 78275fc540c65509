"""MongoDB asked through PyMongo's asyncio client or through motor."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from tempfile import NamedTemporaryFile
from typing import Any, Literal, Protocol
from urllib.parse import quote

from pymongo import AsyncMongoClient, pool_options
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from worker.connection import ConnectionString
from worker.errors import ProbeError, translate
from worker.model import Answer
from worker.plan import Config
from worker.probes.drivers.mongodb_errors import RULES, read_topology
from worker.probes.mongodb_plan import MongoDBPlan, make_plan, unusable
from worker.probes.mongodb_wire import AUTHENTICATION_FAILED
from worker.words import Phase, Reason

CLOSE_SECONDS = 1.5
"""After which a goodbye is broken off: during a TLS connect on uvloop one hung for 60 s."""
GOODBYE_SECONDS = 0.5
"""How long a check waits for a goodbye, which may take the server's whole time to answer."""
MOTOR_THREADS = 200
"""As many as the worker's default slots: each call of motor's holds one until it ends."""

# Every client of PyMongo's or motor's else tells each server parts of our environment: AWS_REGION,
# VERCEL_REGION, AI_AGENT and the like.
pool_options._metadata_env = dict  # noqa: SLF001 -- no option does it


class _Library(Protocol):
    """How to open and close a client; its commands are the same in both libraries."""

    async def open(self, uri: str, options: Mapping[str, Any]) -> Any: ...

    async def close(self, client: Any) -> None: ...


class _PyMongo:
    async def open(self, uri: str, options: Mapping[str, Any]) -> Any:
        return AsyncMongoClient(uri, **options)

    async def close(self, client: Any) -> None:
        await client.close()


class _Motor:
    def __init__(self) -> None:
        # Read at motor's import only. The default of five a core makes silent servers queue: 200
        # of them with a timeout of 2 s took 41.6 s on two cores.
        os.environ.setdefault("MOTOR_MAX_WORKERS", str(MOTOR_THREADS))
        from motor.motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415 -- see above

        self._make: Any = AsyncIOMotorClient
        self._threads = ThreadPoolExecutor(MOTOR_THREADS, "motor-open-close")

    async def open(self, uri: str, options: Mapping[str, Any]) -> Any:
        # A mongodb+srv name is looked up by the constructor, which would block the loop.
        loop = asyncio.get_running_loop()
        make = partial(self._make, uri, io_loop=loop, **options)
        return await loop.run_in_executor(self._threads, make)

    async def close(self, client: Any) -> None:
        # It says goodbye to the server first, and would block the loop until that answers.
        await asyncio.get_running_loop().run_in_executor(self._threads, client.close)


class MongoDBDriverProbe:
    """Asks a MongoDB deployment through a client library; a fresh client for each check."""

    def __init__(self, driver: Literal["pymongo", "motor"]) -> None:
        self._library: _Library = _Motor() if driver == "motor" else _PyMongo()
        self._closing: set[asyncio.Future[None]] = set()

    def plan(
        self, connection: ConnectionString, config: Config, *, ssl_enabled: bool
    ) -> MongoDBPlan:
        """Make a plan of a row's data; see `make_plan`."""
        plan = make_plan(connection, config, ssl_enabled=ssl_enabled)
        if plan.tls and plan.tls.servername:
            raise unusable("config.tls.servername: the client libraries cannot do that")
        return plan

    async def ask(self, plan: MongoDBPlan) -> Answer:
        """Select a server, sign in, ping, close; see `ports.Probe`."""
        try:
            return await self._ask(plan, _credentials(plan))
        except OperationFailure as error:
            if error.code != AUTHENTICATION_FAILED or not await self._is_open_to_all(plan):
                raise _fault(error) from None
            return Answer()

    async def _is_open_to_all(self, plan: MongoDBPlan) -> bool:
        """Tell whether a stranger may do as users do: then nobody needs credentials."""
        try:
            await self._ask(plan, {})
        except (OperationFailure, ProbeError):
            return False
        return True

    async def _ask(self, plan: MongoDBPlan, credentials: Mapping[str, Any]) -> Answer:
        """Ask as somebody, or with empty credentials as nobody."""
        loop = asyncio.get_running_loop()
        seconds = plan.connect_timeout
        async with self._client(plan, credentials) as client:
            try:
                async with asyncio.timeout(seconds) as bound:
                    await _reach(client, plan, is_stranger=not credentials)
                    seconds = plan.command_timeout
                    bound.reschedule(loop.time() + seconds)
                    before = time.monotonic()
                    await client.admin.command("ping")
                    return Answer({Phase.PING: time.monotonic() - before})
            except (ServerSelectionTimeoutError, TimeoutError):
                # Selection looks at its own time only every half second, so ours may be first.
                srv_name = plan.hosts[0].name if plan.is_srv else None
                raise read_topology(client.topology_description, seconds, srv_name) from None
            except OperationFailure:
                raise
            except Exception as error:  # noqa: BLE001 -- the table knows which are the target's
                raise _fault(error) from None

    @asynccontextmanager
    async def _client(
        self, plan: MongoDBPlan, credentials: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        with _authority(plan) as options:
            try:
                client = await self._library.open(
                    _uri(plan), {**_options(plan), **credentials, **options}
                )
            except ssl.SSLError:
                raise unusable("config.tls.ca: no certificate in PEM form") from None
            except PyMongoError as error:
                raise _fault(error) from None
        try:
            yield client
        finally:
            closing = asyncio.ensure_future(self._library.close(client))
            self._closing.add(closing)
            closing.add_done_callback(self._closed)
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, closing.cancel)
            # A plan with short times must not lose its answer by waiting.
            patience = min(GOODBYE_SECONDS, plan.command_timeout / 2)
            await asyncio.wait({closing}, timeout=patience)

    def _closed(self, closing: asyncio.Future[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled():
            closing.exception()  # a bad goodbye does not change the answer


async def _reach(client: Any, plan: MongoDBPlan, *, is_stranger: bool) -> None:
    """Select a server and do there what `ping` does not ask for."""
    hello = await client.admin.command("hello")
    if plan.is_direct and not (hello.get("isWritablePrimary") or hello.get("secondary")):
        # A client takes any server when told to connect directly, and each of them pings.
        raise ProbeError(Reason.NOT_READY, "the server is neither primary nor secondary")
    if not is_stranger:
        return
    try:
        await client.admin.command(
            "listDatabases", nameOnly=True, authorizedDatabases=True, filter={"name": "admin"}
        )
    except OperationFailure as error:
        fault = translate(error, RULES)
        if fault and fault.reason is Reason.AUTH:
            text = f"the server demands credentials, the row has none ({error.code})"
            raise ProbeError(Reason.AUTH, text) from None
        raise


def _fault(error: Exception) -> Exception:
    """Make ours of a foreign error; one that no rule knows stays what it is."""
    return translate(error, RULES) or error


def _credentials(plan: MongoDBPlan) -> dict[str, Any]:
    if plan.username is None:
        return {}
    named = {"authSource": plan.auth_source, "authMechanism": plan.mechanism}
    return {
        "username": plan.username,
        "password": plan.password,
        **{name: value for name, value in named.items() if value},
    }


def _uri(plan: MongoDBPlan) -> str:
    """Write what cannot be said by options: the hosts, and the database as an authSource."""
    scheme, hosts = "mongodb", plan.address
    if plan.is_srv:
        scheme, hosts = "mongodb+srv", plan.hosts[0].name
    return f"{scheme}://{hosts}/{quote(plan.database or '', safe='')}"


def _options(plan: MongoDBPlan) -> dict[str, Any]:
    options: dict[str, Any] = {
        "appname": "database-health-worker",
        # All three, or one of them left at its default holds the check for half a minute.
        "serverSelectionTimeoutMS": plan.connect_timeout * 1000,
        "connectTimeoutMS": plan.host_timeout * 1000,
        "socketTimeoutMS": plan.command_timeout * 1000,
        "retryReads": False,
        "serverMonitoringMode": "poll",
        "tls": plan.tls is not None,
        "directConnection": plan.is_direct,
    }
    if plan.replica_set:
        options["replicaSet"] = plan.replica_set
    if plan.is_load_balanced:
        options["loadBalanced"] = True
    if plan.tls:
        options["tlsAllowInvalidCertificates"] = not plan.tls.verifies_chain
        options["tlsAllowInvalidHostnames"] = not plan.tls.verifies_name
    return options


@contextmanager
def _authority(plan: MongoDBPlan) -> Iterator[Mapping[str, Any]]:
    """Lend the row's CA as a file: the libraries take nothing else, and read it when made."""
    if plan.tls is None or plan.tls.ca is None:
        yield {}
        return
    with NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(plan.tls.ca)
        file.flush()
        yield {"tlsCAFile": file.name}
