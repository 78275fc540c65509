"""SCRAM for two engines (RFC 5802, RFC 7677): bounded, derived off the loop, verified."""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from worker.errors import ProbeError
from worker.quoting import quoted
from worker.saslprep import prepare
from worker.words import Reason

MAX_ITERATIONS = 200_000
MIN_ITERATIONS = 4_096
"""What RFC 7677 asks for and MongoDB's drivers insist on: fewer make a stolen proof cheap to guess.

PostgreSQL allows any `scram_iterations` from 1 on and its applications connect all the same, so its
probe lowers this bound: to call such a server broken would be a lie, and md5 gives away no less.
"""
MAX_SALT = 1_024
MAX_NONCE = 1_024
MAX_STORED = 20_000
"""Derived passwords kept, about 350 bytes each."""

_DEAR = 15_000
"""Iterations from which a derivation waits in a lane of its own: no default of a server is above
15,000, so a stranger who asks for much delays only others who do."""
_FAMILIAR = 8
"""Salts of one password, as many as servers that share it, before further ones wait in a lane of
their own, too: a server that makes up a salt at each sign-in has every one derived anew."""
_HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
_SERVER_FIRST = re.compile(
    rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([0-9]{1,10})(?:,.*)?", re.DOTALL
)
_SERVER_ERRORS = frozenset(
    (  # noqa: SIM905 -- as a list it takes a line a word
        "invalid-encoding extensions-not-supported invalid-proof channel-bindings-dont-match "
        "server-does-support-channel-binding channel-binding-not-supported "
        "unsupported-channel-binding-type unknown-user invalid-username-encoding no-resources "
        "other-error"
    ).split()
)
"""All that RFC 5802 knows; a stranger's own words could be the password."""


class Keys(NamedTuple):
    """What a salted password is good for: as good as the password itself, so it shows nothing."""

    client: bytes
    server: bytes

    def __repr__(self) -> str:
        return "Keys()"


