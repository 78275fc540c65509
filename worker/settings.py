"""Environment to frozen settings, all faults at once."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from worker.errors import SettingsError

IPNetwork = IPv4Network | IPv6Network
S = TypeVar("S", bound="ProbeSettings")


def _networks(text: object) -> object:
    """Split a list on commas or blanks."""
    if not isinstance(text, str):
        return text
    networks = []
    for part in re.split(r"[,\s]+", text.strip()):
        try:
            networks.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError("is no list of networks such as 10.0.0.0/8,fd00::/8") from None
    return tuple(networks)


def _lower(text: object) -> object:
    return text.strip().lower() if isinstance(text, str) else text


def _place(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _has_good_port(parts: SplitResult) -> bool:
    return "," in _place(parts) or parts.port != 0  # several hosts have several ports


def _registry_url(text: object) -> object:
    """Accept only what a PostgreSQL client would; the message never quotes it."""
    url = str(text).strip()
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"postgresql", "postgres"} and _has_good_port(parts)
        # A raw / ? # or @ in the password would make a part of it the host, which the log names.
        is_encoded = "#" not in url and url.count("@") == parts.netloc.count("@") <= 1
    except ValueError:
        is_usable = is_encoded = False
    if not (is_usable and is_encoded):
        raise ValueError(
            "is no URL of the form postgresql://user:password@host:port/database"
            " (percent-encode / ? # @ in user name and password)"
        )
    # Its address is protected from rows, so it has to be the one that is connected to.
    if any("," in place for place in (_place(parts), *parse_qs(parts.query).get("host", ()))):
        raise ValueError("names several hosts; name one")
    return url


Networks = Annotated[tuple[IPNetwork, ...], BeforeValidator(_networks)]
RegistryURL = Annotated[SecretStr, BeforeValidator(_registry_url)]


class ProbeSettings(BaseModel):
    """What every command reads; a variable that is empty counts as unset."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    check_deadline_seconds: float = Field(default=30, ge=1, le=300)
    """A check never lasts longer."""
    probes: Annotated[Literal["wire", "drivers"], BeforeValidator(_lower)] = "wire"
    mongodb_driver: Annotated[Literal["pymongo", "motor"], BeforeValidator(_lower)] = "pymongo"
    log_level: Annotated[Literal["debug", "info", "warn", "error"], BeforeValidator(_lower)] = (
        "info"
    )
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"


class SchemaSettings(ProbeSettings):
    """What `schema` reads."""

    schema_database_url: RegistryURL = Field(
        validation_alias=AliasChoices("schema_database_url", "database_url")
    )
    """The owner's."""
    registry_timeout_seconds: float = Field(default=10, gt=0, le=300)


class Settings(ProbeSettings):
    """What `run` and `check` read."""

    database_url: RegistryURL
    registry_timeout_seconds: float = Field(default=10, gt=0, le=300)
    """Bound on any call to the registry."""
    check_interval_seconds: float = Field(default=60, ge=5, le=86_400)
    """For rows that name none."""
    tick_seconds: float = Field(default=1, ge=0.1, le=20)
    max_concurrent_checks: int = Field(default=200, ge=1, le=10_000)
    """Slots."""
    shutdown_grace_seconds: float = Field(default=10, ge=0, le=600)
    metrics_host: str = "::"
    port: int = Field(default=9464, ge=0, le=65_535)
    metrics_max_databases: int = Field(default=20_000, ge=0, le=1_000_000)
    worker_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        validation_alias=AliasChoices("worker_id", "railway_replica_id"),
    )
    allowed_networks: Networks = ()
    blocked_networks: Networks = ()


def read(kind: type[S], environ: Mapping[str, str]) -> S:
    """Read settings from a mapping of environment variables.

    Raises:
        SettingsError: every variable at fault, one line each, never with its value.
    """
    values = {name.lower(): value for name, value in environ.items() if value.strip()}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        raise SettingsError(_line(kind, fault["loc"], fault["msg"]) for fault in faults) from None


def _line(kind: type[ProbeSettings], place: tuple[int | str, ...], message: str) -> str:
    name = str(place[0]).upper()
    if message == "Field required":
        name = "DATABASE_URL" if kind is SchemaSettings else name
        return f"{name} is not set: the registry, as postgresql://user:password@host/database"
    message = message.removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
