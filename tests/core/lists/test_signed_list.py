"""The list file: what verifies is a SignedList, whatever else is a ListError that says at which check it failed."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import example, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import CryptoSigner

from stoplist.core.hosts import CHECK_HOST, Host
from stoplist.core.lists import signed_list
from stoplist.core.lists.envelope import (
    MAX_ENVELOPE_SIZE,
    MAX_FILE_SIZE,
    MAX_HEADER_SIZE,
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    Envelope,
)
from stoplist.core.lists.keys import KeyFileError, ListKey, TrustedKey
from stoplist.core.lists.list_header import ListError, ListFault, ListHeader
from stoplist.core.lists.signed_list import SignedList, verify
from tests.examples import examples
from tests.keys import (
    EXPIRES,
    ISSUED,
    LIST_KEY,
    NOW,
    make_list,
    new_ecdsa,
    new_ed25519,
    new_rsa,
    open_list,
    public_pem,
    sign,
    trusted,
    under_key_id,
)

AUTHORITY = new_ed25519()
OPERATOR = new_ed25519()
STRANGER = new_ed25519()
DOMAINS = ["listed.example", "listed.test", "xn--bcher-kva.example"]
GOOD = make_list(DOMAINS, AUTHORITY)
DAY = timedelta(days=1)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def refusal(data: bytes, *signers: CryptoSigner, **terms: Any) -> ListError:
    """The error that a file makes, opened under the terms that GOOD meets unless told."""
    with pytest.raises(ListError) as caught:
        open_list(data, *(signers or (AUTHORITY,)), **terms)
    assert caught.value.hint
    return caught.value


def envelope(**changes: Any) -> bytes:
    """GOOD, with fields of its envelope changed."""
    return json.dumps(json.loads(GOOD) | changes).encode()


def signature(**changes: Any) -> dict[str, Any]:
    """The signature of GOOD, with fields changed."""
    return json.loads(GOOD)["signatures"][0] | changes


def fields(domains: list[str] = DOMAINS) -> dict[str, Any]:
    """The fields of the header of a good list of some domains."""
    return json.loads(Envelope.parse(make_list(domains)).payload.partition(b"\n")[0])


def digests(domains: list[str] = DOMAINS) -> bytes:
    return Envelope.parse(make_list(domains)).payload.partition(b"\n")[2]


def signed_header(*signers: CryptoSigner, **changes: Any) -> bytes:
    """A well-signed list whose header has fields changed."""
    line = json.dumps(fields() | changes).encode()
    return sign(line + b"\n" + digests(), *(signers or (AUTHORITY,)))


def signed_line(line: str | bytes) -> bytes:
    """A well-signed list with any header line."""
    return sign((line if isinstance(line, bytes) else line.encode()) + b"\n" + digests(), AUTHORITY)


# What a good list gives


def test_a_good_list_opens_with_all_that_was_put_into_it() -> None:
    data = make_list(
        DOMAINS, AUTHORITY, OPERATOR, list_id="worst-of", serial=7, recipient="Example School", check_host="check.test"
    )
    signed = open_list(data, AUTHORITY, OPERATOR)
    assert signed.header == ListHeader(
        "worst-of", 7, ISSUED, EXPIRES, len(DOMAINS), LIST_KEY.key_id, "Example School", "check.test"
    )
    assert set(signed.signers) == {key.key_id for key in trusted(AUTHORITY, OPERATOR)}
    assert signed.payload_digest == hashlib.sha256(Envelope.parse(data).payload).digest()
    assert [signed.digests.longest_suffix(Host(domain)) for domain in DOMAINS] == [2, 2, 2]
    assert signed.digests.longest_suffix(Host("notlisted.example")) == 0


def test_the_check_host_is_a_reserved_name_unless_told() -> None:
    assert open_list(GOOD, AUTHORITY).header.check_host == CHECK_HOST == "check.stoplist.invalid"


def test_a_list_without_any_domain_opens() -> None:
    assert open_list(make_list([], AUTHORITY), AUTHORITY).digests.count == 0


@settings(max_examples=examples(50))
@given(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.integers(1, 2**53 - 1),
    st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=200),
    st.frozensets(st.from_regex(r"[a-z]{1,8}\.(example|test)", fullmatch=True), max_size=5),
    st.datetimes(datetime(2000, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(DAY, 10_000 * DAY),
)
def test_every_header_round_trips(
    list_id: str, serial: int, recipient: str, domains: frozenset[str], issued: datetime, life: timedelta
) -> None:
    data = make_list(
        domains, AUTHORITY, list_id=list_id, serial=serial, recipient=recipient, issued=issued, expires=issued + life
    )
    header = open_list(data, AUTHORITY).header
    assert (header.list, header.serial, header.recipient, header.count) == (list_id, serial, recipient, len(domains))
    assert header.issued == issued.replace(microsecond=0)
    assert header.expires == (issued + life).replace(microsecond=0)
    assert ListHeader.parse(header.to_line().rstrip(b"\n")) == header


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(new_ed25519(), id="Ed25519"),
        pytest.param(new_ecdsa("ecdsa-sha2-nistp256"), id="ECDSA P-256"),
        pytest.param(new_ecdsa("ecdsa-sha2-nistp384"), id="ECDSA P-384"),
        pytest.param(new_ecdsa("ecdsa-sha2-nistp521"), id="ECDSA P-521"),
        pytest.param(new_rsa(), id="RSA"),
    ],
)
def test_each_kind_of_key_signs_and_verifies(signer: CryptoSigner) -> None:
    data = make_list(DOMAINS, signer)
    assert open_list(data, signer).header.count == len(DOMAINS)
    broken = json.loads(data)
    raw = bytearray(base64.b64decode(broken["signatures"][0]["sig"]))
    raw[-1] ^= 1
    broken["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    assert refusal(json.dumps(broken).encode(), signer).fault == ListFault.SIGNATURES


def test_times_are_in_utc_whatever_zone_they_came_in() -> None:
    zone = datetime.fromisoformat("2026-01-01T02:30:00+02:30")
    assert open_list(make_list(DOMAINS, AUTHORITY, issued=zone), AUTHORITY).header.issued == ISSUED


# What securesystemslib reads and writes


def test_securesystemslib_reads_and_verifies_what_we_write() -> None:
    theirs = DsseEnvelope.from_dict(json.loads(make_list(DOMAINS, AUTHORITY, OPERATOR)))
    accepted = theirs.verify([AUTHORITY.public_key, OPERATOR.public_key], 2)
    assert set(accepted) == {AUTHORITY.public_key.keyid, OPERATOR.public_key.keyid}
    assert theirs.payload_type == PAYLOAD_TYPE


@pytest.mark.parametrize("indent", [pytest.param(None, id="one line"), pytest.param(2, id="indented")])
def test_what_securesystemslib_signs_and_writes_is_a_list(indent: int | None) -> None:
    theirs = DsseEnvelope(Envelope.parse(GOOD).payload, PAYLOAD_TYPE, {})
    theirs.sign(AUTHORITY)
    theirs.sign(OPERATOR)
    data = json.dumps(theirs.to_dict(), indent=indent).encode()
    assert open_list(data, AUTHORITY, OPERATOR) == open_list(
        make_list(DOMAINS, AUTHORITY, OPERATOR), AUTHORITY, OPERATOR
    )


def test_an_envelope_reads_back_what_it_wrote() -> None:
    data = make_list(DOMAINS, AUTHORITY, OPERATOR)
    assert Envelope.parse(data).to_bytes() == data


# 1 size


@pytest.mark.parametrize(
    "data",
    [pytest.param(b"", id="empty file"), pytest.param(bytes(MAX_FILE_SIZE + 1), id="larger than the cap")],
)
def test_a_file_of_no_fit_size_is_refused(data: bytes) -> None:
    assert refusal(data).fault == ListFault.SIZE


# 2 strict JSON and base64


def nested(depth: int) -> bytes:
    return b'{"payload":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<!DOCTYPE html><title>404</title>", id="an error page"),
        pytest.param(b"\0" * 64, id="zeros of a torn write"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, id="byte order mark"),
        pytest.param(GOOD.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD.decode().encode("utf-16-le"), id="UTF-16 without byte order mark"),
        pytest.param(GOOD.decode().encode("utf-32"), id="UTF-32"),
        pytest.param(GOOD + GOOD, id="two files in one"),
        pytest.param(GOOD + b"x", id="something behind it"),
        pytest.param(GOOD.replace(b"}", b",}", 1), id="trailing comma"),
        pytest.param(GOOD.replace(b'"', b"'"), id="single quotes"),
        pytest.param(GOOD.replace(b"{", b"{/**/", 1), id="comment"),
        pytest.param(GOOD.replace(b"{", b'{"payload":"",', 1), id="duplicate key payload"),
        pytest.param(GOOD.replace(b"{", b'{"payload\\u0054ype":"x",', 1), id="duplicate key in another spelling"),
        pytest.param(GOOD.replace(b'{"keyid"', b'{"keyid":"x","keyid"'), id="duplicate key in a signature"),
        pytest.param(GOOD.replace(b"{", b'{"extra":1,', 1), id="extra field"),
        pytest.param(GOOD.replace(b"{", b'{"extra":NaN,', 1), id="NaN"),
        pytest.param(GOOD.replace(b"{", b'{"extra":-Infinity,', 1), id="Infinity"),
        pytest.param(GOOD.replace(b"{", b'{"extra":%s,' % (b"9" * 5000), 1), id="huge integer"),
        pytest.param(nested(100_000), id="deep nesting"),
        pytest.param(b"[" * 100_000, id="deep nesting without an end"),
        pytest.param(nested(500), id="nesting"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"payload"', id="a text"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"payload":"","payloadType":"%s"}' % PAYLOAD_TYPE.encode(), id="no signatures"),
        pytest.param(envelope(signatures={}), id="signatures are an object"),
        pytest.param(envelope(signatures=None), id="signatures are null"),
        pytest.param(envelope(signatures=[None]), id="a signature is null"),
        pytest.param(envelope(signatures=[[]]), id="a signature is a list"),
        pytest.param(envelope(signatures=[{}]), id="a signature is empty"),
        pytest.param(envelope(signatures=[signature(extra=1)]), id="extra field in a signature"),
        pytest.param(envelope(signatures=[signature(keyid=1)]), id="key id is a number"),
        pytest.param(envelope(signatures=[signature(keyid=None)]), id="key id is null"),
        pytest.param(envelope(signatures=[signature(sig=None)]), id="sig is null"),
        pytest.param(envelope(signatures=[signature(sig=[])]), id="sig is a list"),
        pytest.param(envelope(signatures=[signature(sig="é")]), id="sig is not ASCII"),
        pytest.param(envelope(signatures=[signature(sig="\ud800")]), id="sig is a lone surrogate"),
        pytest.param(envelope(signatures=[signature(), signature()]), id="the same signature twice"),
        pytest.param(
            envelope(signatures=[signature(keyid=str(n)) for n in range(MAX_SIGNATURES + 1)]), id="too many signatures"
        ),
        pytest.param(envelope(payload=None), id="payload is null"),
        pytest.param(envelope(payloadType="x" * MAX_ENVELOPE_SIZE), id="a long payload type"),
        pytest.param(envelope(signatures=[signature(keyid="x" * MAX_ENVELOPE_SIZE)]), id="a long key id"),
        pytest.param(b" " * MAX_ENVELOPE_SIZE + GOOD, id="white space before it"),
        pytest.param(GOOD + b"\n" * MAX_ENVELOPE_SIZE, id="white space behind it"),
        pytest.param(envelope(payload=1), id="payload is a number"),
        pytest.param(envelope(payload={}), id="payload is an object"),
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    assert refusal(data).fault == ListFault.ENVELOPE


def loose_bits(text: str) -> str:
    """Another text of the same bytes to a decoder that ignores the bits left over before the padding."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    assert body != text
    other = body[:-1] + alphabet[alphabet.index(body[-1]) ^ 1] + text[len(body) :]
    assert base64.b64decode(other) == base64.b64decode(text)
    return other


