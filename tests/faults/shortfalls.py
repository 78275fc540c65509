"""What the client libraries cannot do better; each one's words stand in the README."""

from __future__ import annotations

from tests.faults.matrix import Promise, Shortfall

ADDRESS_RULES = Shortfall("address rules do not hold")
LOOK_UP = Shortfall("a name is looked up by the library")
OWN_NETWORK = Shortfall("the loss of our own network looks like the server's")
ENDLESS = Shortfall(
    "a server that replies without end costs memory and time", frozenset({Promise.TIME})
)
HUGE = Shortfall("one that declares a huge reply is waited for")
ITERATIONS = Shortfall("one that asks for millions of SCRAM iterations blocks the loop")
ANOTHER = Shortfall("another engine that hangs up reads `closed`")
STRANGER = Shortfall("asyncpg waits in vain for the rest of an answer that is not PostgreSQL's")
CLEAR_PASSWORD = Shortfall(
    "asyncpg sends a password that PostgreSQL asks for in clear text without TLS, too"
)
