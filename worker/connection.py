"""Splits and masks connection strings; every fault says what to do and quotes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from worker.errors import ProbeError
from worker.scrubbing import MASK
from worker.words import Reason

MAX_URL_CHARACTERS = 16_384
MAX_PORT = 65_535

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_OPTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
_HOST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]{1,16})?", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\s\ud800-\udfff]")
_HOST_OPTIONS = frozenset({"host", "hostaddr", "unix_socket_path"})
_HARMLESS_OPTION = re.compile(
    "appname|application_name|authmechanism|authsource|connecttimeoutms|connect_timeout|db"
    "|directconnection|loadbalanced|maxpoolsize|minpoolsize|readpreference|replicaset|retryreads"
    "|retrywrites|serverselectiontimeoutms|sockettimeoutms|ssl|sslmode|tls"
    "|tlsallowinvalidcertificates|tlsinsecure|w",
    re.ASCII | re.IGNORECASE,
)
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.,:%$+/-]*", re.ASCII)
_APP_NAME = re.compile(r"@[A-Za-z0-9_-]+@", re.ASCII)
_BLANK = re.compile(
    r"[\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
)
_MASKED_HOST = r"([A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\])(:[0-9]{1,5})?"
_MASKED_HOSTS = re.compile(f"{_MASKED_HOST}(,{_MASKED_HOST})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConnectionString:
    """The parts of a connection string, percent-decoded; shows no secret."""

    scheme: str
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...]
    database: str | None
    options: Mapping[str, str] = field(repr=False)
    """By lower-case name; of a repeated option the last one."""


def _unusable(text: str) -> ProbeError:
    return ProbeError(Reason.MISCONFIGURED, text)


def split(text: str) -> ConnectionString:
    """Split a connection string of any engine.

    Raises:
        ProbeError: `misconfigured`; the text quotes no part that could hold a secret.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise _unusable(f"the connection string is longer than {MAX_URL_CHARACTERS} characters")
    match = _SCHEME.match(text)
    if match is None:
        raise _unusable(
            "the connection string is no URL: it starts with no scheme such as redis://"
        )
    if _UNPRINTABLE.search(text):
        raise _unusable("the connection string holds white space or control characters")
    rest = text[match.end() :]
    end = min((i for c in "/?#" if (i := rest.find(c)) >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    user_info, at, hosts = authority.rpartition("@")
    path, _, query = tail.partition("?")
    if "@" in user_info or "@" in path or "#" in tail or _has_stray_at(query, is_alone=not at):
        raise _unusable(
            "the user name or password holds one of / ? # @ that is not percent-encoded"
        )
    user, colon, password = user_info.partition(":")
    options = dict(_option(part) for part in query.split("&") if part)
    if not hosts and (elsewhere := options.keys() & _HOST_OPTIONS):
        raise _unusable(
            f"the option {min(elsewhere)} is not supported here; name the host in front"
        )
    return ConnectionString(
        scheme=match[1].lower(),
        username=(_decode(user) or None) if at else None,
        password=_decode(password) if colon else None,
        hosts=tuple(_host(part) for part in hosts.split(",")),
        database=_decode(path[1:]) or None,
        options=options,
    )


def _has_stray_at(query: str, *, is_alone: bool) -> bool:
    """Whether an @ in the options may be the end of a password that holds a ? and an @.

    Its first part would then stand where the host does, and be looked up.
    """
    for part in query.split("&"):
        name, _, value = part.partition("=")
        is_app_name = name.lower() == "appname" and _APP_NAME.fullmatch(value)
        is_credential = name.lower() in {"user", "password"}
        if "@" in part and (is_alone or not (is_app_name or is_credential)):
            return True
    return False


def _decode(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _unusable("the connection string's percent-encoding is not UTF-8") from None
    if _CONTROL.search(decoded):  # another kind of server might read a line of its own there
        raise _unusable("the connection string holds control characters")
    return decoded


def _host(part: str) -> tuple[str, int | None]:
    if part.startswith("["):
        name, bracket, port = part[1:].partition("]")
        colon, port = port[:1], port[1:]
        if not bracket or not _IPV6.fullmatch(name) or (colon and colon != ":"):
            raise _unusable("the connection string's IPv6 address is not one")
    else:
        name, colon, port = part.partition(":")
        if not name:
            raise _unusable("the connection string names no host")
        if "%2f" in name.lower():
            raise _unusable("unix sockets are not contacted")
        if not _HOST_NAME.fullmatch(name):
            raise _unusable("the connection string's host name is not one")
    if not colon:
        return name, None
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= MAX_PORT:
        raise _unusable("the connection string's port is not a number from 1 to 65535")
    return name, int(port)


def _option(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    if not _OPTION_NAME.fullmatch(name):
        raise _unusable("the connection string's options are not of the form name=value&name=value")
    return name.lower(), _decode(value)


def mask(text: str) -> str:
    """Show a connection string without its secrets; what may hide one is masked whole.

    The rules stand beside platform.mask_connection_string, which gives the same text.
    """
    match = _SCHEME.match(text)
    if match is None:
        return MASK
    whole = f"{match[0]}{MASK}"
    rest = text[match.end() :]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    path, question, query = rest[len(authority) :].partition("?")
    user_info, at, hosts = authority.rpartition("@")
    if (
        len(text) > MAX_URL_CHARACTERS
        or _BLANK.search(text)
        or "@" in user_info
        or not _MASKED_HOSTS.fullmatch(hosts)
        or re.search("[@#&=;:,]", path)
        or "#" in query
    ):
        return whole
    options = [_mask_option(part) for part in query.split("&") if part]
    if None in options:
        return whole
    user, colon, _ = user_info.partition(":")
    login = f"{user}{colon and colon + MASK}{at}"
    return f"{match[0]}{login}{hosts}{path}{question}{'&'.join(filter(None, options))}"


def _mask_option(part: str) -> str | None:
    """Mask one option of a query; None where it may be the end of a user info."""
    name, equals, value = part.partition("=")
    is_named = bool(equals) and _OPTION_NAME.fullmatch(name) is not None
    if is_named and _HARMLESS_OPTION.fullmatch(name) and _PLAIN_VALUE.fullmatch(value):
        return part
    if is_named and name.lower() == "appname" and _APP_NAME.fullmatch(value):
        return part
    if "@" in part:
        return None
    return f"{name}={MASK}" if is_named else MASK
