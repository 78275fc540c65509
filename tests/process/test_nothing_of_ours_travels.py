"""What lies in the worker's environment and home folder reaches no server that it asks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testbed.certificates import Certificates
from testbed.recording import DEMANDS, MD5_SALT, Recorder

CANARY = "cAnaRyOfOurs"
USER = "registered-user"
QUICK = json.dumps(
    {
        "serverSelectionTimeoutMS": 3000,
        "connectTimeout": 3000,
        "commandTimeout": 3000,
        "retryStrategy": {"maxAttempts": 1},
        "tls": {"rejectUnauthorized": False},
    }
)
VARIABLES = (  # noqa: SIM905 -- as a list it takes a line a word
    "PGPASSWORD PGUSER PGDATABASE PGAPPNAME PGOPTIONS PGHOST PGHOSTADDR PGKRBSRVNAME "
    "PGREQUIREPEER PGSSLCRL PGSSLSNI PGCLIENTENCODING PGTZ PGREALM AWS_ACCESS_KEY_ID "
    "AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION "
    "AWS_LAMBDA_RUNTIME_API AWS_ROLE_ARN AWS_PROFILE AWS_CONTAINER_AUTHORIZATION_TOKEN "
    "AZURE_CLIENT_SECRET AZURE_TENANT_ID GOOGLE_APPLICATION_CREDENTIALS AI_AGENT "
    "KUBERNETES_SERVICE_HOST RAILWAY_TOKEN RAILWAY_REPLICA_ID RAILWAY_PROJECT_NAME "
    "REDIS_URL REDIS_PASSWORD REDIS_USERNAME REDISCLI_AUTH MONGODB_URI MONGO_URL "
    "MONGO_PASSWORD USER LOGNAME USERNAME HOSTNAME KRB5CCNAME KRB5_CLIENT_KTNAME "
).split()

CHECK_ALL = """
import asyncio, json, sys, time
from datetime import UTC, datetime
from uuid import UUID
from worker import app, logs, probes
from worker.check import Checker
from worker.model import Identity, Lease, RawRow
from worker.words import Status
from worker.network import AddressRules, Network

def row(engine, url, config):
    now = datetime.now(UTC)
    lease = Lease(1, now, now, now, time.monotonic())
    who = Identity(UUID(int=1), UUID(int=1), "a database", engine)
    return RawRow(who, url, True, config, False, lease, Status.UNKNOWN, None)

async def main():
    table = probes.table(*sys.argv[1:], Network(AddressRules.allow_everything()))
    log = logs.configure("debug", "json", sys.stderr)
    checker = Checker(table, log, deadline=20, default_interval=60)
    rows = [row(*each) for each in json.load(sys.stdin)]
    results = await asyncio.gather(*map(checker.check, rows))
    print(json.dumps([result.reason for result in results]))