# A payload that leaves bits over, so that its base64 has padding.
PADDED = next(
    data
    for data in (make_list(DOMAINS, AUTHORITY, recipient="x" * length) for length in range(3))
    if json.loads(data)["payload"].endswith("=")
)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(loose_bits, id="bits left over"),
        pytest.param(lambda text: text.rstrip("="), id="no padding"),
        pytest.param(lambda text: text + "=", id="padding too long"),
        pytest.param(lambda text: text + "====", id="padding of its own"),
        pytest.param(lambda text: text + "\n", id="newline at the end"),
        pytest.param(lambda text: " " + text, id="space at the start"),
        pytest.param(lambda text: text[:76] + "\r\n" + text[76:], id="lines of MIME"),
        pytest.param(lambda text: text[:4] + "=" + text[4:], id="padding inside"),
        pytest.param(lambda text: text[:4] + "!" + text[4:], id="a character to ignore"),
        pytest.param(lambda text: text[:-4] + "-_==", id="alphabet of URLs"),
        pytest.param(lambda text: base64.b64decode(text).hex() + "0", id="hexadecimal"),
        pytest.param(lambda text: text[:4] + "\0" + text[4:], id="NUL"),
    ],
)
@pytest.mark.parametrize("field", [pytest.param("payload", id="payload"), pytest.param("sig", id="sig")])
def test_base64_in_any_other_form_is_refused(field: str, change: Callable[[str], str]) -> None:
    document = json.loads(PADDED)
    holder = document if field == "payload" else document["signatures"][0]
    holder[field] = change(holder[field])
    assert refusal(json.dumps(document).encode()).fault == ListFault.ENVELOPE


