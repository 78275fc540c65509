"""What a plan shows of itself, and what `config` may say."""

from __future__ import annotations

import pytest
from pydantic import Field

from worker.errors import ProbeError
from worker.plan import Config, Host, Plan, RowModel, TlsRules
from worker.words import Reason


class Model(RowModel):
    some_key: int = Field(default=1, ge=1, le=9)


def test_a_host_is_written_as_in_a_url() -> None:
    assert str(Host("db.example", 6379)) == "db.example:6379"
    assert str(Host("::1", 6379)) == "[::1]:6379"


def test_a_plan_shows_where_and_never_as_whom() -> None:
    plan = Plan(
        hosts=(Host("one", 1), Host("two", 2)),
        username="the-user",
        password="the-secret",
        tls=TlsRules(ca="the-pem"),
        connect_timeout=1.5,
        command_timeout=2,
    )
    assert plan.address == "one:1,two:2"
    assert plan.attempt_timeout == 3.5
    assert not {word for word in ("the-user", "the-secret", "the-pem") if word in repr(plan)}
    assert "the-secret" in set(plan.secrets())


def test_a_plan_without_password_has_no_secrets() -> None:
    for password in (None, ""):
        plan = Plan(hosts=(), password=password, connect_timeout=1, command_timeout=1)
        assert not list(plan.secrets())


def test_keys_are_camel_case_and_unknown_ones_are_ignored() -> None:
    assert Config({"someKey": 5, "other": "x", "some_key": 7}).read(Model).some_key == 5
    assert Config({"someKey": None}).read(Model).some_key == 1


@pytest.mark.parametrize("value", ["the-secret", 10, 0, 1.5, True, ["the-secret"], {"a": 1}])
def test_a_value_that_does_not_fit_is_named_by_its_key_and_not_shown(value: object) -> None:
    with pytest.raises(ProbeError) as caught:
        Config({"someKey": value}).read(Model)
    assert caught.value.reason is Reason.MISCONFIGURED
    assert caught.value.text.startswith("config.someKey: ")
    assert "the-secret" not in caught.value.text
