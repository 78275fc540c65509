"""The table's rows for MongoDB."""

from __future__ import annotations

from dataclasses import replace

from testbed.misbehaving import MisbehavingServer, answering
from tests.faults import mongodb_fakes, mongodb_sets, mongodb_single, mongodb_srv, mongodb_tls
from tests.faults.matrix import Expected, Fault, Make, Shortfall, Way, expect, ways
from tests.faults.mongodb_cases import HANDSHAKE, MONGODB
from tests.faults.shortfalls import (
    ADDRESS_RULES,
    FOLLOWER,
    FOREIGN,
    ITERATIONS,
    LOOK_UP,
    SEARCH,
    SERVERNAME,
    STRANGER_HEARD,
    UNFINISHED,
)
from tests.faults.socket_faults import at, makers
from worker.words import Engine, Reason

_MAKERS: dict[str, Make] = {
    **mongodb_single.MAKERS,
    **mongodb_sets.MAKERS,
    **mongodb_tls.MAKERS,
    **mongodb_fakes.MAKERS,
    **mongodb_srv.MAKERS,
    **makers(MONGODB),
    "clear text reached with TLS": at(
        replace(MONGODB, config=HANDSHAKE),
        lambda: MisbehavingServer(answering(MONGODB.welcome)),
        tls=True,
    ),
}
_EXPECTED: dict[str, Expected] = {
    "wrong password": expect(Reason.AUTH, says="authSource"),
    "unknown user": expect(Reason.AUTH, says="authSource"),
    "wrong authSource": expect(Reason.AUTH, says="authSource"),
    "no credentials where they are demanded": expect(Reason.AUTH, says="demands credentials"),
    "credentials where none are demanded": expect(Reason.OK),
    "in no set, but replicaSet is given": expect(Reason.MISCONFIGURED, says="replicaSet"),
    "no load balancer, but loadBalanced is true": expect(Reason.MISCONFIGURED),
    "several that are in no set": expect(Reason.MISCONFIGURED),
    "connection limit": expect(Reason.CLOSED, Reason.SATURATED),
    "stopped by a signal": expect(Reason.TIMEOUT),
    **{
        f"{command} {name}": expected
        for command in mongodb_single.COMMANDS
        for name, expected in (
            ("fails for a shutdown", expect(Reason.NOT_READY)),
            ("fails for an unknown error", expect(Reason.NOT_READY)),
            ("closes the connection", expect(Reason.CLOSED)),
            ("blocks", expect(Reason.TIMEOUT)),
        )
    },
    "wrong replicaSet name": expect(Reason.MISCONFIGURED, says="replicaSet"),
    "a set of which one secondary is named": expect(Reason.OK),
    "secondary with directConnection": expect(Reason.OK),
    "primary stepped down": expect(Reason.NOT_READY, says="no primary"),
    "majority lost": expect(Reason.NOT_READY, says="no primary"),
    "primary killed with -9": expect(Reason.NOT_READY, Reason.REFUSED),
    "primary killed with -9, another one elected": expect(Reason.OK),
    "replica set not initiated": expect(Reason.NOT_READY),
    "replica set not initiated, with directConnection": expect(Reason.NOT_READY),
    "unknown CA": expect(Reason.TLS, says="certificate"),
    "a CA that the system does not know": expect(Reason.TLS, says="certificate"),
    "wrong host name": expect(Reason.TLS, says="certificate"),
    "expired": expect(Reason.TLS, says="expired"),
    "client certificate demanded": expect(Reason.TLS),
    "TLS reached in clear text": expect(Reason.PROTOCOL, Reason.CLOSED),
    "a real one reached with TLS that has none": expect(Reason.TLS),
    "private CA": expect(Reason.OK),
    "rejectUnauthorized false": expect(Reason.OK),
    "servername": expect(Reason.OK),
    "wrong servername": expect(Reason.TLS),
    "names a blocked host": expect(Reason.BLOCKED),
    "a Redis": expect(Reason.PROTOCOL, says="Redis"),
    "a PostgreSQL": expect(Reason.PROTOCOL, says="PostgreSQL"),
    "announces one more answer each time": expect(Reason.PROTOCOL),
    "2^31-1 SCRAM iterations": expect(Reason.PROTOCOL, says="iterations"),
    "hardly any SCRAM iterations": expect(Reason.PROTOCOL, says="iteration"),
    "another's SCRAM nonce": expect(Reason.PROTOCOL, says="nonce"),
    "no SCRAM challenge": expect(Reason.PROTOCOL),
    "cannot prove that it knows the user": expect(Reason.PROTOCOL),
    "SRV and TXT options": expect(Reason.OK),
    "SRV with several hosts": expect(Reason.OK),
    "TXT with a wrong replicaSet": expect(Reason.MISCONFIGURED, says="replicaSet"),
    "TXT without authSource": expect(Reason.AUTH, says="authSource"),
    "TXT with a forbidden option": expect(Reason.MISCONFIGURED, says="TXT"),
    "TXT with loadBalanced and several hosts": expect(Reason.MISCONFIGURED, says="loadBalanced"),
    "SRV outside of the domain": expect(Reason.MISCONFIGURED),
    "no SRV record": expect(Reason.DNS),
    "SRV look-up that hangs": expect(Reason.DNS),
    "SRV target that is blocked": expect(Reason.BLOCKED),
    "nothing listens": expect(Reason.REFUSED),
    "closes during connect": expect(Reason.CLOSED),
    "resets during connect": expect(Reason.CLOSED),
    "is silent": expect(Reason.TIMEOUT),
    "sends a byte a second": expect(Reason.TIMEOUT),
    "answers after the time": expect(Reason.TIMEOUT),
    "answers HTTP": expect(Reason.PROTOCOL, says="HTTP"),
    "greets as SSH does": expect(Reason.PROTOCOL, says="SSH"),
    "greets as MySQL does": expect(Reason.PROTOCOL),
    "replies without end": expect(Reason.PROTOCOL),
    "declares 2 GB": expect(Reason.PROTOCOL),
    "its queue of callers is full": expect(Reason.TIMEOUT),
    "closes during authentication": expect(Reason.CLOSED),
    "closes during ping": expect(Reason.CLOSED),
    "never answers the ping": expect(Reason.TIMEOUT, says="ping"),
    "clear text reached with TLS": expect(Reason.TLS),
    "TLS alone reached in clear text": expect(Reason.PROTOCOL, Reason.CLOSED),
}
_DRIVERS: dict[str, Expected | Shortfall] = {
    "client certificate demanded": expect(Reason.CLOSED, but=[FOREIGN]),
    "servername": expect(Reason.MISCONFIGURED, says="servername", but=[SERVERNAME]),
    "wrong servername": expect(Reason.MISCONFIGURED, says="servername", but=[SERVERNAME]),
    "names a blocked host": expect(Reason.TIMEOUT, but=[ADDRESS_RULES]),
    "a Redis": expect(Reason.TIMEOUT, but=[FOREIGN]),
    "a PostgreSQL": expect(Reason.CLOSED, but=[FOREIGN]),
    "2^31-1 SCRAM iterations": ITERATIONS,
    **dict.fromkeys(
        (
            "SRV and TXT options",
            "SRV with several hosts",
            "TXT with a wrong replicaSet",
            "TXT without authSource",
            "SRV target that is blocked",
        ),
        LOOK_UP,
    ),
    "TXT with a forbidden option": expect(Reason.MISCONFIGURED, says="DNS"),
    "nothing listens": expect(Reason.REFUSED, but=[SEARCH]),
    "answers HTTP": expect(Reason.CLOSED, Reason.PROTOCOL, but=[STRANGER_HEARD]),
    "greets as SSH does": expect(Reason.CLOSED, Reason.PROTOCOL, but=[STRANGER_HEARD]),
    "greets as MySQL does": expect(Reason.TIMEOUT, Reason.PROTOCOL, but=[STRANGER_HEARD]),
    **dict.fromkeys(
        ("replies without end", "declares 2 GB", "announces one more answer each time"),
        expect(Reason.CLOSED, Reason.PROTOCOL, but=[STRANGER_HEARD]),
    ),
    "never answers the ping": expect(Reason.TIMEOUT),
}
_MOTOR: dict[str, Expected | Shortfall] = {
    # Its look-ups are the system's, which a test may answer.
    "SRV and TXT options": expect(Reason.OK, but=[FOLLOWER]),
    "SRV with several hosts": expect(Reason.OK, but=[FOLLOWER]),
    "TXT with a wrong replicaSet": expect(Reason.MISCONFIGURED, says="replicaSet", but=[FOLLOWER]),
    "TXT without authSource": expect(Reason.AUTH, says="authSource", but=[FOLLOWER]),
    "SRV target that is blocked": expect(Reason.TIMEOUT, but=[ADDRESS_RULES, FOLLOWER]),
    "answers HTTP": expect(Reason.PROTOCOL),
    "greets as SSH does": expect(Reason.PROTOCOL),
    "greets as MySQL does": expect(Reason.PROTOCOL),
    **dict.fromkeys(
        ("replies without end", "declares 2 GB", "announces one more answer each time"),
        expect(Reason.PROTOCOL),
    ),
}


def _row(name: str, make: Make) -> Fault:
    drivers = _DRIVERS.get(name, _EXPECTED[name])
    motor = _MOTOR.get(name, drivers)
    if isinstance(drivers, Expected):
        drivers = replace(drivers, shortfalls=(*drivers.shortfalls, UNFINISHED))
    return Fault(
        name=name,
        engine=Engine.MONGODB,
        make=make,
        expected=ways(_EXPECTED[name], drivers, motor),
    )


def asked(*those: Way) -> tuple[Fault, ...]:
    """Take of each row the cells of these ways alone."""
    return tuple(replace(row, expected={way: row.expected[way] for way in those}) for row in ROWS)


ROWS: tuple[Fault, ...] = tuple(_row(name, make) for name, make in _MAKERS.items())
