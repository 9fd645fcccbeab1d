"""Publishing: keys are private and never overwritten; what is written is whole, and what was looked at is signed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import CryptoSigner

from stoplist.core.hosts import CHECK_HOST, Host
from stoplist.core.lists.envelope import Envelope
from stoplist.core.lists.guard import DomainChanges
from stoplist.core.lists.keys import KeyFileError, ListKey
from stoplist.core.lists.keys import TrustedKey as PublicKey
from stoplist.core.lists.list_header import ListError, ListFault, ListHeader
from stoplist.core.lists.signed_list import SignedList
from stoplist.errors import StoplistError
from stoplist.tools.publishing import publish, signers
from stoplist.tools.publishing.domains import read_domains
from tests.fixed_time import NOW
from tests.keys import LIST_KEY, new_ecdsa, new_ed25519, new_rsa, public_pem

EXPIRES = NOW + timedelta(days=30)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Keys


def test_a_signing_key_is_a_private_file_and_a_public_one_that_belong_together(tmp_path: Path) -> None:
    publish.make_signing_key(tmp_path / "authority", force=False)
    assert names(tmp_path) == ["authority", "authority.pub"]
    assert (mode(tmp_path / "authority"), mode(tmp_path / "authority.pub")) == (0o600, 0o644)
    private = load_pem_private_key((tmp_path / "authority").read_bytes(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert private.public_key() == load_pem_public_key((tmp_path / "authority.pub").read_bytes())


def test_a_list_key_is_a_private_file(tmp_path: Path) -> None:
    publish.make_list_key(tmp_path / "listkey", force=False)
    assert names(tmp_path) == ["listkey"]
    assert mode(tmp_path / "listkey") == 0o600
    assert len(ListKey.parse((tmp_path / "listkey").read_bytes()).secret) == 32


@pytest.mark.parametrize("make", [publish.make_signing_key, publish.make_list_key])
def test_each_key_is_another(tmp_path: Path, make: Callable[..., None]) -> None:
    make(tmp_path / "one", force=False)
    make(tmp_path / "two", force=False)
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("make", "existing"),
    [
        pytest.param(publish.make_signing_key, "key", id="private key"),
        pytest.param(publish.make_signing_key, "key.pub", id="public key"),
        pytest.param(publish.make_list_key, "key", id="list key"),
    ],
)
def test_a_key_is_never_overwritten_unless_forced(tmp_path: Path, make: Callable[..., None], existing: str) -> None:
    (tmp_path / existing).write_bytes(b"precious")
    (tmp_path / existing).chmod(0o644)
    with pytest.raises(StoplistError) as caught:
        make(tmp_path / "key", force=False)
    assert str(caught.value) == f"{tmp_path / existing}: exists already; use --force to overwrite it"
    assert names(tmp_path) == [existing]
    assert (tmp_path / existing).read_bytes() == b"precious"
    make(tmp_path / "key", force=True)
    assert (tmp_path / existing).read_bytes() != b"precious"
    assert mode(tmp_path / "key") == 0o600


@pytest.mark.parametrize("blocked", ["key", "key.pub"])
def test_a_key_pair_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, blocked: str) -> None:
    publish.make_signing_key(tmp_path / "key", force=False)
    (tmp_path / blocked).unlink()
    (tmp_path / blocked).mkdir()
    (other,) = {"key", "key.pub"} - {blocked}
    before = (tmp_path / other).read_bytes()
    with pytest.raises(StoplistError) as caught:
        publish.make_signing_key(tmp_path / "key", force=True)
    assert str(caught.value) == (
        f"{tmp_path / blocked}: cannot be written (Is a directory); check the folder, its owner and the disk"
    )
    assert (tmp_path / other).read_bytes() == before
    assert names(tmp_path) == ["key", "key.pub"]


# Building and signing


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A publisher's folder: two signing keys and a list key."""
    for name in ("authority", "operator"):
        publish.make_signing_key(tmp_path / name, force=False)
    (tmp_path / "listkey").write_bytes(LIST_KEY.to_text())
    return tmp_path


