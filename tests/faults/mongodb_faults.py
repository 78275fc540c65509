"""The table's rows for MongoDB."""

from __future__ import annotations

from tests.faults import mongodb_fakes, mongodb_sets, mongodb_single, mongodb_srv, mongodb_tls
from tests.faults.matrix import Expected, Fault, Make, Shortfall, expect, ways
from tests.faults.mongodb_cases import MONGODB
from tests.faults.shortfalls import ENDLESS, ITERATIONS
from tests.faults.socket_faults import makers
from worker.model import Engine, Reason

_MAKERS: dict[str, Make] = {
    **mongodb_single.MAKERS,
    **mongodb_sets.MAKERS,
    **mongodb_tls.MAKERS,
    **mongodb_fakes.MAKERS,
    **mongodb_srv.MAKERS,
    **makers(MONGODB),
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
    "killed with -9, back again": expect(Reason.OK),
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
    "hardly any SCRAM iterations": expect(Reason.PROTOCOL, says="iterations"),
    "another's SCRAM nonce": expect(Reason.PROTOCOL, says="nonce"),
    "no SCRAM challenge": expect(Reason.PROTOCOL),
    "cannot prove that it knows the user": expect(Reason.PROTOCOL),
    "answers nothing but ok": expect(Reason.NOT_READY),
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
    "replies without end": expect(Reason.PROTOCOL),
    "declares 2 GB": expect(Reason.PROTOCOL),
    "its queue of callers is full": expect(Reason.TIMEOUT),
    "closes during authentication": expect(Reason.CLOSED),
    "closes during ping": expect(Reason.CLOSED),
    "never answers the ping": expect(Reason.TIMEOUT, says="ping"),
    "TLS alone reached in clear text": expect(Reason.PROTOCOL, Reason.CLOSED),
    "clear text reached with TLS": expect(Reason.TLS),
}
_DRIVERS: dict[str, Expected | Shortfall] = {
    "2^31-1 SCRAM iterations": ITERATIONS,
    "declares 2 GB": expect(Reason.PROTOCOL, but=[ENDLESS]),
}
_MOTOR: dict[str, Expected | Shortfall] = {}


def _row(name: str, make: Make) -> Fault:
    drivers = _DRIVERS.get(name, _EXPECTED[name])
    return Fault(
        name=name,
        engine=Engine.MONGODB,
        make=make,
        expected=ways(_EXPECTED[name], drivers, _MOTOR.get(name, drivers)),
    )


ROWS: tuple[Fault, ...] = tuple(_row(name, make) for name, make in _MAKERS.items())