# 3 payload type


@pytest.mark.parametrize(
    "payload_type",
    [
        pytest.param("application/vnd.stoplist.list.v2", id="a later version"),
        pytest.param(PAYLOAD_TYPE.upper(), id="case"),
        pytest.param(PAYLOAD_TYPE + " ", id="space"),
        pytest.param("application/vnd.in-toto+json", id="another use of the same key"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param([PAYLOAD_TYPE], id="a list"),
    ],
)
def test_another_payload_type_is_refused(payload_type: object) -> None:
    assert refusal(envelope(payloadType=payload_type)).fault == ListFault.PAYLOAD_TYPE


def test_a_signature_made_for_another_payload_type_does_not_count() -> None:
    """The same key may sign other things: those must not turn into lists."""
    data = sign(Envelope.parse(GOOD).payload, AUTHORITY, payload_type="application/vnd.in-toto+json")
    assert refusal(data).fault == ListFault.SIGNATURES


# 4 signatures


def test_fewer_signers_than_the_threshold_are_refused() -> None:
    error = refusal(GOOD, AUTHORITY, OPERATOR)
    assert error.fault == ListFault.SIGNATURES
    assert error.message == "signed by 1 of the trusted keys, 2 needed"


def test_one_of_two_trusted_keys_is_enough_for_threshold_one() -> None:
    signed = open_list(make_list(DOMAINS, OPERATOR), AUTHORITY, OPERATOR, threshold=1)
    assert signed.signers == (OPERATOR.public_key.keyid,)


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_below_one_is_refused_even_for_a_signed_list(threshold: int) -> None:
    assert refusal(GOOD, AUTHORITY, threshold=threshold).fault == ListFault.SIGNATURES


def test_an_unsigned_list_is_refused() -> None:
    assert refusal(make_list(DOMAINS)).fault == ListFault.SIGNATURES


def test_a_list_signed_by_a_stranger_is_refused() -> None:
    assert refusal(make_list(DOMAINS, STRANGER)).fault == ListFault.SIGNATURES


def test_a_strangers_signature_beside_good_ones_does_no_harm() -> None:
    signed = open_list(make_list(DOMAINS, STRANGER, AUTHORITY), AUTHORITY)
    assert signed.signers == (AUTHORITY.public_key.keyid,)


def test_nobody_trusted_means_nothing_verifies() -> None:
    with pytest.raises(ListError) as caught:
        verify(GOOD, trusted=(), threshold=1, now=NOW)
    assert caught.value.fault == ListFault.SIGNATURES


def test_a_signature_of_another_payload_is_refused() -> None:
    other = json.loads(make_list(["other.example"], AUTHORITY))
    assert refusal(envelope(signatures=other["signatures"])).fault == ListFault.SIGNATURES


def test_a_payload_put_under_signatures_of_another_is_refused() -> None:
    other = json.loads(make_list(["other.example"], AUTHORITY))
    assert refusal(envelope(payload=other["payload"])).fault == ListFault.SIGNATURES


@pytest.mark.parametrize("sig", [pytest.param("", id="empty"), pytest.param("AAAA", id="short")])
def test_a_signature_of_the_wrong_length_is_refused(sig: str) -> None:
    assert refusal(envelope(signatures=[signature(sig=sig)])).fault == ListFault.SIGNATURES


@pytest.mark.parametrize("signer", [pytest.param(new_ecdsa(), id="ECDSA"), pytest.param(new_rsa(), id="RSA")])
@pytest.mark.parametrize("sig", [pytest.param("", id="empty"), pytest.param("AAAA", id="short")])
def test_a_malformed_signature_under_another_kind_of_key_is_refused(signer: CryptoSigner, sig: str) -> None:
    data = envelope(signatures=[{"keyid": signer.public_key.keyid, "sig": sig}])
    assert refusal(data, signer).fault == ListFault.SIGNATURES


def test_a_signature_under_the_key_id_of_another_key_is_refused() -> None:
    data = make_list(DOMAINS, under_key_id(STRANGER, AUTHORITY.public_key.keyid))
    assert refusal(data).fault == ListFault.SIGNATURES


def test_a_bad_signature_beside_a_good_one_does_not_count() -> None:
    forged = under_key_id(STRANGER, OPERATOR.public_key.keyid)
    error = refusal(make_list(DOMAINS, AUTHORITY, forged), AUTHORITY, OPERATOR)
    assert (error.fault, error.message) == (ListFault.SIGNATURES, "signed by 1 of the trusted keys, 2 needed")


def test_one_key_under_two_key_ids_counts_once() -> None:
    twice = make_list(DOMAINS, AUTHORITY, under_key_id(AUTHORITY, "another id"))
    assert refusal(twice, AUTHORITY, OPERATOR).fault == ListFault.SIGNATURES


def test_one_key_trusted_and_signing_under_two_key_ids_counts_once() -> None:
    """securesystemslib alone counts two here."""
    alias = under_key_id(AUTHORITY, "another id")
    data = make_list(DOMAINS, AUTHORITY, alias)
    theirs = DsseEnvelope.from_dict(json.loads(data))
    assert len(theirs.verify([AUTHORITY.public_key, alias.public_key], 2)) == 2
    one = trusted(AUTHORITY)[0]
    two = dataclasses.replace(one, key=alias.public_key)
    with pytest.raises(ListError) as caught:
        verify(data, trusted=[one, two], threshold=2, now=NOW)
    assert caught.value.fault == ListFault.SIGNATURES


def test_the_same_pem_trusted_twice_counts_once() -> None:
    assert refusal(GOOD, AUTHORITY, AUTHORITY).fault == ListFault.SIGNATURES


def test_a_key_that_has_signed_cannot_sign_again() -> None:
    with pytest.raises(ListError, match="has already signed") as caught:
        Envelope.parse(GOOD).signed_by(AUTHORITY)
    assert caught.value.fault == ListFault.SIGNATURES


# 5 header


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"extra": 1}, id="extra field"),
        pytest.param({"list": ""}, id="empty list id"),
        pytest.param({"list": "Worst-Of"}, id="list id in upper case"),
        pytest.param({"list": "-worst"}, id="list id begins with a hyphen"),
        pytest.param({"list": "worst of"}, id="list id with a space"),
        pytest.param({"list": "worst-of\n"}, id="list id with a newline"),
        pytest.param({"list": "../worst"}, id="list id is a path"),
        pytest.param({"list": "a" * 65}, id="list id too long"),
        pytest.param({"list": "ａ"}, id="list id in another script"),
        pytest.param({"list": None}, id="list id is null"),
        pytest.param({"serial": 0}, id="serial 0"),
        pytest.param({"serial": -1}, id="serial below 0"),
        pytest.param({"serial": 1.0}, id="serial is a float"),
        pytest.param({"serial": 1e3}, id="serial is a large float"),
        pytest.param({"serial": True}, id="serial is a bool"),
        pytest.param({"serial": "1"}, id="serial is a text"),
        pytest.param({"serial": None}, id="serial is null"),
        pytest.param({"serial": 2**53}, id="serial too large for JSON"),
        pytest.param({"serial": 10**400}, id="serial is a huge integer"),
        pytest.param({"count": -1}, id="count below 0"),
        pytest.param({"count": 3.0}, id="count is a float"),
        pytest.param({"count": True}, id="count is a bool"),
        pytest.param({"count": "3"}, id="count is a text"),
        pytest.param({"count": 10**400}, id="count is a huge integer"),
        pytest.param({"key_id": "0" * 15}, id="key id too short"),
        pytest.param({"key_id": "0" * 17}, id="key id too long"),
        pytest.param({"key_id": "A" * 16}, id="key id in upper case"),
        pytest.param({"key_id": "٠" * 16}, id="key id in another script"),
        pytest.param({"key_id": 1}, id="key id is a number"),
        pytest.param({"recipient": None}, id="recipient is null"),
        pytest.param({"recipient": ["a"]}, id="recipient is a list"),
        pytest.param({"recipient": "x" * 201}, id="recipient too long"),
        pytest.param({"recipient": "x\nlist: another"}, id="recipient that forges a line of `list show`"),
        pytest.param({"recipient": "\x1b[2Jx"}, id="recipient that commands a terminal"),
        pytest.param({"recipient": "\ud800"}, id="recipient that cannot be printed"),
        pytest.param({"issued": "2026-02-30T00:00:00Z"}, id="the 30th of February"),
        pytest.param({"issued": "2026-13-01T00:00:00Z"}, id="month 13"),
        pytest.param({"issued": "2025-02-29T00:00:00Z"}, id="no leap year"),
        pytest.param({"issued": "0000-01-01T00:00:00Z"}, id="year 0"),
        pytest.param({"issued": "2026-01-01T25:00:00Z"}, id="hour 25"),
        pytest.param({"issued": "2026-01-01T24:00:00Z"}, id="hour 24"),
        pytest.param({"issued": "2026-01-01T23:59:60Z"}, id="leap second"),
        pytest.param({"issued": "2026-01-01"}, id="a date alone"),
        pytest.param({"issued": "2026-01-01T00:00:00"}, id="no zone"),
        pytest.param({"issued": "2026-01-01T00:00:00+00:00"}, id="zone in numbers"),
        pytest.param({"issued": "2026-01-01T00:00:00.0Z"}, id="fraction"),
        pytest.param({"issued": "2026-01-01 00:00:00Z"}, id="a space for T"),
        pytest.param({"issued": "2026-01-01T00:00:00z"}, id="z in lower case"),
        pytest.param({"issued": "٢٠٢٦-01-01T00:00:00Z"}, id="digits of another script"),
        pytest.param({"issued": "2026-01-01T00:00:00Z\n"}, id="newline behind it"),
        pytest.param({"issued": 1767225600}, id="seconds"),
        pytest.param({"issued": None}, id="issued is null"),
        pytest.param({"expires": "2026-02-30T00:00:00Z"}, id="expires on no date"),
        pytest.param({"expires": "2026-01-01T00:00:00Z"}, id="expires when issued"),
        pytest.param({"expires": "2025-12-31T23:59:59Z"}, id="expires before it was issued"),
        pytest.param({"expires": None}, id="expires is null"),
        pytest.param({"check_host": ""}, id="empty check host"),
        pytest.param({"check_host": "CHECK.test"}, id="check host not canonical"),
        pytest.param({"check_host": "check.test."}, id="check host with trailing dot"),
        pytest.param({"check_host": "check.test:443"}, id="check host with port"),
        pytest.param({"check_host": "prüfung.test"}, id="check host in Unicode"),
        pytest.param({"check_host": "check..\x00"}, id="check host that cannot be read"),
        pytest.param({"check_host": None}, id="check host is null"),
        pytest.param({"check_host": "www.school.example"}, id="check host a site"),
        pytest.param({"check_host": "localhost"}, id="check host the machine itself"),
        pytest.param({"check_host": "192.0.2.99"}, id="check host an address"),
        pytest.param({"check_host": "test"}, id="check host a top-level name"),
        pytest.param({"check_host": "check.invalid.example"}, id="check host below invalid.example"),
    ],
)
def test_a_header_with_a_wrong_value_is_refused_although_signed(changes: dict[str, Any]) -> None:
    assert refusal(signed_header(**changes)).fault == ListFault.HEADER


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ListHeader)])
def test_a_header_without_one_of_its_fields_is_refused(name: str) -> None:
    header = fields()
    del header[name]
    assert refusal(signed_line(json.dumps(header))).fault == ListFault.HEADER


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param("[" * 4000, id="deep nesting"),
        pytest.param(json.dumps(fields()).replace("{", '{"serial": 9, ', 1), id="duplicate key"),
        pytest.param(json.dumps(fields()).replace('"serial": 1', '"serial": NaN'), id="NaN"),
        pytest.param(json.dumps(fields()).replace('"serial": 1', '"serial": Infinity'), id="Infinity"),
        pytest.param(json.dumps(fields()).replace('"serial": 1', '"serial": 1' + "0" * 3500), id="huge integer"),
        pytest.param(json.dumps(fields()).replace('"serial": 1', '"serial": 01'), id="leading zero"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(fields()).encode(), id="byte order mark"),
        pytest.param(json.dumps(fields()).encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"list": "\xff"}', id="no UTF-8"),
        pytest.param(json.dumps(fields()).ljust(MAX_HEADER_SIZE + 1), id="longer than the cap"),
    ],
)
def test_a_line_that_is_no_header_is_refused_although_signed(line: str | bytes) -> None:
    assert refusal(signed_line(line)).fault == ListFault.HEADER


