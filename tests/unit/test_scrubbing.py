"""No text shows a secret in any form."""

from __future__ import annotations

import base64
import json
import random
import time
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.quoting import MAX_ERROR_CHARACTERS, clean, quoted
from worker.scrubbing import MASK, scrub, scrub_quotes
from worker.spellings import MAX_SPELLED, MIN_COMMON_CHARACTERS, secret_forms, secrets_of

promise = settings(derandomize=True, max_examples=150, deadline=None)

HOSTILE = (
    *("p@ss", "p:ss", "p/ss", "p%ss", "p#ss", "p?ss", "%41%42%43%44", "%%%%", "pa ss word"),
    *(
        'it\'s "so"',
        "pässwörd",
        "пароль",
        "密码密码",
        "🔑🔑🔑🔑",
        "a\u00a0b\u2028c",
        "\x01\x02\x03\x04",
    ),
    *("back\\slash", "p&q=r", "p+ss+word", "....", "password", "server", "(host)", "redis://u:p@h"),
    *("x" * 4096, "@:/%#?" * 700, "pw…", '"""""', "***", "****"),
)
any_text = st.text(st.characters(exclude_categories=[], exclude_characters="\0"), max_size=40)
"""Lone surrogates included."""
passwords = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=4, max_size=40
    ),
)
written = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def spellings(secret: str) -> set[str]:
    """List forms of a secret, not by asking the code under test."""
    plain = {secret, unquote(secret)}
    plain |= {quote(secret, safe="", errors="surrogatepass")}
    plain |= {quote_plus(secret, errors="surrogatepass"), quote(secret, errors="surrogatepass")}
    octets = [text.encode(errors="surrogatepass") for text in plain]
    forms = plain | {base64.b64encode(each).decode().rstrip("=") for each in octets}
    forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return {form for form in forms if len(form) >= 4 and set(form) != {"*"}}


def shown(text: str, secret: str) -> set[str]:
    return {form for form in spellings(secret) if form in text}


@promise
@given(password=passwords, before=st.text(max_size=20), after=st.text(max_size=20))
@example("password", "wrong ", " given")
@example("pw…", "", "…")
@example("a\u00a0b\u2028c", "", "")
def test_scrub_leaves_no_form_of_a_secret(password: str, before: str, after: str) -> None:
    forms = secret_forms(password)
    for form in spellings(password):
        assert not shown(scrub(f"{before}{form}{after}", forms), password)


@promise
@given(password=passwords, before=st.text(max_size=60), limit=st.integers(1, 80))
@example("password" * 9, "the word is ", 20)
@example("a\u00a0b\u2028c" * 5, "", 12)
@example('quo"te quo"te', "x", 8)
def test_a_quotation_shows_no_secret_and_no_beginning_of_one_that_was_cut(
    password: str, before: str, limit: int
) -> None:
    ours = f"the server says {quoted(f'{before}{password}', limit)} (h:1)"
    text = scrub_quotes(ours, secret_forms(password))
    assert text.startswith('the server says "')
    assert text.endswith('" (h:1)')
    assert len(ours) <= len('the server says "" (h:1)') + limit + 1
    said = text[len('the server says "') : -len('" (h:1)')]
    assert not shown(said, password)
    room = limit - len(before)
    if "…" in said and 0 < room < len(password):
        assert said.endswith(f"{MASK}…") or not said.endswith(f"{password[:room]}…")


def test_our_own_words_stay_whatever_the_password_is() -> None:
    text = 'wrong user name or password: the server says "password is wrong" (server:1)'
    expected = 'wrong user name or password: the server says "*** is wrong" (server:1)'
    assert scrub_quotes(text, secret_forms("password")) == expected


@pytest.mark.parametrize("password", ["a", "no", "abc", "%41", "é"])
def test_beside_a_short_secret_nothing_of_the_strangers_words_is_shown(password: str) -> None:
    text = scrub_quotes(f'the server says "no {password} abc" (h:1)', secret_forms(password))
    assert text == 'the server says "***" (h:1)'


@pytest.mark.parametrize("password", ["pass\u00a0word", 'pass"word', "pass\x01word\x02"])
def test_a_secret_is_found_as_the_quotation_shows_it(password: str) -> None:
    text = scrub_quotes(f"it says {quoted(f'no {password}!', 80)}", secret_forms(password))
    assert text == f'it says "no {MASK}!"'


def test_a_part_of_a_secret_that_somebody_cut_for_us_is_masked() -> None:
    text = scrub("it begins hunter2-or and ends or-hunter3", secret_forms("hunter2-or-hunter3"))
    assert text == "it begins *** and ends ***"


def test_an_option_is_a_secret_as_a_whole() -> None:
    assert "ab:cd" not in scrub("broke on ab:cd!", secrets_of("redis://host/?password=ab:cd"))


