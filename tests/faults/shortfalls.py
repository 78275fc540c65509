"""What the client libraries cannot do better; each one's words stand in the README."""

from __future__ import annotations

from tests.faults.matrix import Shortfall

ENDLESS = Shortfall("a server that replies without end or declares a huge reply costs memory")
CLEAR_PASSWORD = Shortfall(
    "asyncpg sends a password that PostgreSQL asks for in clear text without TLS, too"
)
ITERATIONS = Shortfall("one that asks for millions of SCRAM iterations blocks the loop")
STRANGER = Shortfall("asyncpg waits in vain for the rest of an answer that is not PostgreSQL's")
ADDRESS_RULES = Shortfall("address rules do not hold")
LOOK_UP = Shortfall("a name is looked up by the library")