def test_a_header_as_long_as_the_cap_is_read() -> None:
    assert open_list(signed_line(json.dumps(fields()).ljust(MAX_HEADER_SIZE)), AUTHORITY).header.serial == 1


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(json.dumps(fields()).encode(), id="a header without its end"),
        pytest.param(digests().replace(b"\n", b"\0"), id="digests alone"),
    ],
)
def test_a_payload_without_a_header_line_is_refused(payload: bytes) -> None:
    assert refusal(sign(payload, AUTHORITY)).fault == ListFault.HEADER


def test_the_largest_serial_is_read() -> None:
    assert open_list(signed_header(serial=2**53 - 1), AUTHORITY).header.serial == 2**53 - 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"list_id": "Worst Of"}, id="list id"),
        pytest.param({"serial": 0}, id="serial 0"),
        pytest.param({"serial": 2**53}, id="serial too large"),
        pytest.param({"expires": ISSUED}, id="expires when issued"),
        pytest.param({"expires": ISSUED + timedelta(microseconds=1)}, id="expires within the second"),
        pytest.param({"recipient": "x" * 201}, id="recipient"),
        pytest.param({"check_host": "CHECK.test"}, id="check host"),
        pytest.param({"check_host": "school.example"}, id="check host a site"),
    ],
)
def test_a_list_that_would_be_refused_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ListError) as caught:
        make_list(DOMAINS, **changes)
    assert caught.value.fault == ListFault.HEADER


