"""The gate's own certificate authority, and the certificates of stop pages.

Rules
  - The CA signs leaf certificates for listed hosts only: the add-on asks for no other.
  - The CA's key is ECDSA P-256, in one PEM file with mode 0600 in the state directory; beside it
    stands the certificate alone, for the clients. The leaf key lives in memory only.
  - No leaf is kept: a store of them would be a record of who was stopped where.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stoplist import files
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError

CA_FILE = "ca.pem"
CA_CERTIFICATE_FILE = "ca-cert.pem"
CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=7)
CLOCK_SKEW = timedelta(days=2)
"""Certificates are valid from this long before they are made, for clients whose clock is late."""

_MAX_CA_SIZE = 64 * 1024


class CertificateAuthority:
    """Signs the certificates that stop pages are served under."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key
        self.leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

    @classmethod
    def open(cls, folder: Path, now: datetime) -> CertificateAuthority:
        """The CA of a state directory; made there if there is none. Raises StoplistError."""
        files.make_folder(folder, files.PRIVATE_FOLDER)
        path = folder / CA_FILE
        if not path.exists():
            _make(folder, now)
        if files.is_readable_by_others(path):
            raise StoplistError("others can read the CA's key", hint=f"chmod 600 {path}", place=str(path))
        data = files.read(path, _MAX_CA_SIZE)
        try:
            key = load_pem_private_key(data, None)
            certificate = x509.load_pem_x509_certificate(data)
        except (ValueError, TypeError):
            raise StoplistError(
                "not a CA certificate with its key",
                hint="restore the file; without it, remove it, and the clients need the new CA",
                place=str(path),
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise StoplistError("the key is not that of the certificate", hint="restore the file", place=str(path))
        if certificate.not_valid_after_utc <= now:
            raise StoplistError(
                "the CA certificate has expired",
                hint="remove the file, and the clients need the new CA",
                place=str(path),
            )
        return cls(certificate, key)

    def leaf(self, host: Host, now: datetime) -> x509.Certificate:
        """A certificate for a listed host name, with the leaf key."""
        builder = (
            _builder(self.leaf_key.public_key(), _name("Stop page"), self.certificate.subject)
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + LEAF_LIFETIME, self.certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host.name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        return builder.sign(self._key, SHA256())

    def __repr__(self) -> str:
        return "CertificateAuthority(...)"


def _make(folder: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # Gates of one network have a name each, so that a client's store tells them apart.
    name = _name(f"Stoplist gate {secrets.token_hex(4)}")
    builder = (
        _builder(key.public_key(), name, name)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.write(folder / CA_CERTIFICATE_FILE, certificate, mode=files.PUBLIC, replace=True)
    files.write(folder / CA_FILE, private + certificate, mode=files.PRIVATE, replace=True)


def _builder(key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Stoplist"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
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