app.run_loop(main())
"""


@pytest.fixture
def home(tmp_path: Path, certificates: Certificates) -> Path:
    """Make a home folder full of credentials."""
    folder = tmp_path / f"home-{CANARY}"
    files = {
        ".pgpass": f"*:*:*:*:{CANARY}-pgpass",
        ".pg_service.conf": f"[{CANARY}]\nuser={CANARY}-service\npassword={CANARY}-service\n",
        ".postgresql/postgresql.crt": certificates.client.certificate.decode(),
        ".postgresql/postgresql.key": certificates.client.key.decode(),
        ".postgresql/root.crt": certificates.ca.decode(),
        ".aws/credentials": f"[default]\naws_access_key_id={CANARY}\n",
        ".my.cnf": f"password={CANARY}",
        "token": f"{CANARY}-token",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o600)
    return folder


def environment(home: Path) -> dict[str, str]:
    postgresql = home / ".postgresql"
    return {
        **{name: f"{CANARY}-{name}" for name in VARIABLES},
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DATABASE_URL": f"postgresql://{CANARY}:{CANARY}-worker@127.0.0.1/registry",
        "SCHEMA_DATABASE_URL": f"postgresql://{CANARY}:{CANARY}-owner@127.0.0.1/registry",
        "WORKER_ID": f"{CANARY}-worker",
        "PGPORT": "1",
        "PGPASSFILE": str(home / ".pgpass"),
        "PGSERVICE": CANARY,
        "PGSERVICEFILE": str(home / ".pg_service.conf"),
        "PGSSLMODE": "allow",
        "PGSSLCERT": str(postgresql / "postgresql.crt"),
        "PGSSLKEY": str(postgresql / "postgresql.key"),
        "PGSSLROOTCERT": str(postgresql / "root.crt"),
        "PGGSSLIB": "gssapi",
        "PGTARGETSESSIONATTRS": "read-only",
        "PGSSLNEGOTIATION": "direct",
        "SSLKEYLOGFILE": str(home / "keys.log"),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(home / "token"),
        "OIDC_TOKEN_FILE": str(home / "token"),
    }


@pytest.fixture
def recorders(certificates: Certificates) -> Iterator[dict[str, tuple[Recorder, str, str]]]:
    """Start a recording server for each way of being asked: recorder, engine, connection string."""
    made: dict[str, tuple[Recorder, str, str]] = {}
    with ExitStack() as servers:
        for tls, is_secured in (("", False), (" with TLS", True)):
            for login, who in (("", ""), (f"{USER}:registered-pw@", " as somebody")):
                kept = Recorder(certificates if is_secured else None)
                server = servers.enter_context(kept.redis())
                scheme = "rediss" if is_secured else "redis"
                url = f"{scheme}://{login}127.0.0.1:{server.port}/1"
                made[f"redis{who}{tls}"] = (kept, "redis", url)
                kept = Recorder(certificates if is_secured else None)
                server = servers.enter_context(kept.mongodb())
                url = f"mongodb://{login}127.0.0.1:{server.port}/db?tls={str(is_secured).lower()}"
                made[f"mongodb{who}{tls}"] = (kept, "mongodb", url)
            for demand in DEMANDS:
                for login in (USER, f"{USER}:registered-pw"):
                    kept = Recorder(certificates if is_secured else None)
                    server = servers.enter_context(kept.postgresql(demand))
                    mode = "require" if is_secured else "prefer"
                    url = f"postgresql://{login}@127.0.0.1:{server.port}/db?sslmode={mode}"
                    made[f"postgresql {demand} {login}{tls}"] = (kept, "postgresql", url)
        yield made


@pytest.mark.parametrize(
    ("probes", "driver"), [("wire", "pymongo"), ("drivers", "pymongo"), ("drivers", "motor")]
)
def test_nothing_of_ours_travels_to_a_target(
    probes: str, driver: str, home: Path, recorders: dict[str, tuple[Recorder, str, str]]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK_ALL, probes, driver],
        input=json.dumps([(engine, url, QUICK) for _, engine, url in recorders.values()]),
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reasons = dict(zip(recorders, json.loads(done.stdout), strict=True))
    assert "internal" not in reasons.values(), done.stderr
    assert reasons["redis as somebody"] == reasons["mongodb with TLS"] == "ok"
    assert reasons[f"postgresql trust {USER}"] == "ok"
    assert CANARY not in done.stdout + done.stderr
    for name, (recorder, _, url) in recorders.items():
        heard = bytes(recorder.heard)
        assert heard, name
        assert (USER.encode() in heard) is (USER in url), name
        for form in forms():
            assert form not in heard, name
        assert not recorder.shown, name
    keys = home / "keys.log"
    assert not keys.exists() or "CLIENT" not in keys.read_text()  # aiohttp's import makes it


def forms() -> list[bytes]:
    """List what must not be heard: canaries, in base64, and as the proofs that md5 makes."""
    told = [CANARY.encode()]
    # Whatever stands before it shifts base64 by as much.
    told += [base64.b64encode(f"{lead}{CANARY}".encode())[4:-4] for lead in ("", "x", "xx")]
    for password in ("-pgpass", "-PGPASSWORD", "-service"):
        inner = hashlib.md5(f"{CANARY}{password}{USER}".encode()).hexdigest().encode()
        told.append(hashlib.md5(inner + MD5_SALT).hexdigest().encode())
    return told
