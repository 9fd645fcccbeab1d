"""The gate's CA: made once, private, and its leaves are what browsers accept."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.proxy.certificates import CA_CERTIFICATE_FILE, CA_FILE, CertificateAuthority

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path / "state", NOW)


def test_key_is_private_and_certificate_is_not(authority: CertificateAuthority, tmp_path: Path):
    state = tmp_path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / CA_FILE).stat().st_mode) == 0o600
    assert b"PRIVATE" not in (state / CA_CERTIFICATE_FILE).read_bytes()


def test_opening_again_gives_the_same_ca(authority: CertificateAuthority, tmp_path: Path):
    assert CertificateAuthority.open(tmp_path / "state", NOW).certificate == authority.certificate


def test_leaf_verifies_for_its_host_and_no_other(authority: CertificateAuthority):
    leaf = authority.leaf(Host.parse("www.listed.example"), NOW)
    builder = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    builder.build_server_verifier(x509.DNSName("www.listed.example")).verify(leaf, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(leaf, [])


def test_leaf_is_short_lived_and_has_a_key_of_its_own(authority: CertificateAuthority):
    leaf = authority.leaf(Host.parse("listed.example"), NOW)
    assert leaf.not_valid_after_utc - NOW == timedelta(days=7)
    assert leaf.public_key() == authority.leaf_key.public_key() != authority.certificate.public_key()


def test_a_leaf_is_made_anew_each_time(authority: CertificateAuthority):
    """Kept ones would be a record of what was asked for."""
    one, other = (authority.leaf(Host("listed.test"), NOW) for _ in range(2))
    assert one.serial_number != other.serial_number


def test_ca_cannot_sign_another_ca(authority: CertificateAuthority):
    constraints = authority.certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value
    assert constraints.ca
    assert constraints.path_length == 0


def _readable(path: Path) -> None:
    path.chmod(0o640)


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


def _other_key(path: Path) -> None:
    CertificateAuthority.open(path.parent / "other", NOW)
    key, end, _ = (path.parent / "other" / CA_FILE).read_bytes().partition(b"-----END PRIVATE KEY-----\n")
    certificate = path.with_name(CA_CERTIFICATE_FILE).read_bytes()
    path.write_bytes(key + end + certificate)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_readable, "others can read the CA's key; chmod 600", id="readable by others"),
        pytest.param(_garbage, "not a CA certificate with its key", id="garbage"),
        pytest.param(_other_key, "the key is not that of the certificate", id="another key"),
    ],
)
def test_a_ca_that_cannot_be_trusted_is_refused(authority: CertificateAuthority, tmp_path: Path, spoil, message: str):
    spoil(tmp_path / "state" / CA_FILE)
    with pytest.raises(StoplistError, match=message):
        CertificateAuthority.open(tmp_path / "state", NOW)


def test_an_expired_ca_is_refused(authority: CertificateAuthority, tmp_path: Path):
    with pytest.raises(StoplistError, match="has expired"):
        CertificateAuthority.open(tmp_path / "state", NOW + timedelta(days=3651))
