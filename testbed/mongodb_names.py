"""A nameserver on loopback that tells the hosts and options of `mongodb+srv` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver
import dns.rrset

from testbed.faulty_nameserver import FaultyNameserver

Records = Mapping[tuple[str, str], Sequence[str] | None]
"""Texts of records by name and kind, `("x.test.", "TXT"): ["a=b"]`; None is never answered."""


class SeedNameserver(FaultyNameserver):
    """Knows records of any kind beside its names."""

    def __init__(self, names: Mapping[str, Sequence[str]], records: Records) -> None:
        """Take addresses by name and records by name and kind; names end in a dot."""
        super().__init__(names)
        self._records = records

    @contextmanager
    def for_everybody(self) -> Iterator[None]:
        """Make dnspython and `socket` ask here, whoever calls them."""
        before = dns.resolver.default_resolver, dns.asyncresolver.default_resolver
        dns.asyncresolver.default_resolver = self.resolver()  # type: ignore[assignment]  # untyped there, None at first
        blocking = dns.resolver.Resolver(configure=False)
        blocking.nameservers, blocking.port = [self.host], self.port
        dns.resolver.default_resolver = blocking
        dns.resolver.override_system_resolver(blocking)
        try:
            yield
        finally:
            dns.resolver.restore_system_resolver()
            dns.resolver.default_resolver, dns.asyncresolver.default_resolver = before

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        asked = query.question[0]
        key = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
        if key not in self._records:
            return super()._answer(query)
        texts = self._records[key]
        if texts is None:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        answer.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", asked.rdtype, texts))
        return answer