# 6 clock


def test_a_list_issued_in_the_future_is_refused() -> None:
    error = refusal(GOOD, now=ISSUED - DAY - timedelta(seconds=1))
    assert error.fault == ListFault.CLOCK
    assert error.message == "issued in the future: 2026-01-01T00:00:00Z"


@pytest.mark.parametrize("ahead", [pytest.param(timedelta(hours=23), id="23 hours"), pytest.param(DAY, id="24 hours")])
def test_a_clock_that_is_slow_by_less_than_a_day_does_no_harm(ahead: timedelta) -> None:
    assert open_list(GOOD, AUTHORITY, now=ISSUED - ahead).header.serial == 1


@pytest.mark.parametrize(
    ("moment", "expired"),
    [
        pytest.param(EXPIRES - timedelta(seconds=1), False, id="a second before"),
        pytest.param(EXPIRES, True, id="at the moment"),
        pytest.param(EXPIRES + DAY, True, id="a day after"),
    ],
)
def test_an_expired_list_opens_and_says_so(moment: datetime, expired: bool) -> None:
    assert open_list(GOOD, AUTHORITY, now=moment).expired(moment) is expired
    assert verify(GOOD, trusted=trusted(AUTHORITY), threshold=1, now=moment).header.expired(moment) is expired


# 7 serial


