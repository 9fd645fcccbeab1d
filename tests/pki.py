"""An operator's PKI: a root, and CAs below it, as good or as bad as a test wants them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from stoplist.core.policy.models import Policy
from tests.rulesets import STOP_PAGE

KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@dataclass
class Ca:
    certificate: x509.Certificate
    key: object

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        how = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)

    def write(self, folder: Path, *above: Ca, name: str = "intermediate") -> None:
        """Put certificate and key where a policy with `IN_POLICY` looks for them."""
        (folder / f"{name}.pem").write_bytes(b"".join(each.pem for each in (self, *above)))
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem())


def policy(**more: object) -> Policy:
    """A policy, with `more` keys."""
    entry = {"file": "0.stoplist", "key": {"file": "listkey"}, "trusted_keys": ["pub"], "threshold": 1}
    return Policy.model_validate({"version": 1, "lists": [entry], "stop_page": STOP_PAGE, **more})


IN_POLICY = "ca: {cert: intermediate.pem, key: intermediate.key}\n"


def new(
    name: str = "Example Root",
    issuer: Ca | None = None,
    *,
    kind: str = "P-256",
    now: datetime,
    lasts: timedelta = timedelta(days=1000),
    ca: bool | None = True,
    path_length: int | None = None,
    signs: bool | None = True,
    more: tuple[x509.ExtensionType, ...] = (),
    identifier: bytes | None = None,
) -> Ca:
    """A CA; `ca` and `signs` are what BasicConstraints and KeyUsage say, None where there is none of them."""
    key = KEYS[kind]()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + lasts)
    )
    identified = (
        x509.SubjectKeyIdentifier(identifier)
        if identifier
        else x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    )
    builder = builder.add_extension(identified, critical=False)
    if issuer:
        above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False
        )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if signs is not None:
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=signs,
            crl_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    for extension in more:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.NameConstraints))
    signer = issuer.key if issuer else key
    return Ca(builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()), key)
