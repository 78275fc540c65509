"""What a MongoDB row may say, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from worker.connection import split
from worker.errors import ProbeError
from worker.plan import Config, Host, TlsRules
from worker.probes.mongodb import with_dns
from worker.probes.mongodb_plan import MongoDBPlan, make_plan, txt_options
from worker.words import Reason

HOST = "mongodb://db.example.com"
SIGNED_IN = "mongodb://app:pw-secret@db.example.com"
SRV = "mongodb+srv://cluster.example.com"
VERIFIED = TlsRules()
UNVERIFIED = TlsRules(verifies_chain=False, verifies_name=False)


def plan(
    url: str, config: Mapping[str, object] | None = None, *, ssl_enabled: bool = False
) -> MongoDBPlan:
    return make_plan(split(url), Config(config or {}), ssl_enabled=ssl_enabled)


def fault(
    url: str, config: Mapping[str, object] | None = None, *, ssl_enabled: bool = False
) -> str:
    with pytest.raises(ProbeError) as caught:
        plan(url, config, ssl_enabled=ssl_enabled)
    assert caught.value.reason is Reason.MISCONFIGURED
    return caught.value.text


def test_a_url_says_where_and_as_whom() -> None:
    made = plan("mongodb://app:p%40ss@One.example.com,two.example.com:27018,[::1]:27019/shop")
    assert made.hosts == (
        Host("one.example.com", 27017),
        Host("two.example.com", 27018),
        Host("::1", 27019),
    )
    assert (made.username, made.password, made.database) == ("app", "p@ss", "shop")
    assert (made.tls, made.is_srv, made.is_direct) == (None, False, False)


def test_the_reference_row_is_understood() -> None:
    made = plan(
        "mongodb://mongo:pw-secret@mongodb.railway.internal:27017",
        {
            "authSource": "admin",
            "minPoolSize": 2,
            "maxPoolSize": 10,
            "serverSelectionTimeoutMS": 5000,
            "retryWrites": True,
            "directConnection": True,
        },
    )
    assert made.is_direct
    assert made.source == "admin"
    assert (made.connect_timeout, made.host_timeout, made.command_timeout) == (5.0, 5.0, 5.0)


def test_a_plan_shows_no_secret() -> None:
    assert "pw-secret" not in repr(plan(SIGNED_IN))


@pytest.mark.parametrize(
    ("path", "config", "expected"),
    [
        ("", {}, "admin"),
        ("/shop", {}, "shop"),
        ("/shop", {"authSource": "users"}, "users"),
        ("/shop?authSource=people", {"authSource": "users"}, "people"),
        ("", {"authSource": "users"}, "users"),
        ("", {"authSource": None}, "admin"),
    ],
)
def test_who_knows_the_user_is_named_or_else_the_database(
    path: str, config: dict[str, object], expected: str
) -> None:
    assert plan(SIGNED_IN + path, config).source == expected


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        ("", {}, (5.0, 5.0, 5.0)),
        ("", {"serverSelectionTimeoutMS": 700}, (0.7, 0.7, 0.7)),
        ("", {"connectTimeoutMS": 300, "socketTimeoutMS": 9000}, (5.0, 0.3, 9.0)),
        ("", {"connectTimeoutMS": 300_000}, (5.0, 5.0, 5.0)),
        ("serverSelectionTimeoutMS=700", {"serverSelectionTimeoutMS": 900}, (0.7, 0.7, 0.7)),
        ("socketTimeoutMS=0&connectTimeoutMS=0", {}, (5.0, 5.0, 5.0)),
        ("socketTimeoutMS=360000", {}, (5.0, 5.0, 300.0)),
    ],
)
def test_server_selection_bounds_all_and_is_the_default_of_the_other_two(
    options: str, config: dict[str, object], expected: tuple[float, float, float]
) -> None:
    made = plan(f"{HOST}/?{options}", config)
    assert (made.connect_timeout, made.host_timeout, made.command_timeout) == expected


@pytest.mark.parametrize(
    ("url", "ssl_enabled", "config", "expected"),
    [
        (HOST, False, {}, None),
        (HOST, True, {}, VERIFIED),
        (HOST + "/?tls=true", False, {}, VERIFIED),
        (HOST + "/?ssl=true", False, {}, VERIFIED),
        (HOST + "/?tls=false", True, {}, None),
        (SRV, False, {}, VERIFIED),
        (SRV + "/?tls=false", False, {}, None),
        (HOST, True, {"tls": {"rejectUnauthorized": False}}, UNVERIFIED),
        (HOST + "/?tlsInsecure=true", True, {}, UNVERIFIED),
        (HOST + "/?tlsInsecure=true", False, {}, None),
        (HOST + "/?tlsInsecure=false", True, {"tls": {"rejectUnauthorized": False}}, VERIFIED),
        (HOST + "/?tlsAllowInvalidCertificates=true", True, {}, UNVERIFIED),
        (
            HOST + "/?tlsAllowInvalidHostnames=true",
            True,
            {},
            TlsRules(verifies_chain=True, verifies_name=False),
        ),
        (
            HOST,
            True,
            {"tls": {"ca": "a PEM text", "servername": "other.example.com"}},
            TlsRules(ca="a PEM text", servername="other.example.com"),
        ),
    ],
)
def test_what_a_certificate_must_show(
    *, url: str, ssl_enabled: bool, config: dict[str, object], expected: TlsRules | None
) -> None:
    assert plan(url, config, ssl_enabled=ssl_enabled).tls == expected


def test_the_url_wins_over_config() -> None:
    config = {"replicaSet": "rs0", "directConnection": True}
    made = plan(HOST + "/?replicaSet=rs1&directConnection=false", config)
    assert (made.replica_set, made.is_direct) == ("rs1", False)
    made = plan(HOST, config)
    assert (made.replica_set, made.is_direct) == ("rs0", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("SCRAM-SHA-256", "SCRAM-SHA-256"), ("SCRAM-SHA-1", "SCRAM-SHA-1"), ("DEFAULT", None)],
)
def test_scram_is_the_mechanism(text: str, expected: str | None) -> None:
    assert plan(f"{SIGNED_IN}/?authMechanism={text}").mechanism == expected


@pytest.mark.parametrize(
    "mechanism", ["MONGODB-X509", "MONGODB-AWS", "MONGODB-OIDC", "GSSAPI", "PLAIN", "MONGODB-CR"]
)
def test_another_mechanism_is_named(mechanism: str) -> None:
    assert f"authMechanism {mechanism} is" in fault(f"{SIGNED_IN}/?authMechanism={mechanism}")


def test_a_mechanism_that_is_none_is_not_repeated() -> None:
    assert "oops" not in fault(f"{SIGNED_IN}/?authMechanism=oops-a-secret")


@pytest.mark.parametrize(
    "option",
    [
        "appName",
        "compressors",
        "heartbeatFrequencyMS",
        "journal",
        "localThresholdMS",
        "maxConnecting",
        "maxIdleTimeMS",
        "maxPoolSize",
        "maxStalenessSeconds",
        "minPoolSize",
        "readConcernLevel",
        "readPreference",
        "readPreferenceTags",
        "retryReads",
        "retryWrites",
        "serverMonitoringMode",
        "srvMaxHosts",
        "timeoutMS",
        "tlsDisableOCSPEndpointCheck",
        "uuidRepresentation",
        "w",
        "waitQueueTimeoutMS",
        "wtimeoutMS",
        "zlibCompressionLevel",
    ],
)
def test_harmless_options_are_ignored(option: str) -> None:
    assert plan(f"{HOST}/?{option}=1") == plan(HOST)


@pytest.mark.parametrize(
    "option",
    [
        "authMechanismProperties",
        "gssapiServiceName",
        "proxyHost",
        "proxyPassword",
        "proxyPort",
        "proxyUsername",
        "srvServiceName",
        "sslCA",
        "sslCert",
        "sslKey",
        "tlsCAFile",
        "tlsCertificateFile",
        "tlsCertificateKeyFile",
        "tlsCertificateKeyFilePassword",
        "tlsCRLFile",
    ],
)
def test_dangerous_options_are_named_and_their_value_is_not(option: str) -> None:
    text = fault(f"{HOST}/?{option}=/etc/very-secret")
    assert option in text
    assert "secret" not in text


def test_unknown_options_are_refused() -> None:
    assert "evalonconnect" in fault(f"{HOST}/?evalOnConnect=x")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://db.example.com", "scheme"),
        (f"{HOST}/?tls=true&ssl=false", "tls and ssl"),
        (f"{HOST}/?tls=yes", "tls"),
        (f"{HOST}/?directConnection=1", "directConnection"),
        (f"{HOST},two.example.com/?directConnection=true", "directConnection"),
        (f"{SRV}/?directConnection=true", "directConnection"),
        (f"{HOST}/?connectTimeoutMS=-1", "connectTimeoutMS"),
        (f"{HOST}/?socketTimeoutMS=1e3", "socketTimeoutMS"),
        (f"{HOST}/?serverSelectionTimeoutMS=", "serverSelectionTimeoutMS"),
        (f"{HOST}/?replicaSet=", "replicaSet"),
        (f"{HOST}/?authSource=", "authSource"),
        (f"{HOST}/?authMechanism=SCRAM-SHA-1", "authMechanism"),
        (f"{HOST},two.example.com/?loadBalanced=true", "loadBalanced"),
        (f"{HOST}/?loadBalanced=true&replicaSet=rs0", "loadBalanced"),
        ("mongodb+srv://cluster.example.com:27017", "port"),
        ("mongodb+srv://a.example.com,b.example.com", "one host"),
        ("mongodb+srv://192.0.2.1", "host name"),
        ("mongodb://app@db.example.com", "password"),
        ("mongodb://app:@db.example.com", "password"),
        ("mongodb://:pw-secret@db.example.com", "user"),
    ],
)
def test_an_unusable_url_says_why_and_shows_no_secret(url: str, named: str) -> None:
    text = fault(url)
    assert named in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("serverSelectionTimeoutMS", "5000"),
        ("serverSelectionTimeoutMS", 0),
        ("connectTimeoutMS", 300_001),
        ("socketTimeoutMS", 1.5),
        ("socketTimeoutMS", True),
        ("authSource", 7),
        ("authSource", "\ud800"),
        ("replicaSet", ""),
        ("directConnection", "true"),
        ("tls", True),
    ],
)
def test_a_config_value_of_the_wrong_shape_names_its_key(key: str, value: Any) -> None:
    assert key in fault(HOST, {key: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("authSource=admin&replicaSet=rs0", {"authsource": "admin", "replicaset": "rs0"}),
        ("loadBalanced=true", {"loadbalanced": "true"}),
    ],
)
def test_a_txt_record_may_give_three_options(text: str, expected: dict[str, str]) -> None:
    assert txt_options(text) == expected


@pytest.mark.parametrize("text", ["tls=false", "authSource", "authSource=&replicaSet=a", "x"])
def test_a_txt_record_may_give_nothing_else(text: str) -> None:
    with pytest.raises(ProbeError, match="TXT"):
        txt_options(text)


def test_dns_gives_hosts_and_what_the_row_leaves_open() -> None:
    hosts = (Host("A.example.com.", 27018), Host("b.example.com", 27019))
    made = with_dns(plan(SRV + "/shop"), hosts, "authSource=users&replicaSet=rs0")
    assert made.hosts == (Host("a.example.com", 27018), Host("b.example.com", 27019))
    assert (made.source, made.replica_set) == ("users", "rs0")
    made = with_dns(plan(SRV + "/?authSource=mine"), hosts, "authSource=users")
    assert made.source == "mine"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("cluster.example.com", "a.example.com"),
        ("cluster.example.com", "a.b.example.com"),
        ("example.com", "a.example.com"),
    ],
)
def test_srv_hosts_in_the_domain_of_the_name_are_taken(name: str, host: str) -> None:
    made = with_dns(plan(f"mongodb+srv://{name}"), (Host(host, 27017),), None)
    assert made.hosts == (Host(host, 27017),)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("cluster.example.com", "a.example.org"),
        ("cluster.example.com", "evilexample.com"),
        ("cluster.example.com", "example.com"),
        ("example.com", "a.com"),
    ],
)
def test_srv_hosts_elsewhere_are_not(name: str, host: str) -> None:
    with pytest.raises(ProbeError, match="outside of its domain") as caught:
        with_dns(plan(f"mongodb+srv://{name}"), (Host(host, 27017),), None)
    assert caught.value.reason is Reason.MISCONFIGURED


def test_a_name_with_the_dot_of_the_root_has_the_same_domain() -> None:
    made = with_dns(plan(SRV + "."), (Host("a.example.com.", 27017),), None)
    assert made.hosts == (Host("a.example.com", 27017),)


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        (("a", "b"), "loadBalanced=true"),
        (("a",), "loadBalanced=true&replicaSet=rs0"),
    ],
)
def test_a_load_balancer_that_dns_tells_of_stands_alone(hosts: tuple[str, ...], text: str) -> None:
    named = tuple(Host(f"{name}.example.com", 27017) for name in hosts)
    with pytest.raises(ProbeError, match="loadBalanced"):
        with_dns(plan(SRV), named, text)
