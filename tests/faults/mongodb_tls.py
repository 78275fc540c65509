"""Faults of a MongoDB with TLS, or without it where it is wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex

from testbed.certificates import Certificates
from testbed.misbehaving import MisbehavingServer
from testbed.mongodb import MongoDBOptions, MongoDBServer
from testbed.mongodb_fake import greeting, hello, speaking
from tests.faults.matrix import Case, Make
from tests.faults.mongodb_cases import HANDSHAKE, MONGODB, case
from tests.faults.stage import Stage

Trust = Callable[[Certificates], Mapping[str, object]]


def showing(name: str, trust: Trust, *, demanding: bool = False, in_clear: bool = False) -> Make:
    """Make a row's case of a server that shows this certificate, and of what the row trusts."""

    @asynccontextmanager
    async def make(stage: Stage) -> AsyncIterator[Case]:
        server = _server(stage, name, demanding=demanding)
        url = server.url()
        config = {**HANDSHAKE, "tls": trust(stage.certificates)}
        yield case(
            server,
            url.replace("tls=true", "tls=false") if in_clear else url,
            server.options.password,
            config=config,
        )

    return make


@asynccontextmanager
async def expired(stage: Stage) -> AsyncIterator[Case]:
    # A mongod refuses to start with such a certificate, and shows it once its time has come.
    context = stage.certificates.expired.server_context()
    with MisbehavingServer(speaking(greeting(hello())), tls=context) as server:
        secret = stage.secret()
        url = MONGODB.url(secret, server.host, server.port, tls=True)
        yield case(server, url, secret, config={**HANDSHAKE, "tls": _ours(stage.certificates)})


@asynccontextmanager
async def clear_text(stage: Stage) -> AsyncIterator[Case]:
    server = stage.mongodb()
    yield case(server, server.url(tls="true"), server.options.password, config=HANDSHAKE)


def _server(stage: Stage, name: str, *, demanding: bool) -> MongoDBServer:
    options = MongoDBOptions(
        password=token_hex(12),
        certificate=getattr(stage.certificates, name),
        client_certificates=demanding,
    )
    name = f"mongodb showing {name}{', demanding one' if demanding else ''}"
    return stage.shared(name, lambda: MongoDBServer(options))


def _ours(certificates: Certificates) -> Mapping[str, object]:
    return {"ca": certificates.ca.decode()}


def _nothing(_: Certificates) -> Mapping[str, object]:
    return {}


MAKERS: dict[str, Make] = {
    "unknown CA": showing("unknown_ca", _ours),
    "a CA that the system does not know": showing("good", _nothing),
    "wrong host name": showing("other_name", _ours),
    "expired": expired,
    "client certificate demanded": showing("good", _ours, demanding=True),
    "TLS reached in clear text": showing("good", _ours, in_clear=True),
    "a real one reached with TLS that has none": clear_text,
    "private CA": showing("good", _ours),
    "rejectUnauthorized false": showing("unknown_ca", lambda _: {"rejectUnauthorized": False}),
    "servername": showing("other_name", lambda c: {**_ours(c), "servername": "elsewhere.test"}),
    "wrong servername": showing("good", lambda c: {**_ours(c), "servername": "nowhere.test"}),
}