FIFTH = open_list(make_list(DOMAINS, AUTHORITY, serial=5), AUTHORITY)


def test_a_newer_serial_is_taken() -> None:
    newer = open_list(make_list(["other.example"], AUTHORITY, serial=6), AUTHORITY, previous=FIFTH)
    assert newer.header.serial == 6


def test_older_serial_is_refused() -> None:
    error = refusal(make_list(DOMAINS, AUTHORITY, serial=4), previous=FIFTH)
    assert error.fault == ListFault.SERIAL
    assert error.message == "serial 4 is older than 5, which was in force"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(make_list(["other.example"], AUTHORITY, serial=5), id="other domains"),
        pytest.param(make_list(DOMAINS, AUTHORITY, serial=5, recipient="x"), id="other recipient"),
        pytest.param(make_list(DOMAINS, AUTHORITY, serial=5, expires=EXPIRES + DAY), id="other expiry"),
    ],
)
def test_another_payload_under_the_same_serial_is_refused(other: bytes) -> None:
    assert refusal(other, previous=FIFTH).fault == ListFault.SERIAL


def test_the_very_same_payload_again_is_taken_with_other_signatures() -> None:
    again = make_list(DOMAINS, OPERATOR, serial=5)
    signed = open_list(again, AUTHORITY, OPERATOR, threshold=1, previous=FIFTH)
    assert signed.payload_digest == FIFTH.payload_digest
    assert signed.signers == (OPERATOR.public_key.keyid,)


def test_another_list_is_refused_in_the_place_of_this_one() -> None:
    error = refusal(make_list(DOMAINS, AUTHORITY, serial=6, list_id="other"), previous=FIFTH)
    assert error.fault == ListFault.SERIAL
    assert "'other'" in error.message
    assert "'worst-of'" in error.message


# 8 digests


def with_digests(data: bytes, count: int) -> bytes:
    return sign(json.dumps(fields() | {"count": count}).encode() + b"\n" + data, AUTHORITY)


RISING = digests()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_digests(RISING, 2), id="count too low"),
        pytest.param(with_digests(RISING, 4), id="count too high"),
        pytest.param(with_digests(RISING, 0), id="count 0"),
        pytest.param(with_digests(b"", 3), id="no digests"),
        pytest.param(with_digests(RISING[:-1], 3), id="last digest cut"),
        pytest.param(with_digests(RISING + b"\n", 3), id="a newline behind them"),
        pytest.param(with_digests(b"\n" + RISING, 3), id="a newline before them"),
        pytest.param(with_digests(RISING[16:32] + RISING[:16] + RISING[32:], 3), id="not sorted"),
        pytest.param(with_digests(RISING[:16] + RISING[:16] + RISING[16:], 4), id="the first twice"),
        pytest.param(with_digests(RISING + RISING[-16:], 4), id="the last twice"),
        pytest.param(with_digests(bytes(15) + b"\1" + bytes(16), 2), id="not sorted in the low half"),
    ],
)
def test_digests_that_are_not_counted_sorted_and_unique_are_refused(data: bytes) -> None:
    assert refusal(data).fault == ListFault.DIGESTS


def test_sorted_digests_that_differ_in_the_low_half_only_are_read() -> None:
    assert open_list(with_digests(bytes(16) + bytes(15) + b"\1", 2), AUTHORITY).digests.count == 2


