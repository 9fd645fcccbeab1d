"""Certificates: those of certificate authorities, and the leaves for stop pages. No I/O.

Rules
  - A CA signs leaf certificates for listed hosts only: the add-on asks for no other, unless `tls: intercept`.
  - The module refuses to read a CA that clients would not accept, or not for every host.
  - The leaf key is ECDSA P-256, and lives in memory only.
  - The module keeps no leaf: a store of them would be a record of who was stopped where (docs/decisions/0014).
  - A leaf is a function of the host, the week and the CA: every process that has the CA makes the same bytes, so that
    a browser's exception for a certificate holds (docs/decisions/0022).
"""

from __future__ import annotations

import hmac
import itertools
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stoplist.core.hosts import Host
from stoplist.errors import StoplistError

CA_LIFETIME = timedelta(days=3650)
WEEK = timedelta(days=7)
"""The time for which all leaves of a host are the same. A week begins on Monday at 00:00 UTC (ISO 8601)."""
CLOCK_SKEW = timedelta(days=2)
"""A CA is valid from this long before it is made; a leaf from this long before its week until this long after it. So
clients with a slow clock or a fast one accept them."""
MIN_RSA_BITS = 2048

type CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_UNREADABLE = (
    *(ValueError, TypeError, KeyError, InvalidSignature, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""The exceptions of cryptography for certificates that are none, or not of a kind that it knows."""
_FIRST_WEEK = datetime(1970, 1, 5, tzinfo=UTC)
_GATE_NAME = re.compile(r"Stoplist gate (?P<number>[0-9a-f]{8})(?: G(?P<generation>[0-9]+))?")
_REISSUE = "have your CA issue it as a CA: basicConstraints CA:TRUE, keyUsage keyCertSign"


class CertificateAuthority:
    """Signs the certificates of stop pages. `certificates` are its own, and those above it.

    `leaf_key` is the key of all leaves. It follows from the CA's own key, so nothing needs to store it.
    """

    def __init__(self, certificates: Sequence[x509.Certificate], key: CaKey) -> None:
        self.certificate = certificates[0]
        self.certificates = tuple(certificates)
        self.chain = tuple(each for each in certificates if not is_root(each))
        """The certificates that the gate sends with each leaf. The root is not among them: clients have it."""
        self.ends = min(each.not_valid_after_utc for each in certificates)
        self.leaf_key = _leaf_key(_derive(key, self.certificate, b"stoplist leaf key", 48))
        self._key = key
        self._serial_key = _derive(key, self.certificate, b"stoplist leaf serial", 32)
        is_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
        self._hash = SHA384() if is_p384 else SHA256()
        self._template = (
            _builder(self.leaf_key.public_key(), _name("Stop page"), self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_identifier_of(self.certificate), critical=False)
        )

    @classmethod
    def parse(cls, certificates: bytes, key: bytes, *, place: str, key_place: str) -> CertificateAuthority:
        """Read a CA: PEM certificates, its own first and each before its issuer, and its key in PEM.

        `place` and `key_place` name both in errors. Raises StoplistError if clients would not accept the CA.
        """
        try:
            chain = _read_chain(certificates, place)
            private = _read_key(key, key_place)
            if private.public_key() != chain[0].public_key():
                raise StoplistError(
                    "not the key of the first certificate", hint="name the key that belongs to it", place=key_place
                )
            for depth, certificate in enumerate(chain):
                if reason := _why_no_ca(certificate, depth):
                    which = "certificate" if len(chain) == 1 else f"certificate {depth + 1} of {len(chain)}"
                    raise StoplistError(f"{which} {reason[0]}", hint=reason[1], place=place)
            return cls(chain, private)
        except _UNREADABLE:
            raise StoplistError("a certificate that cannot be read", hint="have it issued anew", place=place) from None

    def leaf(self, host: Host, now: datetime) -> x509.Certificate:
        """The certificate for a listed host in the week of `now`, with the leaf key.

        It is the same, byte by byte, in the whole week and in every process that has this CA: the signature is
        deterministic (RFC 6979 for ECDSA; PKCS #1 v1.5 for RSA always is), and the serial is a keyed hash. From two
        days before the week until two days after it the leaf is valid, but not longer than the CA. Where the CA has
        ended, there is a leaf all the same, which clients refuse.

            ca.leaf(Host("www.listed.example"), sunday) != ca.leaf(Host("www.listed.example"), monday)
        """
        week = _week(now)
        begins = week - CLOCK_SKEW
        ends = max(begins, min(week + WEEK + CLOCK_SKEW, self.ends))
        name = x509.IPAddress(ip_address(host.address)) if host.is_address else x509.DNSName(host.name)
        builder = (
            self._template.serial_number(self._serial(host, begins, ends))
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        )
        is_ecdsa = isinstance(self._key, ec.EllipticCurvePrivateKey)
        return builder.sign(self._key, self._hash, ecdsa_deterministic=True if is_ecdsa else None)

    def _serial(self, host: Host, begins: datetime, ends: datetime) -> int:
        """A serial of 159 bits (RFC 5280, section 4.1.2.2: positive, at most 20 octets). All that differs between
        leaves is in it: browsers refuse two certificates of one issuer and serial."""
        text = f"{host.name} {begins.isoformat()} {ends.isoformat()}"
        return int.from_bytes(hmac.digest(self._serial_key, text.encode(), "sha256")[:20]) >> 1

    def __repr__(self) -> str:
        return "CertificateAuthority(...)"


def new(now: datetime, before: x509.Certificate | None = None) -> tuple[x509.Certificate, bytes]:
    """A new CA for a gate, with its private key in PEM. `before` is the CA that it will replace."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(_next_name(before))
    certificate = (
        _builder(key.public_key(), name, name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def is_root(certificate: x509.Certificate) -> bool:
    """Whether the certificate is self-signed: clients trust such a certificate directly, or not at all."""
    return _is_issued_by(certificate, certificate)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except _UNREADABLE:
        return False
    return True


def name_of(certificate: x509.Certificate) -> str:
    """The certificate's subject, as one line (RFC 4514)."""
    return certificate.subject.rfc4514_string()


def lineage(certificate: x509.Certificate) -> str | None:
    """The number that all CAs of a gate have in common, the next one too; None for a CA that no gate made."""
    match = _GATE_NAME.fullmatch(_common_name(certificate))
    return match["number"] if match else None


def _next_name(before: x509.Certificate | None) -> str:
    """The name of a gate's next CA. Each gate of a network has a name, and so has its CA, so that a client's store
    can tell them apart."""
    match = _GATE_NAME.fullmatch(_common_name(before)) if before is not None else None
    if match is None:
        return f"Stoplist gate {secrets.token_hex(4)}"
    return f"Stoplist gate {match['number']} G{int(match['generation'] or 1) + 1}"


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _read_chain(data: bytes, place: str) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise StoplistError(
            "not a certificate in PEM", hint="convert it: openssl x509 -inform der -in FILE -out FILE.pem", place=place
        ) from None
    for number, (certificate, issuer) in enumerate(itertools.pairwise(chain), start=1):
        if not _is_issued_by(certificate, issuer):
            raise StoplistError(
                f"certificate {number + 1} of {len(chain)} is not the issuer of the one before it",
                hint="put the issuing certificate first, then its issuer, and so on",
                place=place,
            )
    return chain


def _read_key(data: bytes, place: str) -> CaKey:
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise StoplistError(
            "the key has a password", hint="write it without one: openssl pkey -in FILE -out KEY", place=place
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise StoplistError("not a private key in PEM", hint="name the CA's key", place=place) from None
    is_ec = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ("secp256r1", "secp384r1")
    is_rsa = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS
    if not is_ec and not is_rsa:
        raise StoplistError(
            "clients do not accept a CA with this kind of key",
            hint=f"use ECDSA P-256 or P-384, or RSA of {MIN_RSA_BITS} bits or more",
            place=place,
        )
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        _must_sign_alike(key, place)
    return key


def _must_sign_alike(key: ec.EllipticCurvePrivateKey, place: str) -> None:
    """Raise StoplistError if the library cannot sign the same text twice with the same bytes."""
    try:
        key.sign(b"", ec.ECDSA(SHA256(), deterministic_signing=True))
    except UnsupportedAlgorithm:
        raise StoplistError(
            "the cryptography library here cannot make deterministic signatures",
            hint="install its wheel, or build it with OpenSSL 3.2 or newer",
            place=place,
        ) from None


def _why_no_ca(certificate: x509.Certificate, depth: int) -> tuple[str, str] | None:
    """The reason why clients would not accept certificates below this one, and a remedy; `depth` CAs are below it."""
    found = {type(extension.value): extension.value for extension in certificate.extensions}
    constraints, usage = found.get(x509.BasicConstraints), found.get(x509.KeyUsage)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        return "is not a CA certificate (BasicConstraints)", _REISSUE
    if not (usage.key_cert_sign if isinstance(usage, x509.KeyUsage) else depth):
        return "may not sign certificates (KeyUsage has no keyCertSign)", _REISSUE
    if constraints.path_length is not None and constraints.path_length < depth:
        return (
            f"permits no more than {constraints.path_length} CAs below it, and has {depth} (path length)",
            "use a CA higher up, or have it issued with a longer path",
        )
    purposes = found.get(x509.ExtendedKeyUsage)
    if isinstance(purposes, x509.ExtendedKeyUsage) and not {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    } & set(purposes):
        return "is not for servers (ExtendedKeyUsage has no serverAuth)", "have it issued for servers as well"
    names = found.get(x509.NameConstraints)
    if isinstance(names, x509.NameConstraints) and _narrows(names):
        return (
            "is for certain names only (NameConstraints): listed hosts have any name",
            "have it issued without them, or leave out 'ca' and let the gate make its own",
        )
    return None


def _narrows(constraints: x509.NameConstraints) -> bool:
    permitted = [each.value for each in constraints.permitted_subtrees or () if isinstance(each, x509.DNSName)]
    excluded = [each.value for each in constraints.excluded_subtrees or () if isinstance(each, x509.DNSName)]
    return (bool(permitted) and "" not in permitted) or "" in excluded


def _week(now: datetime) -> datetime:
    """The beginning of the week that `now` is in."""
    return now.astimezone(UTC) - (now - _FIRST_WEEK) % WEEK  # a remainder is positive, before 1970 as well


def _derive(key: CaKey, certificate: x509.Certificate, purpose: bytes, length: int) -> bytes:
    """A secret of `length` bytes that follows from the CA's key and certificate (HKDF, RFC 5869)."""
    numbers = key.private_numbers()
    secret = numbers.private_value if isinstance(numbers, ec.EllipticCurvePrivateNumbers) else numbers.d
    salt = certificate.fingerprint(SHA256())
    return HKDF(SHA256(), length, salt, purpose).derive(secret.to_bytes((key.key_size + 7) // 8))


def _leaf_key(drawn: bytes) -> ec.EllipticCurvePrivateKey:
    """A key of P-256 from 48 bytes; they are longer than the key by 128 bits, so that the remainder has no bias
    (FIPS 186-5, A.2.1)."""
    curve = ec.SECP256R1()
    return ec.derive_private_key(int.from_bytes(drawn) % (curve.group_order - 1) + 1, curve)


def _identifier_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The identifier in the form that the issuer has: clients compare the bytes, and there are several ways to make
    them (RFC 7093)."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _builder(key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    return x509.CertificateBuilder().public_key(key).subject_name(subject).issuer_name(issuer)


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
