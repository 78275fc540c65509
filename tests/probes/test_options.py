"""A connection string is data from a stranger: what it may ask for, engine by engine."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import uuid4

import pytest

from worker.model import Identity, Lease, RawRow
from worker.network import AddressRules, Network
from worker.probes import table
from worker.scrubbing import scrub_quotes
from worker.target import Probes, Reject, Target, make_target
from worker.words import Engine, Reason, Status

NETWORK = Network(AddressRules.build([], []))
WAYS: dict[str, Probes] = {
    "wire": table("wire", "pymongo", NETWORK),
    "pymongo": table("drivers", "pymongo", NETWORK),
    "motor": table("drivers", "motor", NETWORK),
}
every_way = pytest.mark.parametrize("way", list(WAYS))

CANARY = "cAnaRy-7f3a"
BASES = {
    Engine.REDIS: "redis://u:pw-secret@db.example:6379/0",
    Engine.MONGODB: "mongodb://u:pw-secret@db.example:27017/db",
    Engine.POSTGRESQL: "postgresql://u:pw-secret@db.example:5432/db",
}

# What would make the worker read a file, run a command, show credentials of its own, go another
# way or another place; and whatever nobody knows.
REFUSED = {
    Engine.REDIS: """
        ssl_ca_certs ssl_ca_path ssl_ca_data ssl_certfile ssl_keyfile ssl_password ssl_ciphers
        ssl_min_version ssl_validate_ocsp ssl_validate_ocsp_stapled ssl_ocsp_context
        ssl_ocsp_expected_cert ssl_include_verify_flags path unix_socket_path host port username
        credential_provider redis_connect_func retry retry_on_error connection_class
        tls_ca tls_cert tls_key sentinel proxy proxy_host event_dispatcher
        maint_notifications_config whatever""",
    Engine.MONGODB: """
        tlsCAFile tlsCertificateKeyFile tlsCertificateKeyFilePassword tlsCRLFile
        tlsCertificateFile sslCA sslCert sslKey sslPass sslCRL sslValidate ssl_ca_certs
        ssl_certfile ssl_keyfile ssl_crlfile ssl_pem_passphrase ssl_cert_reqs
        authMechanismProperties gssapiServiceName proxyHost proxyPort proxyUsername proxyPassword
        serverApi srvServiceName srvAllowedHostsSuffix autoEncryption user username password
        host port event_listeners driver server_api type_registry lookup whatever""",
    Engine.POSTGRESQL: """
        host hostaddr port passfile service servicefile sslcert sslkey sslpassword sslcrl
        sslcrldir sslkeylogfile krbsrvname gsslib gssdelegation requirepeer requiressl
        require_auth replication oauth_issuer oauth_client_id oauth_client_secret oauth_scope
        scram_client_key scram_server_key sslidentity sslfactory socketFactory
        socketFactoryArg authenticationPluginClassName sslpasswordcallback jaasApplicationName
        kerberosServerName localSocketAddress loggerFile unix_sock server_settings
        direct_tls record_class whatever""",
}
REFUSED_VALUES = [
    (Engine.MONGODB, "authMechanism", "MONGODB-AWS", "authMechanism MONGODB-AWS"),
    (Engine.MONGODB, "authMechanism", "MONGODB-OIDC", "authMechanism MONGODB-OIDC"),
    (Engine.MONGODB, "authMechanism", "MONGODB-X509", "authMechanism MONGODB-X509"),
    (Engine.MONGODB, "authMechanism", "GSSAPI", "authMechanism GSSAPI"),
    (Engine.MONGODB, "authMechanism", "PLAIN", "authMechanism PLAIN"),
    (Engine.MONGODB, "authMechanism", CANARY, "authMechanism"),
    (Engine.MONGODB, "tls", CANARY, "tls"),
    (Engine.MONGODB, "directConnection", CANARY, "directConnection"),
    (Engine.MONGODB, "connectTimeoutMS", CANARY, "connectTimeoutMS"),
    (Engine.REDIS, "db", CANARY, "option db"),
    (Engine.REDIS, "ssl_cert_reqs", CANARY, "ssl_cert_reqs"),
    (Engine.REDIS, "ssl_check_hostname", CANARY, "ssl_check_hostname"),
    (Engine.POSTGRESQL, "sslmode", CANARY, "sslmode"),
    (Engine.POSTGRESQL, "sslrootcert", f"/{CANARY}.pem", "sslrootcert"),
    (Engine.POSTGRESQL, "sslcertmode", "require", "sslcertmode"),
    (Engine.POSTGRESQL, "sslnegotiation", "direct", "sslnegotiation"),
    (Engine.POSTGRESQL, "gssencmode", "require", "gssencmode"),
    (Engine.POSTGRESQL, "channel_binding", CANARY, "channel_binding"),
    (Engine.POSTGRESQL, "target_session_attrs", CANARY, "target_session_attrs"),
    (Engine.POSTGRESQL, "ssl", CANARY, "ssl"),
]
IGNORED = {
    Engine.REDIS: """
        client_name decode_responses encoding health_check_interval max_connections protocol
        retry_on_timeout socket_connect_timeout socket_keepalive socket_timeout timeout
        keyPrefix maxRetriesPerRequest pool_size""",
    Engine.MONGODB: """
        appName compressors heartbeatFrequencyMS journal localThresholdMS maxIdleTimeMS
        maxPoolSize minPoolSize maxStalenessSeconds readConcernLevel readPreference
        readPreferenceTags retryReads retryWrites serverMonitoringMode timeoutMS
        uuidRepresentation w waitQueueTimeoutMS wtimeoutMS zlibCompressionLevel""",
    Engine.POSTGRESQL: """
        application_name fallback_application_name client_encoding connect_timeout keepalives
        keepalives_idle keepalives_interval keepalives_count tcp_user_timeout load_balance_hosts
        sslcompression sslsni ssl_min_protocol_version ssl_max_protocol_version
        statement_timeout pgbouncer schema connection_limit pool_timeout""",
}
PLACES = {
    Engine.REDIS: [
        "unix:///tmp/redis.sock",
        "unix://u:pw-secret@/tmp/redis.sock",
        "redis:///tmp/redis.sock",
        "redis://%2Ftmp%2Fredis.sock",
        "redis://db.example/..%2Ftmp",
        "redis+sentinel://db.example",
        "redis+socket:///tmp/redis.sock",
        "file:///etc/passwd",
    ],
    Engine.MONGODB: [
        "mongodb://%2Ftmp%2Fmongodb-27017.sock",
        "mongodb://%2ftmp%2fmongodb-27017.sock/db",
        "mongodb://db.example,%2Ftmp%2Fmongodb-27017.sock",
        "mongodb:///tmp/mongodb-27017.sock",
        "mongodb+srv://db.example:27017",
        "mongodb+http://db.example",
    ],
    Engine.POSTGRESQL: [
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql:///db?host=@abstract",
        "postgresql://u:pw-secret@/db",
        "postgresql://u:pw-secret@%2Fvar%2Frun%2Fpostgresql/db",
        "postgresql://u:pw-secret@db.example,%2Fvar%2Frun/db",
        "postgresql://",
        "postgresql://db.example/db",  # libpq would sign in under our own account's name
        "service=canary",
    ],
}


def make(way: str, engine: Engine, url: str, config: object = None) -> Target | Reject:
    now = datetime.now(UTC)
    row = RawRow(
        identity=Identity(uuid4(), uuid4(), "a database", engine),
        connection_string=url,
        is_decrypted=True,
        config=json.dumps(config or {}),
        ssl_enabled=False,
        lease=Lease(1, now, now, now, time.monotonic()),
        status=Status.UNKNOWN,
        last_reason=None,
    )
    return make_target(row, WAYS[way], 60)


def refusal(way: str, engine: Engine, url: str) -> str:
    made = make(way, engine, url)
    assert isinstance(made, Reject), url
    assert made.fault.reason is Reason.MISCONFIGURED
    assert CANARY not in f"{made!r}"
    assert CANARY not in made.fault.text
    assert "pw-secret" not in f"{made!r}"
    return made.fault.text


def each(table: dict[Engine, str]) -> list[tuple[Engine, str]]:
    return [(engine, name) for engine, names in table.items() for name in names.split()]


@every_way
@pytest.mark.parametrize(("engine", "name"), each(REFUSED))
def test_an_option_that_no_check_needs_is_refused_by_name_and_its_value_stays_unsaid(
    way: str, engine: Engine, name: str
) -> None:
    text = refusal(way, engine, f"{BASES[engine]}?{name}=%2F{CANARY}")
    assert f"option {name} ".lower() in text.lower()
    shouted = refusal(way, engine, f"{BASES[engine]}?{name.upper()}={CANARY}")
    assert f"option {name} ".lower() in shouted.lower()


@every_way
@pytest.mark.parametrize(("engine", "name", "value", "says"), REFUSED_VALUES)
def test_a_value_that_asks_for_more_is_refused_and_stays_unsaid(
    way: str, engine: Engine, name: str, value: str, says: str
) -> None:
    base = BASES[engine].removesuffix("/0")
    assert says in refusal(way, engine, f"{base}?{name}={value.replace('/', '%2F')}")


@every_way
@pytest.mark.parametrize(("engine", "name"), each(IGNORED))
def test_an_option_that_tunes_a_client_changes_nothing(way: str, engine: Engine, name: str) -> None:
    plain, tuned = make(way, engine, BASES[engine]), make(way, engine, f"{BASES[engine]}?{name}=1")
    assert isinstance(plain, Target)
    assert isinstance(tuned, Target)
    assert tuned.plan == plain.plan


@every_way
@pytest.mark.parametrize(
    ("engine", "url"), [(engine, url) for engine, urls in PLACES.items() for url in urls]
)
def test_files_sockets_and_other_schemes_are_no_places(way: str, engine: Engine, url: str) -> None:
    refusal(way, engine, url)


@every_way
@pytest.mark.parametrize("engine", list(Engine))
def test_a_path_is_no_certificate_text(way: str, engine: Engine) -> None:
    made = make(way, engine, BASES[engine], {"tls": {"ca": ["/etc/ssl/cert.pem"]}})
    assert isinstance(made, Reject)
    assert made.fault.text.startswith("config.tls.ca: ")


@every_way
@pytest.mark.parametrize(
    ("engine", "url"),
    [
        (Engine.REDIS, f"redis://db.example?password={CANARY}"),
        (Engine.POSTGRESQL, f"postgresql://db.example/db?user=u&password={CANARY}"),
        (Engine.POSTGRESQL, f"postgresql://u@db.example/db?options=-c%20my.secret%3D{CANARY}"),
        (Engine.MONGODB, f"mongodb://u:{CANARY}@db.example"),
    ],
)
def test_a_secret_in_an_option_is_known_for_one_and_shown_by_nothing(
    way: str, engine: Engine, url: str
) -> None:
    made = make(way, engine, url)
    assert isinstance(made, Target)
    assert CANARY in set(made.plan.secrets())
    assert CANARY not in f"{made!r} {made.plan!r} {made!s}"


@pytest.mark.parametrize("setting", [f"-c my.secret={CANARY}x{{}}", f"-c s={CANARY * 40}{{}}"])
def test_beside_many_settings_all_that_a_server_says_is_masked(setting: str) -> None:
    options = quote(" ".join(setting.format(number) for number in range(300)), safe="")[:15_000]
    made = make("wire", Engine.POSTGRESQL, f"postgresql://u:p@db.example/db?options={options}")
    assert isinstance(made, Target)
    secrets = tuple(made.plan.secrets())
    assert len(secrets) == 1
    assert scrub_quotes('the server says "no!"', secrets) == 'the server says "***"'
