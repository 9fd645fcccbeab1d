"""CAs and leaves: what is signed is what clients accept, and a CA whose leaves they would not is refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from stoplist import certificates
from stoplist.certificates import CertificateAuthority
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from tests import pki
from tests.fixed_time import NOW

HOST = Host.parse("www.listed.example")


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    certificate, key = certificates.new(NOW)
    return CertificateAuthority([certificate], load_pem_private_key(key, None))


@pytest.fixture(scope="module")
def root() -> pki.Ca:
    return pki.new(now=NOW)


def parse(*cas: pki.Ca, key: bytes | None = None) -> CertificateAuthority:
    data = b"".join(each.pem for each in cas)
    return CertificateAuthority.parse(data, key or cas[0].key_pem(), place="ca.pem", key_place="ca.key")


def verify(leaf: x509.Certificate, root: x509.Certificate, *chain: x509.Certificate, host: Host = HOST) -> None:
    builder = PolicyBuilder().store(Store([root])).time(NOW)
    builder.build_server_verifier(x509.DNSName(host.name)).verify(leaf, list(chain))


# Leaves


def test_leaf_verifies_for_its_host_and_no_other(authority: CertificateAuthority):
    leaf = authority.leaf(HOST, NOW)
    verify(leaf, authority.certificate)
    with pytest.raises(VerificationError):
        verify(leaf, authority.certificate, host=Host("other.example"))


def test_leaf_is_short_lived_and_has_a_key_of_its_own(authority: CertificateAuthority):
    leaf = authority.leaf(Host.parse("listed.example"), NOW)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=11)
    assert leaf.public_key() == authority.leaf_key.public_key() != authority.certificate.public_key()


def der(authority: CertificateAuthority, host: Host, now: datetime) -> bytes:
    return authority.leaf(host, now).public_bytes(certificates.Encoding.DER)


MONDAY = datetime(2026, 11, 16, tzinfo=UTC)  # fixed time: the beginning of the week of NOW
SECOND = timedelta(seconds=1)
HOSTS = ["listed.example", "www.listed.example", "xn--bcher-kva.example", "192.0.2.7", "[2001:db8::1]"]


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_leaf_is_the_same_in_every_process_all_week(kind: str, host: str):
    """Each process parses the CA by itself: two workers, a gate and the next one, two gates with one CA."""
    root = pki.new(now=NOW)
    ca = pki.new("Example Gate CA", root, kind=kind, now=NOW)
    one, other = parse(ca), parse(ca)
    first = der(one, Host.parse(host), MONDAY)
    assert first == der(other, Host.parse(host), MONDAY + certificates.WEEK - SECOND)
    assert one.leaf_key.private_numbers() == other.leaf_key.private_numbers()


def test_a_week_begins_on_monday_in_utc_wherever_the_gate_is(authority: CertificateAuthority):
    east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    for zone in (UTC, east, west):
        assert der(authority, HOST, MONDAY.astimezone(zone)) == der(authority, HOST, NOW.astimezone(zone))
        assert der(authority, HOST, (MONDAY - SECOND).astimezone(zone)) != der(authority, HOST, MONDAY)
    assert authority.leaf(HOST, MONDAY).not_valid_before_utc == MONDAY - timedelta(days=2)


@given(st.datetimes(datetime(1960, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)))  # fixed time: a range
def test_a_leaf_covers_its_week_and_two_days_on_either_side(authority: CertificateAuthority, now: datetime):
    leaf = authority.leaf(HOST, now)
    assert leaf.not_valid_before_utc <= now - timedelta(days=2)
    assert leaf.not_valid_after_utc > now + timedelta(days=2)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=11)


def test_leaves_of_two_hosts_weeks_or_cas_have_nothing_in_common(root: pki.Ca):
    """A browser refuses two certificates that have one issuer and one serial (SEC_ERROR_REUSED_ISSUER_AND_SERIAL)."""
    ca = pki.new("Example Gate CA", root, now=NOW)
    once_more = pki.Ca(pki.new("Example Gate CA", root, now=NOW).certificate, ca.key)
    made = [
        parse(ca).leaf(HOST, NOW),
        parse(ca).leaf(Host.parse("listed.example"), NOW),
        parse(ca).leaf(HOST, NOW + certificates.WEEK),
        CertificateAuthority([once_more.certificate], ca.key).leaf(HOST, NOW),
        parse(pki.new("Example Gate CA", root, now=NOW)).leaf(HOST, NOW),
    ]
    assert len({leaf.serial_number for leaf in made}) == len(made)
    assert all(0 < leaf.serial_number < 2**159 for leaf in made)
    assert len({leaf.public_key().public_numbers() for leaf in made}) == 3


def test_the_end_of_a_leaf_is_part_of_its_serial(root: pki.Ca):
    """A CA above was issued anew, with another end: the leaf ends on another day, and so is another one."""
    ca = pki.new("Example Gate CA", root, now=NOW)
    above = [pki.new("Example Middle", root, now=NOW, lasts=timedelta(days=days)).certificate for days in (2, 3)]
    one, other = (CertificateAuthority([ca.certificate, each], ca.key).leaf(HOST, NOW) for each in above)
    assert one.not_valid_after_utc != other.not_valid_after_utc
    assert one.serial_number != other.serial_number


def test_a_library_that_cannot_sign_alike_is_said(authority: CertificateAuthority):
    class Key:
        """A key of a library that was built with an OpenSSL of before 3.2."""

        def sign(self, data: bytes, algorithm: ec.ECDSA) -> bytes:
            assert algorithm.deterministic_signing
            raise UnsupportedAlgorithm("ECDSA with deterministic signature")

    with pytest.raises(StoplistError, match=r"ca\.key: the cryptography library here cannot make deterministic"):
        certificates._must_sign_alike(Key(), "ca.key")


def test_a_leaf_for_an_address_names_the_address(authority: CertificateAuthority):
    names = authority.leaf(Host.parse("[2001:db8::1]"), NOW).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.IPAddress) == [ip_address("2001:db8::1")]


def test_a_leaf_does_not_outlive_its_ca_and_none_fails_where_that_has_ended(authority: CertificateAuthority):
    """A fault would be written within a minute, and tell that somebody had asked for a listed host."""
    ends = authority.certificate.not_valid_after_utc
    assert authority.leaf(HOST, ends - timedelta(days=1)).not_valid_after_utc == ends
    for late in (timedelta(days=1), timedelta(days=100)):
        assert ends <= authority.leaf(HOST, ends + late).not_valid_after_utc < ends + late


def test_ca_cannot_sign_another_ca(authority: CertificateAuthority):
    constraints = authority.certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value
    assert constraints.ca
    assert constraints.path_length == 0


def test_the_next_ca_of_a_gate_has_its_name_and_another_generation():
    first, _ = certificates.new(NOW)
    second, _ = certificates.new(NOW, before=first)
    third, _ = certificates.new(NOW, before=second)
    name = certificates.name_of(first)
    assert certificates.name_of(second) == name.replace(",O=", " G2,O=")
    assert certificates.name_of(third) == name.replace(",O=", " G3,O=")
    assert certificates.lineage(first) == certificates.lineage(second) == certificates.lineage(third)
    assert certificates.lineage(certificates.new(NOW)[0]) != certificates.lineage(first)


# The operator's CA


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048"])
def test_leaves_of_an_intermediate_verify_up_to_its_root(root: pki.Ca, kind: str):
    intermediate = pki.new("Example Gate CA", root, kind=kind, now=NOW, path_length=0)
    authority = parse(intermediate)
    leaf = authority.leaf(HOST, NOW)
    verify(leaf, root.certificate, *authority.chain)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert leaf.signature_hash_algorithm.name == ("sha384" if kind == "P-384" else "sha256")


def test_the_root_is_not_sent_and_the_earliest_end_counts(root: pki.Ca):
    middle = pki.new("Example Middle", root, now=NOW, lasts=timedelta(days=90))
    lowest = pki.new("Example Gate CA", middle, now=NOW, lasts=timedelta(days=100), path_length=0)
    authority = parse(lowest, middle, root)
    assert authority.chain == (lowest.certificate, middle.certificate)
    assert authority.ends == NOW + timedelta(days=90)
    verify(authority.leaf(HOST, NOW), root.certificate, *authority.chain)


def test_a_leaf_names_its_issuer_as_the_issuer_names_itself(root: pki.Ca):
    """Strict clients compare the bytes (RFC 5280, section 4.2.1.1), and not every CA makes them from SHA-1."""
    intermediate = pki.new("Example Gate CA", root, now=NOW, identifier=b"made in another way")
    found = parse(intermediate).leaf(HOST, NOW).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert found.value.key_identifier == b"made in another way"


def constrained(**names: list[str] | None) -> tuple[x509.NameConstraints]:
    return (
        x509.NameConstraints(
            **{
                which: [x509.DNSName(name) for name in names[which]] if names.get(which) else None
                for which in ("permitted_subtrees", "excluded_subtrees")
            }
        ),
    )


CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"ca": False}, "certificate is not a CA certificate (BasicConstraints)", id="no CA"),
        pytest.param({"ca": None}, "certificate is not a CA certificate (BasicConstraints)", id="no BasicConstraints"),
        pytest.param({"signs": False}, "may not sign certificates (KeyUsage has no keyCertSign)", id="no keyCertSign"),
        pytest.param({"signs": None}, "may not sign certificates (KeyUsage has no keyCertSign)", id="no KeyUsage"),
        pytest.param({"more": (CLIENTS,)}, "is not for servers (ExtendedKeyUsage has no serverAuth)", id="for clients"),
        pytest.param(
            {"more": constrained(permitted_subtrees=["school.example"])},
            "is for certain names only (NameConstraints): listed hosts have any name",
            id="for names of its own",
        ),
        pytest.param(
            {"more": constrained(excluded_subtrees=[""])},
            "is for certain names only (NameConstraints): listed hosts have any name",
            id="for no name",
        ),
        pytest.param(
            {"kind": "P-521"}, "clients do not accept a CA with this kind of key; use ECDSA P-256", id="P-521"
        ),
        pytest.param(
            {"kind": "RSA-1024"}, "clients do not accept a CA with this kind of key; use ECDSA P-256", id="RSA-1024"
        ),
        pytest.param(
            {"kind": "Ed25519"}, "clients do not accept a CA with this kind of key; use ECDSA P-256", id="Ed25519"
        ),
    ],
)
def test_an_intermediate_whose_leaves_no_client_would_accept_is_refused(root: pki.Ca, options: dict, message: str):
    with pytest.raises(StoplistError) as caught:
        parse(pki.new("Example Gate CA", root, now=NOW, **options))
    assert message in str(caught.value)
    assert str(caught.value).startswith(("ca.pem: ", "ca.key: "))
    assert caught.value.hint


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((SERVERS,), id="for servers"),
        pytest.param(constrained(excluded_subtrees=["intranet.school.example"]), id="all names but some"),
    ],
)
def test_constraints_that_leave_foreign_names_are_fine(root: pki.Ca, more: tuple):
    authority = parse(pki.new("Example Gate CA", root, now=NOW, more=more))
    verify(authority.leaf(HOST, NOW), root.certificate, *authority.chain)


def test_a_path_that_is_too_short_is_refused(root: pki.Ca):
    above = pki.new("Example Middle", root, now=NOW, path_length=0)
    with pytest.raises(StoplistError, match="certificate 2 of 2 permits no more than 0 CAs below it, and has 1"):
        parse(pki.new("Example Gate CA", above, now=NOW), above)


def test_a_chain_in_another_order_is_refused(root: pki.Ca):
    middle = pki.new("Example Middle", root, now=NOW)
    lowest = pki.new("Example Gate CA", middle, now=NOW)
    with pytest.raises(StoplistError, match="certificate 2 of 3 is not the issuer of the one before it"):
        parse(lowest, root, middle)


def test_what_is_no_certificate_or_no_key_is_refused(root: pki.Ca):
    intermediate = pki.new("Example Gate CA", root, now=NOW)
    der = intermediate.certificate.public_bytes(certificates.Encoding.DER)
    for data, key, message in (
        (der, intermediate.key_pem(), r"ca\.pem: not a certificate in PEM; convert it: openssl x509"),
        (b"", intermediate.key_pem(), r"ca\.pem: not a certificate in PEM"),
        (intermediate.pem, b"garbage", r"ca\.key: not a private key in PEM"),
        (intermediate.pem, intermediate.pem, r"ca\.key: not a private key in PEM"),
        (intermediate.pem, intermediate.key_pem(b"secret"), r"ca\.key: the key has a password; .*openssl pkey"),
        (intermediate.pem, root.key_pem(), r"ca\.key: not the key of the first certificate"),
    ):
        with pytest.raises(StoplistError, match=message):
            CertificateAuthority.parse(data, key, place="ca.pem", key_place="ca.key")


def test_certificate_and_key_may_stand_in_one_file_in_any_order(root: pki.Ca):
    intermediate = pki.new("Example Gate CA", root, now=NOW)
    for data in (intermediate.pem + intermediate.key_pem(), intermediate.key_pem() + intermediate.pem):
        parsed = CertificateAuthority.parse(data, data, place="ca.pem", key_place="ca.pem")
        assert parsed.certificate == intermediate.certificate


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of what was drawn
@given(st.data())
def test_any_bytes_give_a_ca_or_an_error(root: pki.Ca, data: st.DataObject):
    """Whatever one byte of a certificate, or a few, are: in the names, the times, the extensions."""
    der = bytearray(root.certificate.public_bytes(certificates.Encoding.DER))
    for at in data.draw(st.lists(st.integers(0, len(der) - 1), max_size=3)):
        der[at] = data.draw(st.integers(0, 255))
    text = b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(bytes(der))
    try:
        parsed = CertificateAuthority.parse(text, root.key_pem(), place="ca.pem", key_place="ca.key")
    except StoplistError as error:
        assert error.place  # noqa: PT017
    else:
        assert parsed.leaf(HOST, NOW)