# 9 list key


def test_the_list_key_of_another_copy_is_refused() -> None:
    other = ListKey(b"\1" * 32)
    error = refusal(GOOD, list_key=other)
    assert error.fault == ListFault.LIST_KEY
    assert other.key_id in error.message
    assert LIST_KEY.key_id in error.message


# The order of checks


@pytest.mark.parametrize("first", [fault for fault in ListFault if fault is not ListFault.GUARD], ids=str)
def test_the_first_fault_ends_the_check(first: ListFault) -> None:
    """A file with every fault from one check on is refused at that check."""
    wrong = set(list(ListFault)[list(ListFault).index(first) :])
    header = fields()
    header |= {"recipient": None} if ListFault.HEADER in wrong else {}
    header |= {"issued": "2036-01-01T00:00:00Z"} if ListFault.CLOCK in wrong else {}
    header |= {"serial": 4} if ListFault.SERIAL in wrong else {"serial": 6}
    header |= {"count": 9} if ListFault.DIGESTS in wrong else {}
    header |= {"key_id": "0" * 16} if ListFault.LIST_KEY in wrong else {}
    signer = STRANGER if ListFault.SIGNATURES in wrong else AUTHORITY
    document = json.loads(sign(json.dumps(header).encode() + b"\n" + digests(), signer))
    document |= {"payloadType": "x"} if ListFault.PAYLOAD_TYPE in wrong else {}
    document |= {"extra": 1} if ListFault.ENVELOPE in wrong else {}
    data = b"" if ListFault.SIZE in wrong else json.dumps(document).encode()
    assert refusal(data, previous=FIFTH).fault == first


# Torn and flipped files


SMALL = make_list(["listed.example"], AUTHORITY, OPERATOR)


def test_every_prefix_of_a_list_is_refused() -> None:
    whole = SMALL.rstrip(b"\n")
    keys = trusted(AUTHORITY, OPERATOR)
    for length in range(len(whole)):
        with pytest.raises(ListError) as caught:
            SignedList.open(whole[:length], trusted=keys, threshold=2, list_keys=[LIST_KEY], now=NOW)
        assert caught.value.fault == (ListFault.ENVELOPE if length else ListFault.SIZE), length


def test_every_flipped_bit_of_a_list_is_refused() -> None:
    keys = trusted(AUTHORITY, OPERATOR)
    accepted = []
    for place in range(8 * len(SMALL)):
        data = bytearray(SMALL)
        data[place // 8] ^= 1 << place % 8
        try:
            SignedList.open(bytes(data), trusted=keys, threshold=2, list_keys=[LIST_KEY], now=NOW)
        except ListError:
            continue
        accepted.append(place)
    assert accepted == []


# Any bytes at all


@given(st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode))
def test_any_bytes_are_refused_with_a_list_error(data: bytes) -> None:
    refusal(data)


@given(st.fixed_dictionaries({}, optional={"payload": JSON, "payloadType": JSON, "signatures": JSON}))
def test_any_values_in_the_envelope_are_refused_with_a_list_error(changes: dict[str, Any]) -> None:
    good = json.loads(GOOD)
    if good | changes == good:
        return
    refusal(json.dumps(good | changes).encode())


SIGNATURE = st.fixed_dictionaries(
    {"keyid": st.sampled_from([AUTHORITY.public_key.keyid, "x"]) | JSON, "sig": st.just(signature()["sig"]) | JSON}
)


@given(st.lists(SIGNATURE | JSON, max_size=3))
@example([signature()])
def test_any_signatures_give_a_list_or_a_list_error(signatures: list[Any]) -> None:
    try:
        signed = open_list(envelope(signatures=signatures), AUTHORITY)
    except ListError:
        return
    assert signature() in signatures
    assert signed.signers == (AUTHORITY.public_key.keyid,)


@settings(max_examples=examples(200))
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(fields(), JSON)))
@example({"recipient": "x"})
def test_any_values_in_a_signed_header_give_a_list_or_a_list_error(changes: dict[str, Any]) -> None:
    try:
        signed = open_list(signed_header(**changes), AUTHORITY)
    except ListError:
        return
    accepted = json.loads(signed.header.to_line())
    assert accepted == fields() | changes


@given(st.data())
@settings(max_examples=examples(200))
def test_a_mutated_list_is_the_same_list_or_a_list_error(data: st.DataObject) -> None:
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(mutated)))
        end = data.draw(st.integers(start, min(start + 40, len(mutated))))
        piece = st.binary(max_size=4) | st.sampled_from([b" ", b"\n", b'"', b"{", b"}", b",", b"\\u0041", b"="])
        mutated[start:end] = data.draw(piece | st.just(bytes(mutated[start:end] * 2)))
    try:
        signed = open_list(bytes(mutated), AUTHORITY)
    except ListError:
        return
    assert signed == open_list(GOOD, AUTHORITY)


# Keys


def test_a_list_key_reads_back_what_it_wrote() -> None:
    assert ListKey.parse(LIST_KEY.to_text()) == LIST_KEY


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LIST_KEY.secret.hex().encode(), id="no newline"),
        pytest.param(LIST_KEY.secret.hex().encode() + b"\r\n", id="Windows newline"),
        pytest.param(b"  " + LIST_KEY.to_text(), id="spaces"),
        pytest.param(LIST_KEY.secret.hex().upper().encode(), id="upper case"),
    ],
)
def test_a_list_key_is_read_as_editors_leave_it(text: bytes) -> None:
    assert ListKey.parse(text) == LIST_KEY


