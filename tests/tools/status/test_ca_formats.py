"""What clients take a CA from holds that CA, and nothing secret."""

from __future__ import annotations

import plistlib
import re
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding

from stoplist import certificates
from stoplist.tools.status import ca_formats
from tests import pki
from tests.e2e.network import need
from tests.fixed_time import NOW

FIRST, _ = certificates.new(NOW)
SECOND, _ = certificates.new(NOW, before=FIRST)
OTHER, _ = certificates.new(NOW)


@pytest.mark.parametrize("wanted", ca_formats.FORMATS)
def test_the_same_certificates_give_the_same_bytes_without_a_key(wanted: str):
    data = ca_formats.FORMATS[wanted]([FIRST])
    assert data == ca_formats.FORMATS[wanted]([FIRST])
    assert b"PRIVATE" not in data


def test_pem_holds_all_and_openssl_reads_der(tmp_path: Path):
    assert x509.load_pem_x509_certificates(ca_formats.pem([FIRST, SECOND])) == [FIRST, SECOND]
    need("openssl")
    (tmp_path / "ca.der").write_bytes(ca_formats.der([FIRST]))
    printed = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-in", tmp_path / "ca.der", "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip().replace(":", "").lower().endswith(ca_formats.fingerprint(FIRST))


# Apple


def test_a_profile_holds_each_certificate_as_a_root():
    profile = plistlib.loads(ca_formats.mobileconfig([FIRST, SECOND]))
    assert (profile["PayloadType"], profile["PayloadVersion"], profile["PayloadScope"]) == (
        "Configuration",
        1,
        "System",
    )
    for certificate, payload in zip([FIRST, SECOND], profile["PayloadContent"], strict=True):
        assert payload["PayloadType"] == "com.apple.security.root"
        assert payload["PayloadContent"] == certificate.public_bytes(Encoding.DER)
        assert payload["PayloadIdentifier"].startswith(f"{profile['PayloadIdentifier']}.")
    ids = [each["PayloadUUID"] for each in (profile, *profile["PayloadContent"])]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", each) for each in ids)


def test_a_later_profile_of_the_same_gate_takes_the_place_of_the_one_before():
    """Before the rotation, during it, and after it: systems tell profiles apart by the identifier."""
    before, during, after, other = (
        plistlib.loads(ca_formats.mobileconfig(each)) for each in ([FIRST], [FIRST, SECOND], [SECOND], [OTHER])
    )
    for key in ("PayloadIdentifier", "PayloadUUID"):
        assert before[key] == during[key] == after[key] != other[key]
    assert during["PayloadContent"] == before["PayloadContent"] + after["PayloadContent"]


def test_a_profile_of_an_operators_root_is_known_by_its_certificate():
    one, other = (plistlib.loads(ca_formats.mobileconfig([pki.new(now=NOW).certificate])) for _ in range(2))
    assert one["PayloadIdentifier"] != other["PayloadIdentifier"]


# Windows


def _keys(data: bytes) -> dict[str, bytes]:
    """The keys of a registry file with the value of Blob, read as its editor does."""
    assert data.startswith(b"\xff\xfe")
    text = data.decode("utf-16")
    assert text.startswith("Windows Registry Editor Version 5.00\r\n\r\n")
    assert text.count("\n") == text.count("\r\n")
    joined = re.sub(r"\\\r\n\s*", "", text)
    found = re.findall(r'^\[(.+)\]\r\n"Blob"=hex:([0-9a-f,]+)\r$', joined, re.MULTILINE)
    assert joined.count("[") == len(found)
    return {key: bytes.fromhex(value.replace(",", "")) for key, value in found}


def _properties(blob: bytes) -> dict[int, bytes]:
    found = {}
    while blob:
        number, reserved, length = struct.unpack_from("<III", blob)
        assert reserved == 1
        found[number], blob = blob[12 : 12 + length], blob[12 + length :]
        assert len(found[number]) == length
    return found


def test_a_registry_file_holds_each_certificate_under_its_thumbprint():
    keys = _keys(ca_formats.reg([FIRST, SECOND]))
    assert len(keys) == 2
    for certificate in (FIRST, SECOND):
        thumbprint = certificate.fingerprint(SHA1())
        key = rf"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\SystemCertificates\ROOT\Certificates\{thumbprint.hex().upper()}"
        assert _properties(keys[key]) == {3: thumbprint, 32: certificate.public_bytes(Encoding.DER)}


def test_no_line_of_a_registry_file_is_too_long():
    assert max(map(len, ca_formats.reg([FIRST]).decode("utf-16").splitlines())) < 150
