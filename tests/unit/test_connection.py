"""Connection strings are split as they were written, and no fault quotes them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.connection import ConnectionString, split
from worker.errors import ProbeError
from worker.words import Reason

promise = settings(derandomize=True, max_examples=150, deadline=None)

any_text = st.text(st.characters(exclude_categories=[], exclude_characters="\0"), max_size=40)
"""Lone surrogates included."""
written = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)


def read(text: str) -> ConnectionString | ProbeError:
    try:
        return split(text)
    except ProbeError as fault:
        return fault


@promise
@given(user=written, password=written, database=written, value=written)
@example("", "", "", "")
@example("u", "x" * 4096, "d", "@:/%#?")
def test_split_gives_back_what_was_encoded(
    user: str, password: str, database: str, value: str
) -> None:
    parts = [quote(each, safe="") for each in (user, password, database, value)]
    text = "scheme://{}:{}@one.example,[::1]:99/{}?Some.Option={}".format(*parts)
    made = split(text)
    assert made.hosts == (("one.example", None), ("::1", 99))
    assert (made.username or "", made.password) == (user, password)
    assert (made.database or "", made.options) == (database, {"some.option": value})


@promise
@given(password=st.one_of(written, any_text), rest=any_text)
@example("hunter2/", "x@host")
@example("hun@ter2", "host")
@example("12/hunter2", "host")
@example("\udc80hunter2", "host")
@example("hunter2%00", "host")
@example("hunter2%ff", "host")
def test_no_fault_of_splitting_quotes_any_part_of_what_was_split(password: str, rest: str) -> None:
    secret = f"cAnaRy{password}"
    for text in (
        f"redis://u:{secret}@h/{rest}",
        f"redis://u:{secret}{rest}",
        f"redis://h/?password={secret}{rest}",
        f"redis://h:{secret}",
        f"redis://{secret}:99999{rest}",
        f"redis://[{secret}]",
        f"{secret}{rest}",
        f"redis://h/?{secret}=1",
        f"redis://h,{secret} {rest}",
    ):
        made = read(text)
        if isinstance(made, ProbeError):
            assert made.reason is Reason.MISCONFIGURED
            assert "cAnaRy" not in f"{made} {made!r}"
            assert (made.__cause__, made.__suppress_context__ or not made.__context__) == (
                None,
                True,
            )
        elif "cAnaRy" in (made.password or ""):
            assert "cAnaRy" not in repr(made)


@promise
@given(user=written, password=written, value=written)
def test_a_connection_string_shows_no_secret_in_its_repr(
    user: str, password: str, value: str
) -> None:
    text = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h/0"
    made = split(f"{text}?password={quote(value, safe='')}")
    assert repr(made) == repr(split("redis://h/0"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no URL"),
        ("see the wiki", "no URL"),
        ("redis:/h", "no URL"),
        ("://h", "no URL"),
        ("redis://", "names no host"),
        ("redis://u:p@", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis:// h", "white space"),
        ("redis://h\n", "white space"),
        ("redis://h\udc80", "control characters"),
        ("redis://h:0", "port"),
        ("redis://h:65536", "port"),
        ("redis://h:6379x", "port"),
        ("redis://h:٣", "port"),
        ("redis://[::1", "IPv6"),
        ("redis://[::1]x", "IPv6"),
        ("redis://[gg]", "IPv6"),
        ("redis://h\u00f6st", "host name"),
        ("redis://%2Ftmp%2Fredis.sock", "unix sockets"),
        ("postgresql://%2ftmp/db", "unix sockets"),
        ("postgresql:///db?host=/tmp", "option host "),
        ("postgresql:///db?hostaddr=10.0.0.1", "option hostaddr "),
        ("redis:///tmp/redis.sock", "names no host"),
        ("redis://u:p/w@h", "percent-encoded"),
        ("redis://u:p?w@h", "percent-encoded"),
        ("redis://u:p#w@h", "percent-encoded"),
        ("redis://u:p@w@h", "percent-encoded"),
        ("redis://u:%ff@h", "UTF-8"),
        ("redis://u:%00@h", "control"),
        ("redis://u:%0D%0AQUIT@h", "control"),
        ("redis://h?=1", "name=value"),
        ("redis://h?a%20b=1", "name=value"),
        ("redis://" + "h" * 20_000, "longer than"),
    ],
)
def test_what_cannot_be_split_is_misconfigured_and_says_why(text: str, says: str) -> None:
    with pytest.raises(ProbeError) as caught:
        split(text)
    assert caught.value.reason is Reason.MISCONFIGURED
    assert says in caught.value.text


def test_options_are_told_by_their_names_in_lower_case_the_last_one_counts() -> None:
    made: Mapping[str, str] = split("redis://h?A=1&a=2&B=%20&c").options
    assert made == {"a": "2", "b": " ", "c": ""}


@pytest.mark.parametrize("text", ["mongodb://u:p@ss?w=ord@host", "redis://host?db=1@x"])
def test_an_at_sign_in_the_options_may_end_a_password_and_is_refused(text: str) -> None:
    with pytest.raises(ProbeError) as caught:
        split(text)
    assert "percent-encoded" in caught.value.text


@pytest.mark.parametrize(
    "text", ["mongodb://u:p@host?appName=@account@", "postgresql://u@host?password=p@ss"]
)
def test_an_at_sign_that_belongs_to_an_option_is_taken(text: str) -> None:
    assert split(text).hosts == (("host", None),)