def test_an_empty_password_hides_nothing() -> None:
    assert secret_forms("") == ()
    assert scrub('"words"', secret_forms("")) == '"words"'


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:hunter2@host/0",
        "redis://:hun@ter2@host",
        "failed: postgresql://u:hunter2@h/db, again",
        "mongodb://h/?x=1&password=hunter2&y=2",
        "postgresql://h/db?password=hunter2",
    ],
)
def test_whatever_looks_like_a_url_loses_its_secrets_though_nobody_named_them(text: str) -> None:
    assert "ter2" not in scrub(text)
    assert MASK in scrub(text)


def test_a_text_without_secrets_stays_as_it_is() -> None:
    text = "the registry at db.example:5432 cannot be used (https://example.com/docs), see a@b"
    assert scrub(text) == text


@promise
@given(password=passwords, value=passwords)
def test_every_part_of_a_connection_string_that_breaks_our_code_is_a_secret(
    password: str, value: str
) -> None:
    for text in (
        f"redis://user:{password}@host/0?password={value}",
        f"redis://user:{quote(password, safe='')}@host/0?password={quote(value, safe='')}",
    ):
        secrets = secrets_of(text)
        for part in (text, password, value):
            if not set(part) & set("@:/?#&=,; \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u00a0\u2028"):
                assert not shown(scrub(f"broke on {part}!", secrets), part)
    for text in ("see the wiki: bob has hunter2", f"redis://{password}"):
        assert "hunter2" not in scrub(text, secrets_of(text))


@promise
@given(text=any_text)
@example("a\0b\x7f\x1b[31m\udc80\u202e")
@example("x" * 100_000)
def test_clean_makes_one_short_printable_line_that_postgresql_takes(text: str) -> None:
    made = clean(text)
    assert made.isprintable()
    assert len(made) <= MAX_ERROR_CHARACTERS
    made.encode()
    assert clean(made) == made


@promise
@given(secret=any_text)
def test_forms_can_be_made_of_anything(secret: str) -> None:
    forms = secret_forms(secret)
    assert bool(forms) == bool(secret)
    secrets_of(secret)