def build(
    desk: Path,
    *keys: str,
    text: str = "listed.example\nlisted.test",
    serial: int | None = 1,
    list_id: str = "worst-of",
    expires: datetime = EXPIRES,
    compare_with: str | None = None,
    force: bool = True,
) -> publish.Built:
    return publish.build_list(
        read_domains(text.splitlines(), "domains.txt"),
        list_id=list_id,
        serial=serial,
        expires=expires,
        list_key=desk / "listkey",
        signing_keys=[signers.from_file(desk / key) for key in keys],
        recipient="Example School",
        output=desk / "worst-of.stoplist",
        now=NOW,
        compare_with=None if compare_with is None else desk / compare_with,
        force=force,
    )


def sign(desk: Path, key: str) -> None:
    publish.review(desk / "worst-of.stoplist").sign(signers.from_file(desk / key))


def verify(desk: Path, *keys: str, threshold: int = 1, now: datetime = NOW):
    return publish.verify_list(desk / "worst-of.stoplist", [desk / f"{key}.pub" for key in keys], threshold, now)


def key_ids(desk: Path, *keys: str) -> set[str]:
    return {PublicKey.parse((desk / f"{key}.pub").read_bytes()).key_id for key in keys}


def test_a_list_is_built_from_domains_and_opens(desk: Path) -> None:
    header = build(desk, "authority", serial=7).header
    assert header == ListHeader("worst-of", 7, NOW, EXPIRES, 2, LIST_KEY.key_id, "Example School", CHECK_HOST)
    signed = SignedList.open(
        (desk / "worst-of.stoplist").read_bytes(),
        trusted=[PublicKey.parse((desk / "authority.pub").read_bytes())],
        threshold=1,
        list_keys=[LIST_KEY],
        now=NOW,
    )
    assert signed.header == header
    assert signed.digests.longest_suffix(Host("www.listed.example")) == 2
    assert mode(desk / "worst-of.stoplist") == 0o644


def test_a_built_list_holds_no_domain_and_no_list_key(desk: Path) -> None:
    build(desk, "authority")
    payload = publish.read_envelope(desk / "worst-of.stoplist").payload
    assert b"listed" not in payload
    assert LIST_KEY.secret not in payload
    assert LIST_KEY.secret.hex().encode() not in payload


def test_the_order_of_lines_does_not_change_a_list(desk: Path) -> None:
    build(desk, text="a.example\nb.example\nc.example")
    one = publish.read_envelope(desk / "worst-of.stoplist").payload
    build(desk, text="c.example\na.example\nb.example\na.example")
    assert publish.read_envelope(desk / "worst-of.stoplist").payload == one


def test_a_second_signature_is_added(desk: Path) -> None:
    build(desk, "authority")
    sign(desk, "operator")
    verified = verify(desk, "authority", "operator", threshold=2)
    assert set(verified.signers) == key_ids(desk, "authority", "operator")


def test_signing_twice_with_the_same_key_is_refused_and_changes_nothing(desk: Path) -> None:
    build(desk, "authority")
    before = (desk / "worst-of.stoplist").read_bytes()
    with pytest.raises(ListError) as caught:
        sign(desk, "authority")
    (key_id,) = key_ids(desk, "authority")
    assert str(caught.value) == (
        f"{desk}/worst-of.stoplist: key {key_id[:16]} has already signed this list; "
        "the second signature must come from another person's key"
    )
    assert caught.value.fault == ListFault.SIGNATURES
    assert (desk / "worst-of.stoplist").read_bytes() == before


def test_building_with_the_same_key_twice_is_refused_and_writes_nothing(desk: Path) -> None:
    with pytest.raises(ListError, match="has already signed"):
        build(desk, "authority", "authority")
    assert not (desk / "worst-of.stoplist").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"serial": 0}, id="serial"),
        pytest.param({"list_id": "Worst Of"}, id="list id"),
        pytest.param({"expires": NOW + timedelta(milliseconds=1)}, id="expiry within the second"),
    ],
)
def test_a_list_that_no_gate_would_take_is_not_written(desk: Path, changes: dict[str, object]) -> None:
    build(desk, "authority")
    before = (desk / "worst-of.stoplist").read_bytes()
    with pytest.raises(ListError) as caught:
        build(desk, "authority", **changes)
    assert caught.value.fault == ListFault.HEADER
    assert (desk / "worst-of.stoplist").read_bytes() == before


@pytest.mark.parametrize("expires", [pytest.param(NOW, id="now"), pytest.param(NOW - timedelta(days=1), id="before")])
def test_a_list_that_has_expired_is_not_written(desk: Path, expires: datetime) -> None:
    with pytest.raises(StoplistError, match="is past") as caught:
        build(desk, "authority", expires=expires)
    assert caught.value.hint == "choose a later --expires"
    assert not (desk / "worst-of.stoplist").exists()


