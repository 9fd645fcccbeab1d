"""CAs and leaves: what is signed is what clients accept, and a CA whose leaves they would not is refused."""

from __future__ import annotations

import base64
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
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
    assert leaf.not_valid_after_utc - NOW == timedelta(days=7)
    assert leaf.public_key() == authority.leaf_key.public_key() != authority.certificate.public_key()


def test_a_leaf_is_made_anew_each_time(authority: CertificateAuthority):
    """Kept ones would be a record of what was asked for."""
    one, other = (authority.leaf(Host("listed.test"), NOW) for _ in range(2))
    assert one.serial_number != other.serial_number


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
        assert authority.leaf(HOST, ends + late).not_valid_after_utc == ends + late


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
