"""A MongoDB replica set of one to three members."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pymongo.errors import AutoReconnect

from testbed.mongodb import Document, MongoDBOptions, MongoDBServer, mongodb_url
from testbed.programs import ProgramError, wait_until

_NAME = "rs0"
_ELECTION_SECONDS = 30.0
# A test that kills a primary should not wait ten seconds for the next one.
_SETTINGS = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200}


class MongoDBReplicaSet:
    """Members that elect a primary; the first one is preferred at the beginning."""

    def __init__(self, members: int = 1, options: MongoDBOptions | None = None) -> None:
        """Set the members up alike; the set is called `rs0` unless the options name it."""
        options = options or MongoDBOptions()
        self.options = replace(options, replica_set=options.replica_set or _NAME)
        self.members = [MongoDBServer(self.options) for _ in range(members)]

    @property
    def primary(self) -> MongoDBServer:
        """The member that takes writes now."""
        for member in self.members:
            if member.running and _hello(member).get("isWritablePrimary"):
                return member
        raise ProgramError("the replica set has no primary")

    @property
    def secondaries(self) -> list[MongoDBServer]:
        """The members that follow the primary now."""
        running = (member for member in self.members if member.running)
        return [member for member in running if _hello(member).get("secondary")]

    def start(self) -> None:
        """Start all members; at the first time initiate the set and create the users."""
        for member in self.members:
            member.start()
        first = self.members[0]
        if not _hello(first).get("setName"):
            with first.client(signed_in=False) as client:
                client.admin.command("replSetInitiate", self._configuration())
        self.await_primary()
        self.primary.create_users()
        self.await_members()

    def await_primary(self) -> MongoDBServer:
        """Wait until a member is elected and return it."""
        wait_until(self._has_primary, "the election of a primary", _ELECTION_SECONDS)
        return self.primary

    def await_members(self) -> None:
        """Wait until every running member is primary or secondary."""
        running = [member for member in self.members if member.running]
        wait_until(
            lambda: self._has_primary() and len(self.secondaries) == len(running) - 1,
            "all members of the replica set",
            _ELECTION_SECONDS,
        )

    def close(self) -> None:
        """End all members at once, for an orderly leave would wait for an election."""
        for member in self.members:
            member.kill()
            member.close()

    def url(
        self, user: str | None = None, password: str | None = None, database: str = "", **query: str
    ) -> str:
        """Write a connection string that names all members and the set."""
        if user is None and self.options.password is not None:
            user, password = self.options.root, self.options.password
        query = {"replicaSet": str(self.options.replica_set), **query}
        return mongodb_url(self.members, user, password, database, **query)

    def _has_primary(self) -> bool:
        try:
            return self.primary.running
        except (ProgramError, AutoReconnect):  # who changes its role hangs up on everybody
            return False

    def _configuration(self) -> dict[str, Any]:
        members = [
            {"_id": n, "host": f"{member.host}:{member.port}", "priority": 1 if n else 2}
            for n, member in enumerate(self.members)
        ]
        return {"_id": self.options.replica_set, "members": members, "settings": _SETTINGS}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.close)
            self.start()
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _hello(member: MongoDBServer) -> Document:
    with member.client(signed_in=False) as client:
        answer: Document = client.admin.command("hello")
        return answer
