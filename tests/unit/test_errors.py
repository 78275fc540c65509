"""A foreign error becomes ours by one table, and what caused it counts, too."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from worker.errors import ProbeError, Rule, SettingsError, reading, translate
from worker.words import Reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "x"), Reason.INTERNAL),
        (OSError(errno.ENFILE, "x"), Reason.INTERNAL),
        (OSError(errno.ENOBUFS, "x"), Reason.INTERNAL),
        (OSError(errno.EADDRNOTAVAIL, "x"), Reason.INTERNAL),
        (OSError(errno.EHOSTUNREACH, "x"), Reason.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "x"), Reason.UNREACHABLE),
        (TimeoutError(errno.ETIMEDOUT, "x"), Reason.TIMEOUT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Reason.REFUSED),
        (ConnectionResetError(errno.ECONNRESET, "x"), Reason.CLOSED),
        (BrokenPipeError(errno.EPIPE, "x"), Reason.CLOSED),
        (EOFError(), Reason.CLOSED),
        (socket.gaierror(socket.EAI_NONAME, "x"), Reason.DNS),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), Reason.TLS),
    ],
)
def test_what_the_operating_system_says_has_its_reason(error: Exception, reason: Reason) -> None:
    found = translate(error, ())
    assert found is not None
    assert found.reason is reason


def test_the_words_of_a_foreign_error_are_not_repeated() -> None:
    for error in (OSError(errno.EMFILE, "hunter2"), ConnectionRefusedError("hunter2")):
        found = translate(error, ())
        assert found is not None
        assert "hunter2" not in found.text


def test_the_first_rule_that_knows_counts_and_ours_come_before_the_networks() -> None:
    rules: tuple[Rule, ...] = (
        (KeyError, lambda _: None),
        (LookupError, reading(Reason.MISSING, "not there")),
        (TimeoutError, reading(Reason.SATURATED, "waits")),
    )
    assert getattr(translate(KeyError("x"), rules), "reason", None) is Reason.MISSING
    assert getattr(translate(TimeoutError(), rules), "reason", None) is Reason.SATURATED
    assert translate(ValueError("x"), rules) is None


def test_what_caused_an_error_is_read_where_the_error_itself_says_nothing() -> None:
    error = ValueError("wrapped")
    error.__cause__ = ConnectionRefusedError()
    assert getattr(translate(error, ()), "reason", None) is Reason.REFUSED
    ours = ProbeError(Reason.MISSING, "no such database")
    error.__cause__ = ours
    assert translate(error, ()) is ours


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert translate(one, ()) is None


def test_faults_of_settings_are_a_line_each() -> None:
    error = SettingsError(["PORT: is none", "TICK_SECONDS: is none"])
    assert str(error) == "PORT: is none\nTICK_SECONDS: is none"
    assert error.faults == ("PORT: is none", "TICK_SECONDS: is none")
