"""Publishing: faulty lines are all told at once and nothing is written; keys are private and never overwritten."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from stoplist.core.hosts import Host
from stoplist.core.signedlist import CHECK_HOST, KeyFileError, ListError, ListFault, ListHeader, ListKey, SignedList
from stoplist.core.signedlist import TrustedKey as PublicKey
from stoplist.errors import Problems, StoplistError
from stoplist.tools import publish
from stoplist.tools.publish import DomainError, Domains
from tests.keys import LIST_KEY, NOW, new_ecdsa, new_ed25519, new_rsa, public_pem

EXPIRES = NOW + timedelta(days=30)
TOO_LONG = ".".join(["a" * 54, *["b" * 63] * 3, "example"])
assert len(TOO_LONG) == 254


def domains(text: str) -> Domains:
    return publish.read_domains(text.splitlines(), "domains.txt")


def faults(text: str) -> list[str]:
    """The faults of a list of domains as a publisher sees them, one each."""
    with pytest.raises(Problems) as caught:
        domains(text)
    assert all(isinstance(problem, DomainError) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Reading domains


def test_domains_are_read_one_a_line_with_comments_and_blank_lines() -> None:
    text = "# a list\n\nlisted.example\n  other.example  # why\n\t\n#hidden.example\nthird.test#no space"
    assert domains(text) == Domains(frozenset({"listed.example", "other.example", "third.test"}), 0, 0)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        pytest.param("LISTED.Example", "listed.example", id="case"),
        pytest.param("listed.example.", "listed.example", id="trailing dot"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="Unicode"),
        pytest.param("BÜCHER.example", "xn--bcher-kva.example", id="Unicode upper case"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="punycode"),
        pytest.param("faß.example", "xn--fa-hia.example", id="sharp s"),
        pytest.param("listed。example", "listed.example", id="ideographic full stop"),
        pytest.param("listed.例え.test", "listed.xn--r8jz45g.test", id="Unicode in the middle"),
        pytest.param("\ufefflisted.example", "listed.example", id="byte order mark of the file"),
        pytest.param("listed.example\r", "listed.example", id="Windows newline"),
        pytest.param("\u00a0listed.example", "listed.example", id="no-break space"),
        pytest.param("_x.listed.example", "_x.listed.example", id="underscore"),
    ],
)
def test_a_domain_is_listed_in_its_canonical_form(line: str, name: str) -> None:
    assert publish.read_domains([line], "domains.txt").names == {name}


def test_one_domain_in_several_forms_is_a_duplicate() -> None:
    text = "bücher.example\nxn--bcher-kva.example\nBÜCHER.example.\nlisted.example"
    assert domains(text) == Domains(frozenset({"xn--bcher-kva.example", "listed.example"}), 2, 0)


def test_what_a_parent_covers_is_dropped_wherever_the_parent_stands() -> None:
    text = "a.listed.example\nlisted.example\nb.a.listed.example\nnotlisted.example\nx.y.other.example"
    kept = frozenset({"listed.example", "notlisted.example", "x.y.other.example"})
    assert domains(text) == Domains(kept, 0, 2)


LABEL = st.sampled_from(["a", "b", "listed", "x1"])
NAMES = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))


# The public suffix list is read anew each time, so few examples.
@settings(max_examples=25)
@given(st.lists(NAMES, min_size=1, max_size=12))
def test_what_is_kept_covers_all_that_was_written_and_nothing_twice(written: list[str]) -> None:
    read = publish.read_domains(written, "domains.txt")
    for name in written:
        assert len([kept for kept in read.names if f".{name}".endswith(f".{kept}")]) == 1
    assert read.names <= set(written)
    assert len(read.names) + read.covered + read.duplicates == len(written)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param(
            "https://listed.example/page",
            "'https://listed.example/page' is a URL; write the domain alone: a list covers whole domains",
            id="URL",
        ),
        pytest.param(
            "listed.example/page",
            "'listed.example/page' is a URL; write the domain alone: a list covers whole domains",
            id="path",
        ),
        pytest.param(
            "*.listed.example",
            "'*.listed.example' is a wildcard; write the domain alone: its subdomains are covered",
            id="wildcard",
        ),
        pytest.param(
            "192.0.2.1",
            "'192.0.2.1' is an IP address; remove the line: addresses are shared, only names are listed",
            id="IPv4",
        ),
        pytest.param(
            "0xC0000201",
            "'0xC0000201' is an IP address; remove the line: addresses are shared, only names are listed",
            id="IPv4 in hexadecimal",
        ),
        pytest.param(
            "2001:db8::1",
            "'2001:db8::1' is an IP address; remove the line: addresses are shared, only names are listed",
            id="IPv6",
        ),
        pytest.param(
            "localhost",
            "'localhost' is a single label; write the domain as it is registered, such as 'listed.example'",
            id="single label",
        ),
        pytest.param(
            "example",
            "'example' is a single label; write the domain as it is registered, such as 'listed.example'",
            id="top level",
        ),
        pytest.param(
            "listed.example:443",
            "'listed.example:443' is no domain: the host has a port; correct or remove the line",
            id="port",
        ),
        pytest.param(
            "user@listed.example",
            "'user@listed.example' is no domain: the host holds a character that no host may hold; "
            "correct or remove the line",
            id="mail address",
        ),
        pytest.param(
            "listed example",
            "'listed example' is no domain: the host cannot be read by the URL Standard; correct or remove the line",
            id="two words",
        ),
        pytest.param(
            "a..listed.example",
            "'a..listed.example' is no domain: DNS cannot hold it; correct or remove the line",
            id="empty label",
        ),
        pytest.param(
            ".listed.example",
            "'.listed.example' is no domain: DNS cannot hold it; correct or remove the line",
            id="leading dot",
        ),
        pytest.param(
            "a" * 64 + ".example",
            f"'{'a' * 64}.example' is no domain: DNS cannot hold it; correct or remove the line",
            id="label too long",
        ),
        pytest.param(
            TOO_LONG,
            f"'{TOO_LONG}' is no domain: DNS cannot hold it; correct or remove the line",
            id="name too long",
        ),
    ],
)
def test_a_line_that_is_no_domain_is_told_with_its_number_and_a_remedy(line: str, fault: str) -> None:
    assert faults(f"# comment\ngood.example\n\n{line}  # ticket 5\n") == [f"domains.txt:4: {fault}"]


# Real ones: no reserved name is on the public suffix list.
@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param("co.uk", id="plain"),
        pytest.param("CO.UK.", id="in another spelling"),
        pytest.param("個人.香港", id="Unicode"),
        pytest.param("xn--mxtq1m.xn--j6w193g", id="punycode"),
        pytest.param("listed.ck", id="by a wildcard rule"),
    ],
)
def test_a_public_suffix_is_told_with_its_number_and_a_remedy(suffix: str) -> None:
    assert faults(f"good.example\n{suffix}\n") == [
        f"domains.txt:2: {suffix!r} is a public suffix, under which anybody can register; "
        "list the domains below it that were checked"
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a" * 63 + ".example", id="label as long as DNS allows"),
        pytest.param(TOO_LONG[1:], id="name as long as DNS allows"),
    ],
)
def test_a_name_as_long_as_dns_allows_is_listed(name: str) -> None:
    assert domains(name).names == {name}


def test_every_faulty_line_is_told_in_one_run() -> None:
    text = "https://a.example/\ngood.example\n*.b.example\n192.0.2.1\nco.uk\nlocalhost\nc.example:1\n"
    assert [fault.partition(": ")[0] for fault in faults(text)] == [
        f"domains.txt:{line}" for line in (1, 3, 4, 5, 6, 7)
    ]


@pytest.mark.parametrize("text", [pytest.param("", id="empty"), pytest.param("# later\n\n", id="only comments")])
def test_a_list_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(StoplistError) as caught:
        domains(text)
    assert str(caught.value) == ("domains.txt: no domain at all; an empty list would stop nothing: check the file")


@settings(max_examples=40)
@given(st.text(max_size=30) | st.text("abc.:/*#@[]xn-0%\t ß。", max_size=15))
def test_any_line_is_a_domain_or_told(line: str) -> None:
    try:
        read = publish.read_domains([line], "domains.txt")
    except StoplistError as error:
        told = str(error)
    else:
        (name,) = read.names
        assert Host.parse(name) == Host(name)
        assert "." in name
        return
    assert told.startswith("domains.txt:")


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
    *signers: str,
    text: str = "listed.example\nlisted.test",
    serial: int = 1,
    list_id: str = "worst-of",
    expires: datetime = EXPIRES,
) -> ListHeader:
    return publish.build_list(
        domains(text),
        list_id=list_id,
        serial=serial,
        expires=expires,
        list_key=desk / "listkey",
        signers=[desk / signer for signer in signers],
        recipient="Example School",
        output=desk / "worst-of.stoplist",
        now=NOW,
    )


def verify(desk: Path, *keys: str, threshold: int = 1, now: datetime = NOW):
    return publish.verify_list(desk / "worst-of.stoplist", [desk / f"{key}.pub" for key in keys], threshold, now)


def key_ids(desk: Path, *keys: str) -> set[str]:
    return {PublicKey.parse((desk / f"{key}.pub").read_bytes()).key_id for key in keys}


def test_a_list_is_built_from_domains_and_opens(desk: Path) -> None:
    header = build(desk, "authority", serial=7)
    assert header == ListHeader("worst-of", 7, NOW, EXPIRES, 2, LIST_KEY.key_id, "Example School", CHECK_HOST)
    signed = SignedList.open(
        (desk / "worst-of.stoplist").read_bytes(),
        trusted=[PublicKey.parse((desk / "authority.pub").read_bytes())],
        threshold=1,
        list_key=LIST_KEY,
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
    header = publish.sign_list(desk / "worst-of.stoplist", desk / "operator")
    assert header.list == "worst-of"
    verified = verify(desk, "authority", "operator", threshold=2)
    assert set(verified.signers) == key_ids(desk, "authority", "operator")


def test_signing_twice_with_the_same_key_is_refused_and_changes_nothing(desk: Path) -> None:
    build(desk, "authority")
    before = (desk / "worst-of.stoplist").read_bytes()
    with pytest.raises(ListError) as caught:
        publish.sign_list(desk / "worst-of.stoplist", desk / "authority")
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
        publish.sign_list(path, desk / "authority")
    assert caught.value.place == str(path)
    assert path.read_bytes() == data


def test_a_list_whose_header_cannot_be_read_is_not_signed(desk: Path) -> None:
    build(desk, "authority")
    path = desk / "worst-of.stoplist"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"payload": "e30K"}))
    before = path.read_bytes()
    with pytest.raises(ListError) as caught:
        publish.sign_list(path, desk / "operator")
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
        f"{desk}/worst-of.stoplist: the list expired on 2026-07-01T12:00:00Z; fetch a fresh list from its publisher"
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
