"""How much of what nameservers say is remembered."""

from __future__ import annotations

import dns.message
import dns.resolver
import dns.rrset
import pytest

from worker.resolver import ShortAnswers


def answer(addresses: int) -> dns.resolver.Answer:
    query = dns.message.make_query("db.test.", "A")
    response = dns.message.make_response(query)
    texts = [f"192.0.2.{number}" for number in range(addresses)]
    response.answer.append(dns.rrset.from_text_list("db.test.", 3600, "IN", "A", texts))
    read = dns.message.from_wire(response.to_wire())
    assert isinstance(read, dns.message.QueryMessage)
    question = query.question[0]
    return dns.resolver.Answer(question.name, question.rdtype, question.rdclass, read)


@pytest.mark.parametrize(("addresses", "is_remembered"), [(1, True), (24, True), (60, False)])
def test_only_short_answers_are_remembered(addresses: int, *, is_remembered: bool) -> None:
    given, remembered = answer(addresses), ShortAnswers()
    key = (given.qname, given.rdtype, given.rdclass)
    remembered.put(key, given)
    assert (remembered.get(key) is given) is is_remembered
    assert given.rrset is not None
    assert len(given.rrset) == addresses
    assert bool(given.response.answer) is not is_remembered, "the rest is not kept"
