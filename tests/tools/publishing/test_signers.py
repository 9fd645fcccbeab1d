"""Signers by path and by URI: what they sign verifies, and what fails is told without a traceback or a PIN.

The HSM itself is in tests/cli/softhsm.txt; ``file2:`` is securesystemslib's URI for a key file.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import Signature, Signer

from stoplist.core.lists.envelope import Envelope
from stoplist.core.lists.keys import KeyFileError, TrustedKey
from stoplist.core.lists.list_header import ListError
from stoplist.errors import StoplistError
from stoplist.tools.publishing import publish, signers
from stoplist.tools.publishing.signers import SigningKey
from tests.keys import make_list, new_ecdsa, new_ed25519, public_pem

ENVELOPE = Envelope.parse(make_list(["listed.example"]))
PIN = "24680"


def nobody(secret: str) -> str:
    """There is no terminal to ask at."""
    raise StoplistError(f"no {secret}")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with two key pairs."""
    for name in ("authority", "operator"):
        publish.make_signing_key(tmp_path / name, force=False)
    return tmp_path


def key_id(path: Path) -> str:
    return TrustedKey.parse(path.read_bytes()).key_id


def test_a_uri_signs_under_the_key_id_of_its_public_key(desk: Path) -> None:
    key = signers.open_key(f"file2:{desk}/authority", desk / "authority.pub", nobody)
    signed = key.sign(ENVELOPE)
    assert [signature.keyid for signature in signed.signatures] == [key_id(desk / "authority.pub")]
    trusted = TrustedKey.parse((desk / "authority.pub").read_bytes())
    assert signed.signers([trusted]) == (trusted,)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_file_signs_under_the_key_id_of_its_public_key(
    tmp_path: Path, curve: ec.EllipticCurve, form: PrivateFormat
) -> None:
    private = ec.generate_private_key(curve)
    (tmp_path / "own").write_bytes(private.private_bytes(Encoding.PEM, form, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (signature,) = signers.from_file(tmp_path / "own").sign(ENVELOPE).signatures
    assert signature.keyid == TrustedKey.parse(public).key_id


def test_a_key_that_has_signed_does_not_sign_again(desk: Path) -> None:
    key = signers.from_file(desk / "authority")
    with pytest.raises(ListError, match="has already signed this list"):
        key.sign(key.sign(ENVELOPE))


@pytest.mark.parametrize(
    ("name", "is_uri"),
    [
        pytest.param("hsm:", True, id="HSM"),
        pytest.param("awskms:alias/stoplist", True, id="AWS"),
        pytest.param("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", True, id="GCP"),
        pytest.param("azurekms://vault.vault.azure.net/keys/k/1", True, id="Azure"),
        pytest.param("hv:stoplist/1", True, id="Vault"),
        pytest.param("gnupg:ABCD", False, id="GnuPG"),
        pytest.param("./hsm:2", False, id="a file of such a name"),
        pytest.param("keys/authority", False, id="path"),
        pytest.param("hsm", False, id="no colon"),
    ],
)
def test_a_name_is_a_uri_or_a_path(name: str, is_uri: bool) -> None:
    assert signers.is_uri(name) == is_uri


def test_public_keys_go_to_the_uris_in_order() -> None:
    names = ["authority", "hsm:1", "operator", "hsm:2"]
    assert signers.pair(names, [Path("one"), Path("two")]) == [
        ("authority", None),
        ("hsm:1", Path("one")),
        ("operator", None),
        ("hsm:2", Path("two")),
    ]


@pytest.mark.parametrize(
    ("names", "public_keys"),
    [
        pytest.param(["hsm:"], [], id="none"),
        pytest.param(["hsm:"], [Path("a"), Path("b")], id="too many"),
        pytest.param(["authority"], [Path("authority.pub")], id="for a key file"),
    ],
)
def test_each_uri_needs_one_public_key(names: list[str], public_keys: list[Path]) -> None:
    with pytest.raises(ValueError, match="name a --public-key for each URI"):
        signers.pair(names, public_keys)


def test_a_scheme_that_nobody_knows_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoplistError) as caught:
        signers.open_key("hms:2", None, nobody)
    assert str(caught.value) == (
        "hms:2: no such file, and no signer for 'hms:'; write a path, or a URI with "
        "awskms:, azurekms:, file2:, gcpkms:, hsm:, hv:, tkey:"
    )


def test_a_file_may_have_a_colon_in_its_name(desk: Path) -> None:
    (desk / "authority").rename(desk / "hms:2")
    assert signers.open_key(str(desk / "hms:2"), None, nobody).public.key_id == key_id(desk / "authority.pub")


def test_the_public_key_of_another_is_told_and_nothing_is_signed(desk: Path) -> None:
    with pytest.raises(StoplistError) as caught:
        signers.open_key(f"file2:{desk}/authority", desk / "operator.pub", nobody)
    assert str(caught.value).startswith(f"file2:{desk}/authority: cannot sign (CryptoSigner private key does not match")


def test_a_private_key_named_as_public_is_told(desk: Path) -> None:
    with pytest.raises(KeyFileError, match="this is a private key") as caught:
        signers.open_key("hsm:2", desk / "authority", nobody)
    assert caught.value.place == str(desk / "authority")


class Device(Signer):
    """A signer somewhere else, which answers as it is told."""

    def __init__(self, answer: Signature | Exception) -> None:
        self.answer = answer

    def sign(self, payload: bytes) -> Signature:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def public_key(self):
        raise NotImplementedError

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri, public_key, secrets_handler=None):
        raise NotImplementedError


