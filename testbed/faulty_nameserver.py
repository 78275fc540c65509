"""A nameserver on loopback that knows a few names, and is silent or broken where it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

HANGS = "hangs.test."
"""A name whose look-up is never answered."""
BROKEN = "broken.test."
"""A name whose own nameservers are out of order."""
_DATAGRAM = 4096
_KINDS = {dns.rdatatype.A: ".", dns.rdatatype.AAAA: ":"}


class FaultyNameserver:
    """Answers over UDP in a thread of its own; of any other name it says that there is none."""

    def __init__(
        self,
        names: Mapping[str, Sequence[str]] | None = None,
        *,
        is_silent: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Take addresses by name, which ends in a dot; a silent one answers nothing at all."""
        self.host = host
        self._names = names or {}
        self._is_silent = is_silent
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.host, port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="nameserver", daemon=True)

    def resolver(self) -> dns.asyncresolver.Resolver:
        """Make a resolver that asks this one only."""
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers, made.port = [self.host], self.port
        return made

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread; the error is its way
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                question, sender = self._socket.recvfrom(_DATAGRAM)
            except OSError:
                return
            if not question:
                return
            answer = self._answer(dns.message.from_wire(question))
            if answer is not None:
                self._socket.sendto(answer.to_wire(), sender)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        asked = query.question[0]
        name = asked.name.to_text().lower()
        if self._is_silent or name == HANGS:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name == BROKEN:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name in self._names:
            mark = _KINDS.get(asked.rdtype, "none")
            found = [text for text in self._names[name] if mark in text]
            if found:
                answer.answer.append(dns.rrset.from_text_list(name, 60, "IN", asked.rdtype, found))
        elif name != ".":
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
