"""Redis asked through redis-py's asyncio connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.connection import ConnectionString
from worker.errors import NETWORK_RULES, ProbeError, Reading, Rule, reading, translate
from worker.model import Answer
from worker.plan import Config, TlsRules
from worker.probes.redis import RedisPlan, make_plan, read_error
from worker.tls import build_context
from worker.words import Reason

_STRANGER = "the answer is not Redis'"


def _error_reply(error: BaseException) -> Reading | None:
    """Read an error reply; redis-py takes the code off those that it has a class for."""
    code = getattr(error, "status_code", None)
    if not code and not isinstance(error, ResponseError):
        return None
    fault = read_error(f"{code} {error}" if code else str(error))
    return fault.reason, fault.text


def _closed_handle(error: BaseException) -> Reading | None:
    """Read what uvloop makes of a write after the server's reset."""
    is_closed = "the handler is closed" in str(error)
    return (Reason.CLOSED, "the server closed the connection") if is_closed else None


_RULES: tuple[Rule, ...] = (
    (RuntimeError, _closed_handle),
    (InvalidResponse, reading(Reason.PROTOCOL, _STRANGER)),
    (RedisError, _error_reply),
    (RedisTimeoutError, reading(Reason.TIMEOUT, "no answer in the configured time")),
    # A certificate's fault is a ValueError, too: those of the network come first.
    *NETWORK_RULES,
    (ValueError, reading(Reason.PROTOCOL, _STRANGER)),  # an endless line, a length that is none
)


@lru_cache(maxsize=256)
def _context(rules: TlsRules) -> ssl.SSLContext:
    return build_context(rules)


class _Connection(Connection):
    """A connection with TLS by our rules, which can be dropped at once."""

    def __init__(self, plan: RedisPlan) -> None:
        super().__init__(
            host=plan.hosts[0].name,
            port=plan.hosts[0].port,
            db=plan.index,
            username=plan.username,
            password=plan.password,
            socket_timeout=plan.attempt_timeout,
            socket_connect_timeout=plan.connect_timeout,
            retry=Retry(NoBackoff(), 0),  # 10 by default: a timeout of 1 s took 13.5 s
            protocol=2,  # these two spare HELLO and two CLIENT SETINFO
            driver_info=None,
        )
        self._rules = plan.tls
        self._transport: asyncio.WriteTransport | None = None

    def abort(self) -> None:
        """Close at once; redis-py's own closing waits for the server's goodbye in TLS."""
        if self._transport is not None:
            self._transport.abort()
        self._close()  # type: ignore[no-untyped-call]  # redis-py gives no types here

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {"host": self.host, "port": self.port}
        if self._rules is not None:
            arguments["ssl"] = _context(replace(self._rules, servername=None))
            arguments["server_hostname"] = self._rules.servername or self.host
        return arguments

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]  # as above
        self._transport = self._writer.transport if self._writer else None


class RedisDriverProbe:
    """Asks a Redis as an application with redis-py would."""

    def plan(self, connection: ConnectionString, config: Config, *, ssl_enabled: bool) -> RedisPlan:
        """Make a plan of a row's data; see `make_plan`."""
        return make_plan(connection, config, ssl_enabled=ssl_enabled)

    async def ask(self, plan: RedisPlan) -> Answer:
        """Connect, authenticate, select, ping, close; see `ports.Probe`."""
        connection = _Connection(plan)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(plan.connect_timeout) as bound:
                await connection.connect()  # type: ignore[no-untyped-call]  # as above
                bound.reschedule(loop.time() + plan.command_timeout)
                await connection.send_command("PING", check_health=False)
                reply = await connection.read_response()
            if reply != b"PONG":
                raise ProbeError(Reason.PROTOCOL, _STRANGER)
            return Answer()
        except (RedisError, OSError, ValueError, RuntimeError) as error:
            if fault := translate(error, _RULES):
                raise fault from None
            if isinstance(error, RedisConnectionError):
                # No cause, no code: redis-py met the end of the stream.
                text = "the server closed the connection"
                raise ProbeError(Reason.CLOSED, text) from None
            raise
        finally:
            connection.abort()