class PinIncorrect(Exception):  # noqa: N818  the name that python-pkcs11 gives it
    pass


def device(name: str, answer: Signature | Exception) -> SigningKey:
    return SigningKey(name, TrustedKey.parse(public_pem(new_ed25519())), Device(answer), [PIN])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        pytest.param(
            "hsm:2?label=a&pin=24680",
            PinIncorrect(),
            "hsm:2: cannot sign (PinIncorrect); check the PIN (STOPLIST_HSM_PIN): "
            "an HSM locks itself after a few wrong ones",
            id="wrong PIN",
        ),
        pytest.param(
            "hsm:2",
            RuntimeError(f"C_Login('{PIN}')\n failed"),
            "hsm:2: cannot sign (RuntimeError: C_Login('...') failed); check PYKCS11LIB, and key id and label in "
            "'hsm:ID?label=TOKEN'; the key must be ECDSA P-256 or P-384",
            id="a library that shows the PIN",
        ),
        pytest.param(
            "hsm:2",
            UnsupportedLibraryError("'python-pkcs11' required"),
            "hsm:2: the library for hsm: keys is not installed; pip install 'stoplist[hsm]'",
            id="no library",
        ),
        pytest.param(
            "hv:stoplist/1",
            UnsupportedLibraryError("hvac"),
            "hv:stoplist/1: the library for hv: keys is not installed; pip install 'securesystemslib[vault]'",
            id="no library for Vault",
        ),
        pytest.param(
            "awskms:alias/stoplist",
            KeyError("ed25519"),
            "awskms:alias/stoplist: cannot sign (KeyError: 'ed25519'); check the URI, the kind of its public key, "
            "the credentials and the network",
            id="a kind of key that the KMS has not",
        ),
    ],
)
def test_what_a_device_says_is_told_with_a_remedy_and_without_a_pin(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, message: str
) -> None:
    monkeypatch.setenv("PYKCS11LIB", "/usr/lib/softhsm/libsofthsm2.so")
    with pytest.raises(StoplistError) as caught:
        device(name, error).sign(ENVELOPE)
    assert str(caught.value) == message
    assert PIN not in str(caught.value)


def test_a_device_that_signs_with_another_key_is_told() -> None:
    public = TrustedKey.parse(public_pem(new_ecdsa()))
    another = new_ecdsa().sign(b"").signature
    key = SigningKey("hsm:2", public, Device(Signature(public.key_id, another)))
    with pytest.raises(StoplistError) as caught:
        key.sign(ENVELOPE)
    assert str(caught.value) == (
        "hsm:2: its signatures do not verify with the public key; name the public key that belongs to this private key"
    )


def test_secrets_do_not_show_in_a_repr() -> None:
    assert PIN not in repr(device("hsm:2", ValueError()))
