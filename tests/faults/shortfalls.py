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
ANOTHER = Shortfall("another engine that hangs up or ends no line reads `closed`")
STRANGER = Shortfall("asyncpg waits in vain for the rest of an answer that is not PostgreSQL's")
CLEAR_PASSWORD = Shortfall(
    "asyncpg sends a password that PostgreSQL asks for in clear text without TLS, too"
)
SEARCH = Shortfall(
    "PyMongo and motor look for a server as long as they may, also where nothing listens",
    frozenset({Promise.TIME}),
)
FOREIGN = Shortfall(
    "they take a Redis for a MongoDB that is silent, and a PostgreSQL, or a MongoDB that demands "
    "a client certificate, for one that hangs up"
)
STRANGER_HEARD = Shortfall(
    "PyMongo may take a stranger that says something for one that hangs up or is silent",
    frozenset({Promise.ATTEMPTS}),
)
SERVERNAME = Shortfall("neither can expect another name than the host's", frozenset({Promise.TEXT}))
UNFINISHED = Shortfall(
    "PyMongo may leave a connection open that it is still making when it is closed",
    frozenset({Promise.CLOSED}),
)
FOLLOWER = Shortfall(
    "motor leaves the thread that follows a mongodb+srv name to itself for ten seconds",
    frozenset({Promise.LEAK}),
)