@pytest.mark.parametrize("data", [pytest.param(b"", id="empty"), pytest.param(b"<!DOCTYPE html>", id="an error page")])
def test_what_is_no_list_is_not_signed(desk: Path, data: bytes) -> None:
    path = desk / "worst-of.stoplist"
    path.write_bytes(data)
    with pytest.raises(ListError) as caught:
        sign(desk, "authority")
    assert caught.value.place == str(path)
    assert path.read_bytes() == data


def test_a_list_whose_header_cannot_be_read_is_not_signed(desk: Path) -> None:
    build(desk, "authority")
    path = desk / "worst-of.stoplist"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"payload": "e30K"}))
    before = path.read_bytes()
    with pytest.raises(ListError) as caught:
        sign(desk, "operator")
    assert caught.value.fault == ListFault.HEADER
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(new_ecdsa(), id="ECDSA"),
        pytest.param(new_rsa(), id="RSA"),
        pytest.param(new_ed25519(), id="Ed25519"),
    ],
)
def test_each_kind_of_private_key_signs(desk: Path, signer: CryptoSigner) -> None:
    (desk / "own").write_bytes(signer.private_bytes)
    (desk / "own.pub").write_bytes(public_pem(signer))
    build(desk, "own")
    assert set(verify(desk, "own").signers) == key_ids(desk, "own")


def private_pem(key, word: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(word) if word else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        pytest.param(b"", "use the private key that 'stoplist list keygen' wrote", id="empty"),
        pytest.param(LIST_KEY.to_text(), "use the private key that 'stoplist list keygen' wrote", id="a list key"),
        pytest.param(
            public_pem(new_ed25519()), "this is a public key: name the private one, without .pub", id="a public key"
        ),
        pytest.param(
            private_pem(ed25519.Ed25519PrivateKey.generate(), b"word"),
            "use the private key that 'stoplist list keygen' wrote",
            id="under a password",
        ),
        pytest.param(
            private_pem(x25519.X25519PrivateKey.generate()),
            "use the private key that 'stoplist list keygen' wrote",
            id="X25519",
        ),
        pytest.param(
            private_pem(dsa.generate_private_key(1024)),
            "use the private key that 'stoplist list keygen' wrote",
            id="DSA",
        ),
    ],
)
def test_what_is_no_signing_key_is_told_with_a_remedy(desk: Path, data: bytes, hint: str) -> None:
    (desk / "own").write_bytes(data)
    with pytest.raises(KeyFileError) as caught:
        build(desk, "own")
    assert str(caught.value) == f"{desk}/own: not a private key in PEM (Ed25519, ECDSA or RSA); {hint}"
    assert not (desk / "worst-of.stoplist").exists()


def test_a_faulty_list_key_is_told_with_its_file_and_nothing_is_written(desk: Path) -> None:
    (desk / "listkey").write_bytes(b"deadbeef")
    with pytest.raises(KeyFileError, match="64 hexadecimal digits") as caught:
        build(desk, "authority")
    assert caught.value.place == str(desk / "listkey")
    assert "deadbeef" not in str(caught.value)
    assert not (desk / "worst-of.stoplist").exists()


# Comparing and reviewing


def test_a_list_is_compared_with_the_one_before_it(desk: Path) -> None:
    build(desk, "authority", text="a.example\nb.example\nc.example")
    (desk / "worst-of.stoplist").rename(desk / "before")
    comparison = build(
        desk, text="b.example\nc.example\nd.example\ne.example", serial=2, compare_with="before"
    ).comparison
    assert comparison is not None
    assert (comparison.file, comparison.old.serial) == (desk / "before", 1)
    assert comparison.change == DomainChanges(3, 4, 2, 1, same_key=True)
    assert publish.review(desk / "worst-of.stoplist", desk / "before").comparison == comparison


def test_a_list_may_be_compared_with_the_file_it_replaces(desk: Path) -> None:
    build(desk, text="a.example")
    comparison = build(desk, text="b.example\nc.example", serial=2, compare_with="worst-of.stoplist").comparison
    assert comparison is not None
    assert comparison.change == DomainChanges(1, 2, 2, 1, same_key=True)


