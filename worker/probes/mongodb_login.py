"""Who asks a MongoDB: SCRAM by `speculativeAuthenticate` or `saslStart`, or nobody in particular.

Facts: the MongoDB specification "Driver Authentication".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from worker.errors import ProbeError
from worker.probes.mongodb_plan import SCRAM, MongoDBPlan
from worker.probes.mongodb_wire import (
    AUTHENTICATION_FAILED,
    CommandError,
    Conversation,
    Document,
)
from worker.scram import SaltedPasswords, ScramClient
from worker.words import Reason


class Login:
    """The credentials of a plan on one connection; shows nothing."""

    def __init__(self, plan: MongoDBPlan, store: SaltedPasswords) -> None:
        self._user = plan.username or ""
        self._password = plan.password or ""
        self._mechanism = plan.mechanism
        self._source = plan.source
        self._store = store
        self._scram = self._client(self._mechanism or SCRAM[0])

    def in_hello(self) -> Document:
        """What `hello` may carry, so that signing in costs one round trip less."""
        start = {**self._start(self._mechanism or SCRAM[0]), "db": self._source}
        del start["$db"]
        if self._mechanism:
            return {"speculativeAuthenticate": start}
        supported = f"{self._source}.{self._user}"
        return {"saslSupportedMechs": supported, "speculativeAuthenticate": start}

    async def finish(self, talk: Conversation, hello: Document) -> None:
        """Sign in, going on from the server's answer to `hello` where it began there.

        Raises:
            CommandError: the server refuses, code 18 for wrong credentials.
            ProbeError: `protocol` for an absurd or wrong answer.
        """
        reply = hello.get("speculativeAuthenticate")
        mechanism = self._chosen(hello)
        if not isinstance(reply, Mapping) or mechanism != (self._mechanism or SCRAM[0]):
            self._scram = self._client(mechanism)
            reply = await talk.run(self._start(mechanism))
        proof = await self._scram.final(_payload(reply))
        reply = await talk.run(self._continue(reply, proof))
        self._scram.verify(_payload(reply))
        if reply.get("done") is not True:
            # Before 4.4 servers do not know skipEmptyExchange.
            reply = await talk.run(self._continue(reply, b""))
            if reply.get("done") is not True:
                raise ProbeError(Reason.PROTOCOL, "the server does not end the SCRAM conversation")

    def _chosen(self, hello: Document) -> str:
        """Choose as drivers do: named, else the best that the user has, else the oldest."""
        if self._mechanism:
            return self._mechanism
        supported = hello.get("saslSupportedMechs")
        has_new = isinstance(supported, list) and SCRAM[0] in supported
        return SCRAM[0] if has_new else SCRAM[1]

    def _client(self, mechanism: str) -> ScramClient:
        password = self._password
        if mechanism == SCRAM[1]:
            digest = f"{self._user}:mongo:{password}".encode()
            password = hashlib.md5(digest, usedforsecurity=False).hexdigest()
        return ScramClient(mechanism, self._user, password, self._store)

    def _start(self, mechanism: str) -> dict[str, Any]:
        return {
            "saslStart": 1,
            "mechanism": mechanism,
            "payload": self._scram.first(),
            "autoAuthorize": 1,
            "options": {"skipEmptyExchange": True},
            "$db": self._source,
        }

    def _continue(self, reply: Document, payload: bytes) -> Document:
        conversation = reply.get("conversationId")
        return {
            "saslContinue": 1,
            "conversationId": conversation if isinstance(conversation, int) else 1,
            "payload": payload,
            "$db": self._source,
        }


async def sign_in(talk: Conversation, login: Login | None, hello: Document) -> None:
    """Make sure that these credentials, or none, let somebody in.

    Raises:
        ProbeError: `auth` where they do not; see `Login.finish`.
    """
    if login is None:
        await _demand_openness(talk)
        return
    try:
        await login.finish(talk, hello)
    except CommandError as error:
        # Without access control a server still refuses users that it does not know, and then
        # lets them do everything: it is the refusal of a stranger that makes this `auth`.
        if error.code != AUTHENTICATION_FAILED or not await _is_open_to_all(talk):
            raise


async def _demand_openness(talk: Conversation) -> None:
    try:
        await talk.act_as_user()
    except CommandError as error:
        if error.reason is Reason.AUTH:
            text = f"the server demands credentials, the row has none ({error.code})"
            raise ProbeError(Reason.AUTH, text) from None
        if error.is_known:
            raise


async def _is_open_to_all(talk: Conversation) -> bool:
    try:
        await talk.act_as_user()
    except ProbeError:
        return False
    return True


def _payload(reply: Document) -> bytes:
    payload = reply.get("payload")
    if not isinstance(payload, bytes):
        raise ProbeError(Reason.PROTOCOL, "the server's SCRAM answer holds no payload")
    return payload
