"""When a trouble of the registry is over."""

from __future__ import annotations

from worker.registry_troubles import Troubles


def test_a_claim_of_one_kind_that_works_ends_the_trouble_of_the_other_kind() -> None:
    troubles = Troubles()
    troubles.failed(("claim", "of known rows"), "a lock", concerns_all=False)
    assert troubles
    troubles.worked(("claim", "of any row"))
    assert not troubles


def test_a_statement_of_another_purpose_that_works_ends_no_trouble() -> None:
    troubles = Troubles()
    troubles.failed(("announce", "take"), "a lock", concerns_all=False)
    troubles.worked(("announce", "mark"))
    troubles.worked(("claim", "of any row"))
    assert troubles