def test_under_another_list_key_only_the_sizes_are_compared(desk: Path) -> None:
    build(desk, text="a.example\nb.example")
    (desk / "worst-of.stoplist").rename(desk / "before")
    publish.make_list_key(desk / "listkey", force=True)
    comparison = build(desk, text="c.example", serial=2, compare_with="before").comparison
    assert comparison is not None
    assert comparison.change == DomainChanges(2, 1, 0, 1, same_key=False)


def test_another_list_is_not_what_to_compare_with_and_nothing_is_written(desk: Path) -> None:
    build(desk, list_id="other")
    (desk / "worst-of.stoplist").rename(desk / "before")
    with pytest.raises(StoplistError) as caught:
        build(desk, compare_with="before")
    assert str(caught.value) == (
        f"{desk}/before: this is the list 'other', not 'worst-of'; compare with the list that came before it"
    )
    assert not (desk / "worst-of.stoplist").exists()


def without_its_last_digest(path: Path) -> None:
    envelope = publish.read_envelope(path)
    path.write_bytes(Envelope(envelope.payload[:-16], envelope.signatures).to_bytes())


@pytest.mark.parametrize("spoil", [without_its_last_digest, lambda path: path.write_bytes(b"{}")])
def test_a_broken_list_is_not_compared_with(desk: Path, spoil: Callable[[Path], None]) -> None:
    build(desk)
    spoil(desk / "worst-of.stoplist")
    (desk / "worst-of.stoplist").rename(desk / "before")
    with pytest.raises(ListError) as caught:
        build(desk, compare_with="before")
    assert caught.value.place == str(desk / "before")
    assert not (desk / "worst-of.stoplist").exists()


def test_the_next_signer_sees_what_the_file_says_of_itself(desk: Path) -> None:
    header = build(desk, "authority").header
    review = publish.review(desk / "worst-of.stoplist")
    assert review.header == header
    assert set(review.signers) == key_ids(desk, "authority")
    assert review.comparison is None


def test_a_list_that_no_gate_would_take_is_not_offered_for_signing(desk: Path) -> None:
    build(desk, "authority")
    without_its_last_digest(desk / "worst-of.stoplist")
    with pytest.raises(ListError) as caught:
        publish.review(desk / "worst-of.stoplist")
    assert (caught.value.fault, caught.value.place) == (ListFault.DIGESTS, str(desk / "worst-of.stoplist"))


def test_a_list_exchanged_while_it_is_looked_at_is_not_signed(desk: Path) -> None:
    build(desk, "authority")
    review = publish.review(desk / "worst-of.stoplist")
    build(desk, "authority", text="smuggled.example")
    exchanged = (desk / "worst-of.stoplist").read_bytes()
    with pytest.raises(StoplistError, match="the file has changed while you looked at it"):
        review.sign(signers.from_file(desk / "operator"))
    assert (desk / "worst-of.stoplist").read_bytes() == exchanged


def test_a_file_is_what_securesystemslib_writes(desk: Path) -> None:
    build(desk, "authority", "operator")
    data = (desk / "worst-of.stoplist").read_bytes()
    envelope = DsseEnvelope.from_dict(json.loads(data))
    assert json.dumps(envelope.to_dict(), separators=(",", ":")).encode() + b"\n" == data


# Verifying


def test_a_list_is_verified_without_its_list_key(desk: Path) -> None:
    build(desk, "authority", "operator")
    (desk / "listkey").unlink()
    verified = verify(desk, "authority", "operator", threshold=2)
    assert (verified.header.list, verified.header.count) == ("worst-of", 2)


def test_too_few_signatures_do_not_verify(desk: Path) -> None:
    build(desk, "authority")
    with pytest.raises(ListError, match="signed by 1 of the trusted keys, 2 needed") as caught:
        verify(desk, "authority", "operator", threshold=2)
    assert caught.value.fault == ListFault.SIGNATURES
    assert caught.value.place == str(desk / "worst-of.stoplist")


def test_the_same_public_key_named_twice_counts_once(desk: Path) -> None:
    build(desk, "authority")
    with pytest.raises(ListError, match="signed by 1 of the trusted keys, 2 needed"):
        verify(desk, "authority", "authority", threshold=2)