@promise
@given(
    password=passwords,
    form=st.integers(0, 99),
    start=st.integers(0, 60),
    size=st.integers(MIN_COMMON_CHARACTERS, 80),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
@example("@:/%#?" * 600, 1, 3, 80, "", "")
@example("p\xe4ssw\xf6rd", 0, 3, 9, "xyz", "zyx")
def test_no_run_of_six_characters_of_any_form_is_left(
    password: str, form: int, start: int, size: int, before: str, after: str
) -> None:
    """Written down as one loop over all windows, which the code under test cannot afford."""
    exact = spellings(password)
    forms = sorted(exact | {each.lower() for each in exact if each.isascii()})
    if not forms:
        return
    chosen = forms[form % len(forms)]
    start %= len(chosen)
    said = scrub(before + chosen[start : start + size] + after, secret_forms(password))
    for part in said.split(MASK):
        for at in range(len(part) - MIN_COMMON_CHARACTERS + 1):
            window = part[at : at + MIN_COMMON_CHARACTERS]
            assert not any(window in each for each in forms), window


@pytest.mark.parametrize("said", ["HUNTER2-Or-Else", "sHVUdGVyMi1vci1lbHNl", "%C3%a9t%c3%A9"])
def test_case_hides_no_secret(said: str) -> None:
    forms = (*secret_forms("hunter2-or-else"), *secret_forms("\u00e9t\u00e9\u00e9t\u00e9"))
    shown_again = scrub(said, forms)
    assert MASK in shown_again
    assert len(shown_again.replace(MASK, "")) <= 1


@promise
@given(password=passwords, before=written, after=written)
@example("hunter2-zebra", "default:", "")
@example("s3cr", "u:", "\n")
def test_base64_of_a_text_around_a_secret_shows_at_most_what_neighbours_share(
    password: str, before: str, after: str
) -> None:
    """Its characters at either edge hold bits of the text around, too: those may stay."""
    start = len(before.encode())
    end = start + len(password.encode())
    coded = base64.b64encode(f"{before}{password}{after}".encode()).decode().rstrip("=")
    core = coded[-(-start * 8 // 6) : end * 8 // 6]
    if unquote(password) == password and set(password) - {"*"}:
        assert core not in scrub(coded, secret_forms(password))


@pytest.mark.parametrize("before", ["", "u:", "me:", "AUTH ", "default:", "\0u\0"])
@pytest.mark.parametrize("password", ["hunter2-zebra", "s3cr", "s3cr3", "p\u00e4ss"])
def test_a_secret_is_masked_in_base64_wherever_it_begins_in_a_longer_text(
    password: str, before: str
) -> None:
    coded = base64.b64encode(f"{before}{password}".encode()).decode().rstrip("=")
    said = scrub(f"no {coded}!", secret_forms(password))
    assert said.startswith("no ")
    assert said.endswith(f"{MASK}!")
    assert len(said) <= len(f"no {MASK}!") + -(-len(before) * 8 // 6)


def in_percents(text: str) -> str:
    return "".join(f"%{octet:02X}" for octet in text.encode())


ESCAPES = {
    "percents": in_percents,
    "small percents": lambda text: in_percents(text).lower(),
    "every other percent": lambda text: "".join(
        in_percents(c) if at % 2 or not c.isascii() else c for at, c in enumerate(text)
    ),
    "hex": lambda text: text.encode().hex(),
    "capital hex": lambda text: text.encode().hex().upper(),
    "hex after a digit": lambda text: f"a{text.encode().hex()}",
    "escaped hex": lambda text: "".join(f"\\x{octet:02x}" for octet in text.encode()),
    "escaped characters": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("password", ["hunter2-Zebra", "s3cr", "s3cr3", "p\u00e4ss", "\u043f" * 6])
def test_a_secret_is_masked_where_each_of_its_characters_is_escaped(
    password: str, escape: Callable[[str], str]
) -> None:
    for before, after in (("no ", "!"), ("", ""), ("%41:", "?")):
        said = scrub(f"{before}{escape(password)}{after}", secret_forms(password))
        assert said.replace("a***", MASK) == f"{before}{MASK}{after}"


@pytest.mark.parametrize("size", range(3, 40))
def test_no_beginning_of_an_escaped_secret_is_left_where_it_was_cut(size: int) -> None:
    said = quoted(in_percents("hunter2-zebra"), size)
    assert not set(scrub_quotes(said, secret_forms("hunter2-zebra"))) & set("678")


@pytest.mark.parametrize("before", ["it is ", "x", "f", "fee"])
@pytest.mark.parametrize("size", range(2, 26))
def test_no_beginning_of_a_secret_in_hex_is_left_where_it_was_cut(size: int, before: str) -> None:
    said = quoted(f"{before}{b'hunter2-zebra'.hex()}", len(before) + size)
    assert scrub_quotes(said, secret_forms("hunter2-zebra")) == f'"{before}***\u2026"'


@pytest.mark.parametrize(
    "password", ["p\u00e4ssw\u00f6rd-\u00fcn\u00efc\u00f6d\u00e9", "\u00e4\u00f6\u00fc\u00df"]
)
def test_a_secret_that_is_not_ascii_is_masked_however_it_is_composed(password: str) -> None:
    forms = secret_forms(password)
    for form in ("NFC", "NFD"):
        assert scrub(f"no {unicodedata.normalize(form, password)}!", forms) == f"no {MASK}!"
    assert scrub(f"no {password.upper()}!", forms) == f"no {MASK}!"
    assert scrub(f"no {password.encode().decode('latin-1')}!", forms) == f"no {MASK}!"


def test_honest_hex_and_base64_stay_beside_a_secret_that_they_resemble() -> None:
    forms = secret_forms("abcd-7890")
    for text in ("at 616263 of 0x61626337", "transaction 7483647 of 3738", "code YWJj", "50%61"):
        assert scrub(text, forms) == text


def test_no_secret_is_asked_for_where_nothing_is_quoted() -> None:
    def forbidden() -> Iterator[str]:
        raise AssertionError
        yield ""

    assert scrub_quotes("nothing listens there", forbidden()) == "nothing listens there"


def test_a_long_token_leaves_a_servers_words_readable() -> None:
    token = "".join(random.Random(1).choices("abcdefghijkABCDEFGHIJK0123456789-_", k=MAX_SPELLED))
    text = f'it says "what is {token[500:540]} to me?"'
    assert scrub_quotes(text, secret_forms(token)) == f'it says "what is {MASK} to me?"'


def test_beside_a_secret_too_long_to_be_spelt_nothing_is_shown() -> None:
    assert scrub_quotes('it says "words"', secret_forms("\u00e9" * MAX_SPELLED)) == 'it says "***"'


@pytest.mark.parametrize(
    "letters", ["\U0001f600", "\u00e9\u00fc\u00e4", "%/!'()*~ +", "ab1_-", "%41", '"\\\x01']
)
@pytest.mark.parametrize("length", [200, 1_000, 2_000, 4_096, 16_000])
def test_whatever_a_row_holds_its_error_text_costs_milliseconds(letters: str, length: int) -> None:
    """A password of emoji once took 134 ms."""
    choose = random.Random(length)
    secret = "".join(choose.choices(letters, k=length))
    pieces = "".join(f"%{byte:02X}" for byte in secret[:200].encode())
    words = "".join(pieces[at : at + 5] for at in choose.choices(range(150), k=24))
    assert cheapest(secret, words) < 0.025


@pytest.mark.parametrize("letters", ["\u00e9\u00fc\u00e4", "ab1_-", "%41"])
@pytest.mark.parametrize("length", [200, 1_000, 2_000, 4_096])
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_whatever_a_server_escapes_its_error_text_costs_milliseconds(
    escape: Callable[[str], str], length: int, letters: str
) -> None:
    secret = "".join(random.Random(length).choices(letters, k=length))
    for words in (secret[90:], secret[::-1], "abcdefghij" * 12):
        assert cheapest(secret, escape(words)[:120]) < 0.025


def cheapest(secret: str, words: str) -> float:
    """Take the best of three by the CPU's clock."""
    spent = []
    for _ in range(3):
        before = time.thread_time()
        scrub_quotes(f'the server says "{words}"', secret_forms(secret))
        spent.append(time.thread_time() - before)
    return min(spent)
