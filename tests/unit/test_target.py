"""A row becomes a target or a reject, and blinds no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.nouns import row
from worker.network import AddressRules, Network
from worker.probes import table
from worker.target import Reject, Target, make_target
from worker.words import Engine, Reason

PROBES = table("wire", "pymongo", Network(AddressRules.build([], [])))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = [
    *("connectTimeout", "commandTimeout", "db", "tls", "retryStrategy", "healthCheck"),
    *("serverSelectionTimeoutMS", "authSource", "directConnection", "replicaSet"),
]


def rejected(**facts: Any) -> Reject:
    made = make_target(row(**facts), PROBES, 60)
    assert isinstance(made, Reject)
    assert "secret" not in f"{made!r}"
    return made


def accepted(**facts: Any) -> Target:
    made = make_target(row(**facts), PROBES, 60)
    assert isinstance(made, Target)
    assert "secret" not in f"{made!r}"
    return made


def test_a_row_without_config_gets_the_defaults() -> None:
    made = accepted()
    assert (made.engine, made.max_attempts, made.retry_delay) == (Engine.REDIS, 2, 1.0)
    assert (made.degraded_after, made.interval) == (None, 60.0)


def test_config_says_how_often_and_from_when_on_an_answer_is_slow() -> None:
    made = accepted(
        config={
            "retryStrategy": {"maxAttempts": 3, "delay": 0},
            "healthCheck": {"intervalSeconds": 5, "degradedAfterMs": 250},
            "pool": {"min": 1},
        }
    )
    assert (made.max_attempts, made.retry_delay) == (3, 0.0)
    assert (made.interval, made.degraded_after) == (5.0, 0.25)


@pytest.mark.parametrize(
    ("facts", "reason", "says"),
    [
        ({"is_decrypted": False, "url": None}, Reason.UNDECRYPTABLE, "does not decrypt"),
        ({"url": None}, Reason.MISCONFIGURED, "no connection string"),
        ({"url": ""}, Reason.MISCONFIGURED, "no connection string"),
        ({"url": "my secret"}, Reason.MISCONFIGURED, "no URL"),
        ({"engine": "oracle"}, Reason.MISCONFIGURED, "mongodb, redis, postgresql"),
        ({"config": [1]}, Reason.MISCONFIGURED, "config is not a JSON object"),
        ({"config": None, "engine": "mongodb"}, Reason.MISCONFIGURED, "scheme"),
        ({"config": {"connectTimeout": "1"}}, Reason.MISCONFIGURED, "config.connectTimeout"),
        ({"config": {"connectTimeout": 0}}, Reason.MISCONFIGURED, "config.connectTimeout"),
        ({"config": {"connectTimeout": 300_001}}, Reason.MISCONFIGURED, "config.connectTimeout"),
        ({"config": {"connectTimeout": 1.5}}, Reason.MISCONFIGURED, "config.connectTimeout"),
        ({"config": {"connectTimeout": True}}, Reason.MISCONFIGURED, "config.connectTimeout"),
        (
            {"config": {"retryStrategy": {"maxAttempts": 11}}},
            Reason.MISCONFIGURED,
            "config.retryStrategy.maxAttempts",
        ),
        (
            {"config": {"healthCheck": {"intervalSeconds": 4}}},
            Reason.MISCONFIGURED,
            "config.healthCheck.intervalSeconds",
        ),
    ],
)
def test_a_row_that_cannot_be_checked_says_why(
    facts: dict[str, object], reason: Reason, says: str
) -> None:
    made = rejected(**facts)
    assert made.fault.reason is reason
    assert says in made.fault.text


def test_a_reject_keeps_the_interval_that_its_row_names() -> None:
    config = {"healthCheck": {"intervalSeconds": 300}}
    assert rejected(url="none", config=config).interval == 300
    assert rejected(url="none", config={"healthCheck": 1}).interval == 60


def test_null_counts_as_unset() -> None:
    accepted(config={"connectTimeout": None, "tls": None, "healthCheck": {"intervalSeconds": None}})


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    config=st.one_of(json_values, st.dictionaries(st.sampled_from(KEYS), json_values)),
    url=st.sampled_from(
        ["redis://h", "mongodb://h", "postgresql://u@h", "nothing", "://", "redis://"]
    ),
    engine=st.sampled_from([*Engine, "other"]),
)
def test_whatever_a_row_holds_it_raises_nothing(config: object, url: str, engine: str) -> None:
    made = make_target(row(url, config, engine), PROBES, 60)
    assert isinstance(made, Target) or made.fault.reason is Reason.MISCONFIGURED
    assert 5 <= made.interval <= 86_400