@pytest.mark.parametrize(
    ("now", "fine"),
    [
        pytest.param(EXPIRES - timedelta(seconds=1), True, id="a second before"),
        pytest.param(EXPIRES, False, id="at the moment"),
    ],
)
def test_an_expired_list_does_not_verify(desk: Path, now: datetime, fine: bool) -> None:
    build(desk, "authority")
    if fine:
        assert verify(desk, "authority", now=now).header.expires == EXPIRES
        return
    with pytest.raises(StoplistError) as caught:
        verify(desk, "authority", now=now)
    assert str(caught.value) == (
        f"{desk}/worst-of.stoplist: the list expired on {EXPIRES:%FT%TZ}; fetch a fresh list from its publisher"
    )


def test_a_private_key_named_for_verifying_is_told_as_such(desk: Path) -> None:
    build(desk, "authority")
    with pytest.raises(KeyFileError) as caught:
        publish.verify_list(desk / "worst-of.stoplist", [desk / "authority"], 1, NOW)
    assert caught.value.place == str(desk / "authority")
    assert "this is a private key" in caught.value.hint


# Expiry


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-01-31", datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), id="end of a day"),
        pytest.param("2028-02-29", datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC), id="leap day"),
        pytest.param("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC), id="time in UTC"),
        pytest.param("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC), id="time elsewhere"),
        pytest.param("2026-01-31T23:30:00-01:00", datetime(2026, 2, 1, 0, 30, tzinfo=UTC), id="the next day in UTC"),
    ],
)
def test_an_expiry_is_a_day_or_a_time(text: str, moment: datetime) -> None:
    assert publish.parse_expiry(text) == moment
    assert publish.parse_expiry(text).tzinfo == UTC


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("soon", id="a word"),
        pytest.param("2026-02-30", id="a date that does not exist"),
        pytest.param("31.01.2026", id="another form"),
        pytest.param("2026-1-31", id="one digit"),
        pytest.param("2026-01-31T12:00:00", id="no zone"),
        pytest.param("20260131", id="no zone, short form"),
        pytest.param("9999-12-31T23:59:59-01:00", id="beyond the last year"),
        pytest.param("0001-01-01T00:00:00+01:00", id="before the first year"),
    ],
)
def test_what_is_no_expiry_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        publish.parse_expiry(text)


# The list before


@pytest.mark.parametrize("serial", [6, 7])
@pytest.mark.parametrize("where", ["the file that is replaced", "the file to compare with"])
def test_a_serial_that_gates_would_refuse_is_refused(desk: Path, serial: int, where: str) -> None:
    build(desk, "authority", serial=7)
    if where == "the file to compare with":
        (desk / "worst-of.stoplist").replace(desk / "before.stoplist")
    compare_with = "before.stoplist" if where == "the file to compare with" else None
    before = sorted(path.read_bytes() for path in desk.glob("*.stoplist"))
    with pytest.raises(StoplistError, match=rf"serial {serial} is not higher than 7 .*--serial next, or --serial 8"):
        build(desk, "authority", serial=serial, compare_with=compare_with, force=False)
    assert sorted(path.read_bytes() for path in desk.glob("*.stoplist")) == before
    assert build(desk, "authority", serial=serial, compare_with=compare_with).header.serial == serial


def test_the_next_serial_is_one_higher_than_all_before(desk: Path) -> None:
    build(desk, "authority", serial=7)
    (desk / "worst-of.stoplist").replace(desk / "before.stoplist")
    build(desk, "authority", serial=9)
    built = build(desk, "authority", serial=None, compare_with="before.stoplist", force=False)
    assert built.header.serial == 10


def test_there_is_no_next_serial_without_a_list_before(desk: Path) -> None:
    with pytest.raises(StoplistError, match="there is no list before this one; write its number: --serial 1"):
        build(desk, "authority", serial=None, force=False)
    assert not (desk / "worst-of.stoplist").exists()


def test_a_list_of_another_name_has_serials_of_its_own(desk: Path) -> None:
    build(desk, "authority", serial=7, list_id="other")
    assert build(desk, "authority", serial=1, force=False).header.serial == 1


def test_whoever_signed_the_list_that_is_replaced_must_sign_again(desk: Path) -> None:
    build(desk, "authority", "operator", serial=7)
    before = (desk / "worst-of.stoplist").read_bytes()
    with pytest.raises(StoplistError, match="and the new list would have none; sign with all keys"):
        build(desk, "authority", serial=8, force=False)
    assert (desk / "worst-of.stoplist").read_bytes() == before
    assert build(desk, "operator", "authority", serial=8, force=False).header.serial == 8
    assert build(desk, "authority", serial=9).header.serial == 9
