"""Makes the test vectors of the list file, format 1. Run: .venv/bin/python -m tests.vectors.make

The vectors are for any implementation; the tests read the files that are here, and never make them
anew. Keys, times and serials are fixed, and Ed25519 is deterministic: the same files come out again.
Each file is named for the first check that it fails (see docs/list-format.md), or `good`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import CryptoSigner

from stoplist.core.lists.digests import sorted_digests
from stoplist.core.lists.envelope import PAYLOAD_TYPE
from stoplist.core.lists.keys import ListKey
from stoplist.tools.publishing.publish import public_pem

FOLDER = Path(__file__).parent
LIST_KEY = ListKey(bytes(range(32)))
OTHER_KEY = ListKey(bytes(range(32, 64)))
DOMAINS = ["listed.example", "listed.test", "xn--bcher-kva.example"]

AUTHORITY, OPERATOR, STRANGER = (
    CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)) for seed in (1, 2, 3)
)
# fixed time: the vectors are judged at NOW

HEADER: dict[str, Any] = {
    "list": "vectors",
    "serial": 7,
    "issued": "2026-11-20T12:00:00Z",
    "expires": "2026-12-20T12:00:00Z",
    "count": len(DOMAINS),
    "key_id": LIST_KEY.key_id,
    "recipient": "Example School",
    "check_host": "check.stoplist.invalid",
}
DIGESTS = sorted_digests(LIST_KEY.secret, DOMAINS)


def payload(digests: bytes = DIGESTS, **changes: Any) -> bytes:
    return json.dumps({**HEADER, **changes}, separators=(",", ":")).encode() + b"\n" + digests


def without(field: str) -> bytes:
    header = {name: value for name, value in HEADER.items() if name != field}
    return json.dumps(header).encode() + b"\n" + DIGESTS


def raw_header(old: str, new: str) -> bytes:
    return payload().replace(old.encode(), new.encode(), 1)


def envelope(
    content: bytes, *signers: CryptoSigner, signed: bytes | None = None, payload_type: str = PAYLOAD_TYPE
) -> dict[str, Any]:
    """An envelope of `content`; its signatures are over `signed`, where that is another payload."""
    pae = DsseEnvelope(content if signed is None else signed, payload_type, {}).pae()
    signatures = [signer.sign(pae) for signer in signers]
    return {
        "payload": base64.b64encode(content).decode(),
        "payloadType": payload_type,
        "signatures": [
            {"keyid": signature.keyid, "sig": base64.b64encode(bytes.fromhex(signature.signature)).decode()}
            for signature in signatures
        ],
    }


def both(content: bytes | None = None) -> dict[str, Any]:
    return envelope(payload() if content is None else content, AUTHORITY, OPERATOR)


def text(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = both()
    change(document)
    return text(document)


def _flip(document: dict[str, Any]) -> None:
    content = bytearray(base64.b64decode(document["payload"]))
    content[-1] ^= 1
    document["payload"] = base64.b64encode(content).decode()


def _swap_ids(document: dict[str, Any]) -> None:
    one, other = document["signatures"]
    one["keyid"], other["keyid"] = other["keyid"], one["keyid"]


def _copy_signature(document: dict[str, Any]) -> None:
    document["signatures"][1]["sig"] = document["signatures"][0]["sig"]


def _unused_bits(document: dict[str, Any]) -> None:
    signature = document["signatures"][0]["sig"]
    assert signature.endswith("==")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    document["signatures"][0]["sig"] = signature[:-3] + last[last.index(signature[-3]) + 1] + "=="


def _unpad(document: dict[str, Any]) -> None:
    content = payload() + b"x" * ((1 - len(payload())) % 3)
    document["payload"] = base64.b64encode(content).decode().rstrip("=")


def _break_line(document: dict[str, Any]) -> None:
    document["payload"] = document["payload"][:64] + "\n" + document["payload"][64:]


def _url_alphabet(document: dict[str, Any]) -> None:
    document["payload"] = document["payload"].replace("+", "-").replace("/", "_") + "-_=="


def vectors() -> dict[str, bytes]:
    good = text(both())
    sorted_pieces = [DIGESTS[start : start + 16] for start in range(0, len(DIGESTS), 16)]
    many = sorted_digests(LIST_KEY.secret, [f"d{number}.example" for number in range(300)])
    return {
        "good--two-signatures": good,
        "good--no-domain": text(both(payload(b"", count=0))),
        "good--300-domains": text(both(payload(many, count=300))),
        "good--a-stranger-signed-too": text(envelope(payload(), STRANGER, AUTHORITY, OPERATOR)),
        "good--white-space-between-tokens": json.dumps(both(), indent=4).encode(),
        "good--as-securesystemslib-writes-it": json.dumps(both()).encode(),
        "good--fields-in-another-order": text(dict(reversed(both().items()))),
        "good--recipient-in-another-script": text(both(payload(recipient="مدرسة"))),
        "good--issued-23-hours-ahead": text(both(payload(issued="2026-11-22T11:00:00Z"))),
        "good--expired": text(both(payload(expires="2026-11-21T00:00:00Z"))),
        "size--empty": b"",
        "envelope--truncated": good[: len(good) // 2],
        "envelope--last-byte-missing": good.rstrip(b"\n")[:-1],
        "envelope--trailing-garbage": good + b"x",
        "envelope--two-documents": good + good,
        "envelope--an-error-page": b"<!doctype html><title>404 Not Found</title>\n",
        "envelope--byte-order-mark": b"\xef\xbb\xbf" + good,
        "envelope--utf-16": good.decode().encode("utf-16"),
        "envelope--a-list": text([both()]),
        "envelope--deeply-nested": b"[" * 100_000,
        "envelope--nan": good.replace(b'"signatures"', b'"extra":NaN,"signatures"'),
        "envelope--extra-field": changed(lambda e: e.update(extra=1)),
        "envelope--no-signatures-field": changed(lambda e: e.pop("signatures")),
        "envelope--payload-twice": good.replace(b'"payloadType"', b'"payload":"","payloadType"'),
        "envelope--signatures-twice": good.replace(b'"payloadType"', b'"signatures":[],"payloadType"'),
        "envelope--payload-is-a-number": changed(lambda e: e.update(payload=1)),
        "envelope--payload-with-a-line-break": changed(_break_line),
        "envelope--payload-with-an-escape": good.replace(b'"payload":"e', b'"payload":"\\u0065'),
        "envelope--payload-without-padding": changed(_unpad),
        "envelope--base64-for-urls": changed(_url_alphabet),
        "envelope--unused-bits-set": changed(_unused_bits),
        "envelope--signature-is-a-text": changed(lambda e: e.update(signatures=["x"])),
        "envelope--signature-with-extra-field": changed(lambda e: e["signatures"][0].update(cert="x")),
        "envelope--signature-without-keyid": changed(lambda e: e["signatures"][0].pop("keyid")),
        "envelope--signature-not-base64": changed(lambda e: e["signatures"][0].update(sig="?")),
        "envelope--one-keyid-twice": changed(lambda e: e["signatures"].append(e["signatures"][0])),
        "envelope--17-signatures": changed(
            lambda e: e["signatures"].extend({"keyid": str(number), "sig": ""} for number in range(15))
        ),
        "payload-type--version-2": text(envelope(payload(), AUTHORITY, OPERATOR, payload_type=PAYLOAD_TYPE[:-1] + "2")),
        "payload-type--upper-case": changed(lambda e: e.update(payloadType=PAYLOAD_TYPE.upper())),
        "payload-type--null": changed(lambda e: e.update(payloadType=None)),
        "signatures--none": text(envelope(payload())),
        "signatures--one-of-two": text(envelope(payload(), AUTHORITY)),
        "signatures--one-signature-under-two-ids": changed(_copy_signature),
        "signatures--ids-swapped": changed(_swap_ids),
        "signatures--by-a-stranger": text(envelope(payload(), AUTHORITY, STRANGER)),
        "signatures--of-another-payload": text(envelope(payload(), AUTHORITY, OPERATOR, signed=payload(serial=8))),
        "signatures--of-another-payload-type": changed(
            lambda e: e.update(signatures=envelope(payload(), AUTHORITY, OPERATOR, payload_type="x")["signatures"])
        ),
        "signatures--payload-bit-flipped": changed(_flip),
        "signatures--empty": changed(lambda e: e["signatures"][1].update(sig="")),
        "header--no-line-break": text(both(payload(b"").rstrip(b"\n"))),
        "header--too-long": text(both(b" " * 5000 + payload())),
        "header--not-json": text(both(b"list: vectors\n" + DIGESTS)),
        "header--a-list": text(both(b"[]\n" + DIGESTS)),
        "header--missing-recipient": text(both(without("recipient"))),
        "header--missing-expires": text(both(without("expires"))),
        "header--extra-field": text(both(payload(comment="x"))),
        "header--serial-twice": text(both(raw_header('"serial":7', '"serial":7,"serial":8'))),
        "header--serial-0": text(both(payload(serial=0))),
        "header--serial-a-fraction": text(both(payload(serial=7.0))),
        "header--serial-true": text(both(payload(serial=True))),
        "header--serial-a-text": text(both(payload(serial="7"))),
        "header--serial-too-large": text(both(payload(serial=2**53))),
        "header--count-negative": text(both(payload(count=-1))),
        "header--list-in-upper-case": text(both(payload(list="Vectors"))),
        "header--list-empty": text(both(payload(list=""))),
        "header--key-id-in-upper-case": text(both(payload(key_id="ABCDEF0123456789"))),
        "header--issued-no-such-day": text(both(payload(issued="2026-02-30T12:00:00Z"))),
        "header--issued-with-an-offset": text(both(payload(issued="2026-11-20T12:00:00+00:00"))),
        "header--issued-a-leap-second": text(both(payload(issued="2026-06-30T23:59:60Z"))),
        "header--expires-before-issued": text(both(payload(expires="2026-11-20T11:59:59Z"))),
        "header--recipient-too-long": text(both(payload(recipient="x" * 201))),
        "header--recipient-with-a-control-character": text(both(payload(recipient="a\u001b[2J"))),
        "header--check-host-in-upper-case": text(both(payload(check_host="CHECK.stoplist.invalid"))),
        "header--check-host-a-url": text(both(payload(check_host="https://check.stoplist.invalid/"))),
        "header--check-host-a-site": text(both(payload(check_host="www.school.example"))),
        "header--check-host-an-address": text(both(payload(check_host="192.0.2.99"))),
        "header--check-host-localhost": text(both(payload(check_host="localhost"))),
        "serial--older": text(both(payload(serial=5))),
        "serial--same-with-another-payload": text(both(payload(serial=6, recipient="another"))),
        "serial--another-list": text(both(payload(list="another"))),
        "clock--issued-25-hours-ahead": text(both(payload(issued="2026-11-22T13:00:01Z"))),
        "digests--count-too-high": text(both(payload(count=4))),
        "digests--count-too-low": text(both(payload(count=2))),
        "digests--last-one-cut": text(both(payload(DIGESTS[:-1]))),
        "digests--not-sorted": text(both(payload(b"".join(reversed(sorted_pieces))))),
        "digests--one-twice": text(both(payload(sorted_pieces[0] + DIGESTS, count=4))),
        "list-key--of-another-recipient": text(both(payload(key_id=OTHER_KEY.key_id))),
    }  # fmt: skip


def main() -> None:
    for old in FOLDER.glob("*.stoplist"):
        old.unlink()
    for name, data in vectors().items():
        (FOLDER / f"{name}.stoplist").write_bytes(data)
    for name, signer in (("authority", AUTHORITY), ("operator", OPERATOR)):
        (FOLDER / f"{name}.pub").write_bytes(public_pem(signer))
    (FOLDER / "vectors.listkey").write_bytes(LIST_KEY.to_text())
    seen = text(both(payload(serial=6)))
    (FOLDER / "history.stoplist.before").write_bytes(seen)


if __name__ == "__main__":
    main()
