"""What a probe may know of a target: where, as whom, and in what time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from worker.errors import ProbeError
from worker.spellings import secret_forms
from worker.words import Reason

MAX_MILLISECONDS = 300_000
MAX_CA_CHARACTERS = 65_536
"""Some forty certificates; OpenSSL took 13 s to read four thousand of one name."""
_SERVERNAME = r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$"


class Host(NamedTuple):
    """A name or address, without brackets, and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        """Write it as in a URL."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsRules:
    """What a server's certificate must show; hashable, so that contexts can be shared."""

    ca: str | None = field(default=None, repr=False)
    """PEM text; None means the system's authorities."""
    verifies_chain: bool = True
    verifies_name: bool = True
    servername: str | None = None
    """The name to ask for and to expect; None means the host that is connected to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to ask one target, whatever its engine; holds clear secrets and shows none."""

    hosts: tuple[Host, ...]
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    tls: TlsRules | None = None
    """None means clear text."""
    connect_timeout: float
    """Seconds for look-up, connect, TLS and authenticate together."""
    command_timeout: float
    """Seconds for one command's answer."""

    @property
    def attempt_timeout(self) -> float:
        """Seconds after which one attempt has failed, whatever it was doing."""
        return self.connect_timeout + self.command_timeout

    @property
    def address(self) -> str:
        """Host and port for people."""
        return ",".join(map(str, self.hosts))

    def secrets(self) -> Iterator[str]:
        """Yield every form in which a secret of this plan could appear in a text."""
        if self.password:
            yield from secret_forms(self.password)


class RowModel(BaseModel):
    """Keys of a row's `config`: camelCase, strictly typed, unknown ones ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
    )


M = TypeVar("M", bound=RowModel)


class RetryStrategy(RowModel):
    """How often to try within one check."""

    max_attempts: int = Field(default=2, ge=1, le=10)
    delay: int = Field(default=1000, ge=0, le=60_000)
    """Milliseconds between two attempts."""


class HealthCheck(RowModel):
    """How often to check, and from when on an answer is slow."""

    interval_seconds: int | None = Field(default=None, ge=5, le=86_400)
    degraded_after_ms: int | None = Field(default=None, ge=1, le=MAX_MILLISECONDS)


class Tls(RowModel):
    """Node's names for what a certificate must show."""

    ca: str | None = Field(default=None, max_length=MAX_CA_CHARACTERS)
    reject_unauthorized: bool = True
    servername: str | None = Field(default=None, max_length=253, pattern=_SERVERNAME)


class RowConfig(RowModel):
    """The keys of `config` that mean the same for every engine."""

    retry_strategy: RetryStrategy = RetryStrategy()
    health_check: HealthCheck = HealthCheck()


class Config:
    """A row's `config`; each model of it is made once."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._models: dict[type[RowModel], RowModel] = {}

    def read(self, model: type[M]) -> M:
        """Validate the keys that a model knows; null counts as unset.

        Raises:
            ProbeError: `misconfigured`, naming the first key that does not fit, never its value.
        """
        known = self._models.get(model)
        if not isinstance(known, model):
            known = self._models[model] = _validate(model, self._values)
        return known


def _validate(model: type[M], values: Mapping[str, object]) -> M:
    try:
        return model.model_validate(_without_nulls(values))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        key = ".".join(map(str, fault["loc"]))
        text = f"config.{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
        raise ProbeError(Reason.MISCONFIGURED, text) from None


def _without_nulls(value: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _without_nulls(item) if isinstance(item, Mapping) else item
        for key, item in value.items()
        if item is not None
    }
