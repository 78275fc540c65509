"""A traceback keeps our lines and loses every secret."""

from __future__ import annotations

import pytest

from worker.crash import MAX_LINKS, MAX_MESSAGE, tell
from worker.spellings import secret_forms

SECRET = "hunter2-of-ours"


def crash(error: BaseException) -> BaseException:
    """Raise an error where a secret is a local variable, and catch it again."""
    password = SECRET
    with pytest.raises(type(error)) as caught:
        raise error
    assert password == SECRET
    return caught.value


def told(error: BaseException) -> str:
    text = tell(crash(error), secret_forms(SECRET))
    assert "hunter2" not in text
    assert "test_crash.py" in text
    return text


def test_our_lines_are_told_and_messages_are_scrubbed() -> None:
    text = told(ValueError(f"cannot take {SECRET}, sorry"))
    assert "raise error" in text
    assert "ValueError: cannot take ***, sorry" in text


def test_a_secret_in_quotes_of_pythons_is_scrubbed() -> None:
    assert "KeyError: '***'" in told(KeyError(SECRET))


def test_what_caused_an_error_comes_first_and_is_scrubbed() -> None:
    error = RuntimeError("second")
    error.__cause__ = crash(KeyError(SECRET))
    text = told(error)
    assert text.index("KeyError") < text.index("RuntimeError: second")


def test_what_was_hidden_on_purpose_stays_hidden() -> None:
    error = RuntimeError("second")
    error.__context__ = KeyError(SECRET)
    assert "KeyError" in told(error)
    error.__suppress_context__ = True
    assert "KeyError" not in told(error)


def test_the_members_of_a_group_are_told() -> None:
    text = told(ExceptionGroup(SECRET, [KeyError(SECRET), ValueError("other")]))
    assert "ValueError: other" in text


def test_a_message_without_end_or_that_cannot_be_made_ends_the_traceback_soon() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    assert "BrokenError: no message" in told(BrokenError())
    assert len(told(ValueError("x" * 1_000_000))) < MAX_MESSAGE + 5_000
    assert "hunter" not in tell(ValueError("x" * (MAX_MESSAGE - 3) + SECRET), secret_forms(SECRET))


def test_a_chain_without_end_ends() -> None:
    first = error = ValueError("0")
    for number in range(1, 100):
        error.__cause__ = ValueError(str(number))
        error = error.__cause__
    error.__cause__ = first
    assert tell(first).count("ValueError") == MAX_LINKS


def test_our_own_lines_do_not_tell_a_password_that_is_a_word_of_theirs() -> None:
    text = tell(crash(ValueError("raise")), secret_forms("raise"))
    assert "raise error" in text
    assert "ValueError: ***" in text
