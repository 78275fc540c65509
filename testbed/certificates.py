"""Throwaway certificates: a good one, and those that a client must refuse."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key and the authority that signed it, all PEM."""

    certificate: bytes
    key: bytes
    authority: bytes

    @property
    def bundle(self) -> bytes:
        """Certificate and key in one text, as mongod wants them."""
        return self.certificate + self.key

    def server_context(self) -> ssl.SSLContext:
        """Make the context of a server that shows it; Python reads certificates from files only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(self.bundle)
            file.flush()
            context.load_cert_chain(file.name)
        return context


class Authority:
    """A certificate authority that nobody knows until its PEM text is handed out."""

    def __init__(self, name: str) -> None:
        """Make its key and sign its own certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(self._name, self._key, datetime.now(UTC) + 30 * _DAY)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """What a client must trust in order to trust the certificates signed here."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, *names: str, client: bool = False, expires_in: timedelta = 20 * _DAY
    ) -> Certificate:
        """Sign a certificate for these host names and addresses; `expires_in` may be negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        # Members of a replica set show each other their server certificates as clients.
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if not client:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, key, datetime.now(UTC) + expires_in)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(signer, critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(text) for text in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Certificate(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            authority=self.pem,
        )


@dataclass(frozen=True, slots=True)
class Certificates:
    """One certificate of each kind; `ca` signed all but `unknown_ca`."""

    ca: bytes
    good: Certificate
    other_name: Certificate
    expired: Certificate
    unknown_ca: Certificate
    client: Certificate

    @classmethod
    def make(cls) -> Certificates:
        """Make them; about 10 ms."""
        authority = Authority("test bed CA")
        return cls(
            ca=authority.pem,
            good=authority.issue("localhost", *LOOPBACK_NAMES),
            other_name=authority.issue("elsewhere.test", "elsewhere.test"),
            expired=authority.issue("localhost", *LOOPBACK_NAMES, expires_in=-_DAY),
            unknown_ca=Authority("unknown CA").issue("localhost", *LOOPBACK_NAMES),
            client=authority.issue("client", client=True),
        )

    def write_ca(self, folder: Path) -> Path:
        """Write the authority's certificate into this folder for clients that want a file."""
        path = folder / "ca.pem"
        path.write_bytes(self.ca)
        return path


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - 30 * _DAY)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
