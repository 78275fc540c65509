"""What a stranger may register costs neither time nor another row's check."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.unit.nouns import row
from worker.addresses import AddressRules
from worker.connection import split
from worker.errors import ProbeError
from worker.network import Network
from worker.plan import TlsRules
from worker.probes import table
from worker.saslprep import prepare
from worker.scrubbing import MASK, scrub
from worker.spellings import secrets_of
from worker.target import Reject, Target, make_target
from worker.tls import build_context
from worker.words import Reason

PROBES = table("wire", "pymongo", Network(AddressRules.allow_everything()))


def made_of(url: str, config: object = None, engine: str = "redis") -> Target | Reject:
    return make_target(row(url, config, engine), PROBES, 60)


def seconds_of(words: str) -> float:
    began = time.process_time()
    scrub(words, secrets_of(words))
    return time.process_time() - began


@pytest.mark.parametrize("port", ["00000130054", "0000006379", "65536", "0", "6379x"])
def test_a_port_that_the_kernel_would_cut_is_none(port: str) -> None:
    with pytest.raises(ProbeError) as caught:
        split(f"redis://host:{port}")
    assert caught.value.reason is Reason.MISCONFIGURED


def test_no_rule_permits_a_port_that_is_none() -> None:
    assert not AddressRules.allow_everything().permits(ip_address("192.0.2.1"), 65_536 + 5_432)


@pytest.mark.parametrize("words", ["://" * 100_000, "a://" * 75_000 + "@", "?a=" * 100_000])
def test_scrubbing_takes_time_by_the_length_and_not_by_its_square(words: str) -> None:
    assert seconds_of(words) < 1


def test_words_about_a_connection_string_that_is_too_long_to_search_are_left_out() -> None:
    text = "redis://host/" + "/".join(map(str, range(1_000_000)))
    assert scrub("it quotes 123456", secrets_of(text)) == MASK


@pytest.mark.parametrize(
    "config",
    [
        '{"a": 1' + "0" * 5_000 + "}",
        '{"a": ' * 1_200 + "1" + "}" * 1_200,
        '{"a": ' * 600 + "1" + "}" * 600,
    ],
    ids=["a long number", "deep", "less deep"],
)
def test_a_config_that_python_cannot_read_harms_its_row_alone(config: str) -> None:
    made = make_target(replace(row(), config=config), PROBES, 60)
    assert isinstance(made, Target) or made.fault.reason is Reason.MISCONFIGURED


@pytest.mark.parametrize(
    ("url", "config", "engine"),
    [
        ("redis://host/" + "0" * 5_000, {}, "redis"),
        ("redis://host/00000000000999999999999", {}, "redis"),
        ("redis://:x%0D%0Aset%20evil%200@host", {}, "redis"),
        ("rediss://host", {"tls": {"servername": "a..b"}}, "redis"),
        ("rediss://host", {"tls": {"servername": "a" * 64}}, "redis"),
        ("rediss://host", {"tls": {"servername": "a\r\nSET k v\r\n"}}, "redis"),
        ("rediss://host", {"tls": {"ca": "x" * 65_537}}, "redis"),
        ("postgresql://u@" + ",".join(["host"] * 11), {}, "postgresql"),
    ],
)
def test_what_a_stranger_overdoes_is_misconfigured(url: str, config: object, engine: str) -> None:
    made = made_of(url, config, engine)
    assert isinstance(made, Reject)
    assert made.fault.reason is Reason.MISCONFIGURED


def test_an_authority_that_is_no_ascii_is_misconfigured() -> None:
    with pytest.raises(ProbeError) as caught:
        build_context(TlsRules(ca="\N{SNOWMAN}"))
    assert caught.value.reason is Reason.MISCONFIGURED


def test_no_server_chooses_the_size_of_the_group() -> None:
    names = {cipher["name"] for cipher in build_context(TlsRules()).get_ciphers()}
    assert names
    assert not any(name.startswith("DHE-") for name in names)


def test_a_long_password_of_accents_is_prepared_at_once() -> None:
    password = "a" + "\u0301" * 8_000 + "\u0316" * 8_000
    began = time.process_time()
    assert prepare(password) == password.encode()
    assert time.process_time() - began < 0.1


def test_a_plan_still_names_every_host() -> None:
    made = made_of("postgresql://u@" + ",".join(["host"] * 10), {}, "postgresql")
    assert isinstance(made, Target)
    assert len(made.plan.hosts) == 10
