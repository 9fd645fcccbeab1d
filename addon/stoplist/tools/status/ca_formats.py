"""The file formats that a client needs to install the CA: PEM, DER, a profile for Apple's systems, an entry for
Windows' registry.

Rules
  - Certificates only: no private key comes here.
  - The same certificates give the same bytes, so that a second rollout of them adds nothing.
"""

from __future__ import annotations

import plistlib
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from stoplist.certificates import lineage, name_of

_NAMESPACE = uuid.UUID("5ab6f7c5-4d5e-5a0c-9f6e-2b0d6f1e7c11")
_ROOTS = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\SystemCertificates\ROOT\Certificates"
"""The machine's own roots, where `certutil -addstore` also puts them. Group policies write the branch below
Policies."""
_SHA1_HASH, _CERTIFICATE = 3, 32
"""Properties of a certificate in Windows ([MS-GPEF], section 2.2.1.1.1)."""
_BYTES_A_LINE = 25


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def der(certificates: Sequence[x509.Certificate]) -> bytes:
    """One certificate: a DER file cannot hold several."""
    (certificate,) = certificates
    return certificate.public_bytes(Encoding.DER)


def mobileconfig(certificates: Sequence[x509.Certificate]) -> bytes:
    """A configuration profile for macOS, iOS and iPadOS. A later profile of the same gate replaces it."""
    family = lineage(certificates[0]) or fingerprint(certificates[0])
    identifier = f"stoplist.ca.{family}"
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": identifier,
            "PayloadUUID": _uuid(identifier),
            "PayloadDisplayName": "Stop page certificate",
            "PayloadDescription": "Lets this device show the page that says why access to a site was stopped.",
            "PayloadScope": "System",
            "PayloadContent": [_payload(identifier, each) for each in certificates],
        }
    )


def _payload(profile: str, certificate: x509.Certificate) -> dict[str, object]:
    print_ = fingerprint(certificate)
    return {
        "PayloadType": "com.apple.security.root",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{profile}.{print_}",
        "PayloadUUID": _uuid(print_),
        "PayloadDisplayName": name_of(certificate),
        "PayloadCertificateFileName": f"{print_[:16]}.cer",
        "PayloadContent": certificate.public_bytes(Encoding.DER),
    }


def _uuid(text: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, text)).upper()


def reg(certificates: Sequence[x509.Certificate]) -> bytes:
    """A file for Windows' registry editor."""
    sections = ["Windows Registry Editor Version 5.00"]
    for certificate in certificates:
        thumbprint = certificate.fingerprint(SHA1())  # noqa: S303  Windows' name for a certificate
        blob = _property(_SHA1_HASH, thumbprint) + _property(_CERTIFICATE, certificate.public_bytes(Encoding.DER))
        lines = [
            ",".join(f"{byte:02x}" for byte in blob[start : start + _BYTES_A_LINE])
            for start in range(0, len(blob), _BYTES_A_LINE)
        ]
        value = ",\\\r\n  ".join(lines)
        sections.append(f'[{_ROOTS}\\{thumbprint.hex().upper()}]\r\n"Blob"=hex:{value}')
    return "\ufeff".encode("utf-16-le") + ("\r\n\r\n".join(sections) + "\r\n").encode("utf-16-le")


def _property(number: int, value: bytes) -> bytes:
    return struct.pack("<III", number, 1, len(value)) + value


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, in hexadecimal."""
    return certificate.fingerprint(SHA256()).hex()


FORMATS: Mapping[str, Callable[[Sequence[x509.Certificate]], bytes]] = {
    "pem": pem,
    "der": der,
    "mobileconfig": mobileconfig,
    "reg": reg,
}
