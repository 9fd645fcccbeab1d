"""Shown certificates: which certificates a self-test trusts, and which CA has signed one that it was shown."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from stoplist import files
from stoplist.errors import StoplistError
from stoplist.tools.selftest.proxy_client import Tls

_MAX_CA_SIZE = 1024 * 1024
"""In bytes."""


def trusting(roots: Path | None) -> ssl.SSLContext:
    """A context that trusts these roots, or those of the system. Raises StoplistError."""
    certificates = certificates_of(roots)
    pem = "".join(ssl.DER_cert_to_PEM_cert(each.public_bytes(Encoding.DER)) for each in certificates)
    context = ssl.create_default_context(cadata=pem or None)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 checks more strictly than browsers: a certificate that browsers accept is no sign of decryption.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def trusting_all() -> ssl.SSLContext:
    """A context for reading a certificate that other code judges."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificates_of(path: Path | None) -> list[x509.Certificate]:
    if path is None:
        return []
    try:
        return x509.load_pem_x509_certificates(files.read(path, _MAX_CA_SIZE))
    except ValueError:
        raise StoplistError("no certificates in PEM", hint="name a file such as ca-cert.pem", place=str(path)) from None


def certificate_shown(tls: Tls) -> x509.Certificate | None:
    """The certificate of the other side; None if it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(tls.certificate)
        certificate.issuer.rfc4514_string()
    except ValueError:
        return None
    return certificate


def has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def have_one_issuer(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Whether one issuer signed both: by its name, and by its key if both certificates identify the key."""
    keys = {_issuer_key(one), _issuer_key(other)} - {None}
    return one.issuer == other.issuer and len(keys) < 2


def _issuer_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