class SaltedPasswords:
    """A bounded store of derived keys and the threads that derive them; shows nothing.

    The least recently used keys go first. They rest in memory only, under a digest that is keyed
    anew in each process.
    """

    def __init__(self, size: int = MAX_STORED) -> None:
        self._size = size
        self._secret = secrets.token_bytes(32)
        self._keys: OrderedDict[bytes, Keys] = OrderedDict()
        self._salts: OrderedDict[bytes, int] = OrderedDict()
        """How many of each password's have been met."""
        # hashlib.pbkdf2_hmac releases the GIL: the loop goes on while these work.
        self._cheap = ThreadPoolExecutor(2, "scram")
        self._many = ThreadPoolExecutor(1, "scram-many")
        self._dear = ThreadPoolExecutor(1, "scram-dear")

    @property
    def stored(self) -> int:
        """How many passwords' keys are kept (no `__len__`: an empty store must not be falsy)."""
        return len(self._keys)

    async def keys(self, algorithm: str, password: bytes, salt: bytes, iterations: int) -> Keys:
        """Look the keys up, or derive them in a thread; a cancelled caller leaves the queue."""
        name = self._name(algorithm, password, salt, iterations)
        if (found := self._keys.get(name)) is not None:
            self._keys.move_to_end(name)
            return found
        lane = self._cheap if self._met(algorithm, password) <= _FAMILIAR else self._many
        if iterations > _DEAR:
            lane = self._dear
        loop = asyncio.get_running_loop()
        derived = await loop.run_in_executor(lane, _derive, algorithm, password, salt, iterations)
        self._keys[name] = derived
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)
        return derived

    def close(self) -> None:
        """Forget every key and let the threads go, without waiting for them."""
        self._keys.clear()
        self._salts.clear()
        for lane in (self._cheap, self._many, self._dear):
            lane.shutdown(wait=False, cancel_futures=True)

    def _met(self, algorithm: str, password: bytes) -> int:
        """Count one more salt of a password; the least recently used passwords are forgotten."""
        name = self._name(algorithm, password, b"", 0)
        self._salts[name] = count = self._salts.pop(name, 0) + 1
        if len(self._salts) > self._size:
            self._salts.popitem(last=False)
        return count

    def _name(self, algorithm: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        digest = hashlib.blake2b(
            b"%s %d %d " % (algorithm.encode(), iterations, len(salt)),
            digest_size=32,
            key=self._secret,
        )
        digest.update(salt)
        digest.update(password)
        return digest.digest()


def _derive(algorithm: str, password: bytes, salt: bytes, iterations: int) -> Keys:
    salted = hashlib.pbkdf2_hmac(algorithm, password, salt, iterations)
    return Keys(
        hmac.digest(salted, b"Client Key", algorithm),
        hmac.digest(salted, b"Server Key", algorithm),
    )


class ScramClient:
    """One conversation, without channel binding; shows nothing.

    `mechanism` is SCRAM-SHA-256 or SCRAM-SHA-1. MongoDB's SCRAM-SHA-1 wants the md5 hex digest of
    `user:mongo:password` as password: the caller passes it.
    """

    def __init__(
        self,
        mechanism: str,
        username: str,
        password: str,
        store: SaltedPasswords,
        *,
        min_iterations: int = MIN_ITERATIONS,
    ) -> None:
        self._algorithm = _HASHES[mechanism]
        self._username = username.replace("=", "=3D").replace(",", "=2C").encode()
        self._password = prepare(password)
        self._store = store
        self._min_iterations = min_iterations
        self._nonce = b64encode(secrets.token_bytes(18))
        self._server_signature: bytes | None = None

    def first(self) -> bytes:
        """Make the client-first-message."""
        return b"n,," + self._first_bare()

    async def final(self, server_first: bytes) -> bytes:
        """Make the client-final-message.

        Raises:
            ProbeError: `protocol` for a message that is none, before anything is derived; `auth`
                where the server refuses at once.
        """
        nonce, salt, iterations = self._challenge(server_first)
        keys = await self._store.keys(self._algorithm, self._password, salt, iterations)
        without_proof = b"c=biws,r=" + nonce
        message = b",".join((self._first_bare(), server_first, without_proof))
        stored_key = hashlib.new(self._algorithm, keys.client).digest()
        signature = hmac.digest(stored_key, message, self._algorithm)
        self._server_signature = hmac.digest(keys.server, message, self._algorithm)
        return without_proof + b",p=" + b64encode(_xor(keys.client, signature))

    def verify(self, server_final: bytes) -> None:
        """Check that the server knows the user, too.

        Raises:
            ProbeError: `protocol` where it cannot prove it, `auth` where it refuses.
        """
        _refuse_error(server_final)
        kind, _, signature = server_final.partition(b",")[0].partition(b"=")
        expected = self._server_signature
        if expected is None or kind != b"v" or not _is_base64_of(signature, expected):
            raise _absurd("the server cannot prove that it knows the user")

    def _first_bare(self) -> bytes:
        return b"n=" + self._username + b",r=" + self._nonce

    def _challenge(self, server_first: bytes) -> tuple[bytes, bytes, int]:
        _refuse_error(server_first)
        match = _SERVER_FIRST.fullmatch(server_first)
        if match is None:
            raise _absurd("the server's SCRAM challenge is none")
        nonce, salt_text, iterations = match[1], match[2], int(match[3])
        if not nonce.startswith(self._nonce) or not len(self._nonce) < len(nonce) <= MAX_NONCE:
            raise _absurd("the server's SCRAM nonce does not continue ours")
        if not self._min_iterations <= iterations <= MAX_ITERATIONS:
            raise _absurd(
                f"the server asks for {quoted(str(iterations), 10)} SCRAM iterations, "
                f"accepted are {self._min_iterations} to {MAX_ITERATIONS}"
            )
        try:
            salt = b64decode(salt_text, validate=True)
        except binascii.Error:
            raise _absurd("the server's SCRAM salt is not base64") from None
        if not 1 <= len(salt) <= MAX_SALT:
            raise _absurd("the server's SCRAM salt is empty or too long")
        return nonce, salt, iterations


def _absurd(text: str) -> ProbeError:
    return ProbeError(Reason.PROTOCOL, text)


def _refuse_error(message: bytes) -> None:
    if message.startswith(b"e="):
        value = message[2:].decode(errors="replace")
        detail = f": {value}" if value in _SERVER_ERRORS else ""
        raise ProbeError(Reason.AUTH, f"the server refuses the credentials{detail}")


def _is_base64_of(text: bytes, expected: bytes) -> bool:
    return hmac.compare_digest(text, b64encode(expected))


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return number.to_bytes(len(left), "big")