SECRET = "deadbeef" * 8


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(SECRET[:-2].encode(), id="too short"),
        pytest.param((SECRET + "00").encode(), id="too long"),
        pytest.param(SECRET[:-1].encode(), id="half a byte missing"),
        pytest.param((SECRET[:-1] + "x").encode(), id="no digit"),
        pytest.param(SECRET.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + SECRET.encode(), id="byte order mark"),
        pytest.param(bytes.fromhex(SECRET), id="raw bytes"),
        pytest.param(base64.b64encode(bytes.fromhex(SECRET)), id="base64"),
    ],
)
def test_what_is_no_list_key_is_an_error_that_never_shows_it(text: bytes) -> None:
    with pytest.raises(KeyFileError) as caught:
        ListKey.parse(text)
    assert "64 hexadecimal digits" in caught.value.message
    assert caught.value.hint
    shown = f"{caught.value} {caught.value!r} {''.join(traceback.format_exception(caught.value))}"
    assert not re.search(r"deadbeef|\\xde|3q2\+7", shown)


def test_a_key_id_names_a_list_key_without_showing_it() -> None:
    assert re.fullmatch("[0-9a-f]{16}", LIST_KEY.key_id)
    assert LIST_KEY.key_id != ListKey(b"\1" * 32).key_id
    assert LIST_KEY.key_id not in LIST_KEY.secret.hex()


def test_a_trusted_key_is_its_material_whatever_file_it_came_in() -> None:
    rsa = new_rsa()
    public = load_pem_private_key(rsa.private_bytes, None).public_key()
    spki, pkcs1 = (
        public.public_bytes(Encoding.PEM, form) for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    )
    assert spki != pkcs1
    assert TrustedKey.parse(spki) == TrustedKey.parse(pkcs1) == TrustedKey.parse(spki.replace(b"\n", b"\r\n"))
    assert TrustedKey.parse(public_pem(AUTHORITY)) != TrustedKey.parse(public_pem(OPERATOR))


def test_a_trusted_key_bears_the_key_id_that_signers_write() -> None:
    assert trusted(AUTHORITY)[0].key_id == AUTHORITY.public_key.keyid == signature()["keyid"]


def pem_of(public: Any) -> bytes:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("pem", "remedy"),
    [
        pytest.param(b"", "use the .pub file", id="empty"),
        pytest.param(b"\xff" * 40, "use the .pub file", id="no PEM"),
        pytest.param(public_pem(AUTHORITY)[:60], "use the .pub file", id="cut off"),
        pytest.param(LIST_KEY.to_text(), "use the .pub file", id="a list key"),
        pytest.param(AUTHORITY.private_bytes, "this is a private key", id="a private key"),
        pytest.param(pem_of(x25519.X25519PrivateKey.generate().public_key()), "use the .pub file", id="X25519"),
        pytest.param(pem_of(ed448.Ed448PrivateKey.generate().public_key()), "use the .pub file", id="Ed448"),
        pytest.param(pem_of(dsa.generate_private_key(1024).public_key()), "use the .pub file", id="DSA"),
        pytest.param(
            pem_of(ec.generate_private_key(ec.SECP256K1()).public_key()), "use the .pub file", id="a curve not ours"
        ),
    ],
)
def test_what_is_no_trusted_key_is_an_error_with_a_remedy(pem: bytes, remedy: str) -> None:
    with pytest.raises(KeyFileError, match="not a PEM public key") as caught:
        TrustedKey.parse(pem)
    assert remedy in caught.value.hint


@given(st.binary(max_size=80))
@example(b"-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----\n")
@example(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
def test_any_bytes_for_a_key_are_a_key_file_error(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        TrustedKey.parse(data)
    with pytest.raises(KeyFileError):
        ListKey.parse(data)


def test_secrets_and_contents_never_stand_in_a_repr() -> None:
    signed = open_list(GOOD, AUTHORITY)
    verified = verify(GOOD, trusted=trusted(AUTHORITY), threshold=1, now=NOW)
    parsed = Envelope.parse(GOOD)
    shown = " ".join(map(repr, (LIST_KEY, signed, signed.digests, verified, parsed, trusted(AUTHORITY))))
    assert LIST_KEY.key_id in shown
    secrets = [LIST_KEY.secret, digests(), digests()[:16], signed.payload_digest, AUTHORITY.private_bytes]
    for secret in secrets:
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    for domain in DOMAINS:
        assert domain not in shown


def test_a_header_is_what_another_program_would_write() -> None:
    """The header as the specification has it, without our builder."""
    line = (
        '{"list":"worst-of","serial":1,"issued":"2026-01-01T00:00:00Z","expires":"2096-01-01T00:00:00Z","count":0,'
        f'"key_id":"{LIST_KEY.key_id}","recipient":"","check_host":"{CHECK_HOST}"}}\n'
    )
    assert open_list(sign(line.encode(), AUTHORITY), AUTHORITY).header.count == 0
    assert Envelope.parse(make_list([])).payload == line.encode()


def test_the_caps_are_those_of_the_format() -> None:
    assert (MAX_FILE_SIZE, MAX_HEADER_SIZE, MAX_SIGNATURES) == (512 * 2**20, 4096, 16)
    assert signed_list.CLOCK_SKEW == DAY
