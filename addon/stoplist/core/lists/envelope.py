"""The envelope of a list file: DSSE in JSON, which this module takes apart strictly, signs, and writes.

A file is a DSSE envelope (https://github.com/secure-systems-lab/dsse). Its payload is one line of JSON, the header,
then the sorted keyed digests of the domains. This module does not verify a list: signed_list.py does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import Signature, Signer

from stoplist.core.hosts import CHECK_HOST
from stoplist.core.lists.digests import DIGEST_SIZE, are_sorted_and_unique, sorted_digests
from stoplist.core.lists.keys import ListKey, SignatureJudge, TrustedKey, is_signature_of
from stoplist.core.lists.list_header import ListError, ListFault, ListHeader, strict_value

PAYLOAD_TYPE = "application/vnd.stoplist.list.v1"
MAX_FILE_SIZE = 512 * 1024 * 1024
"""Largest list file, in bytes: about 25 million domains."""
MAX_ENVELOPE_SIZE = 64 * 1024
"""Largest envelope without its payload, in bytes: 16 signatures by RSA keys of 16,384 bits fit."""
MAX_HEADER_SIZE = 4096
MAX_SIGNATURES = 16
_PAYLOAD = re.compile(rb'"payload"[ \t\r\n]*:[ \t\r\n]*"')
_BASE64_PIECE = 128 * 1024


@dataclass(frozen=True, slots=True)
class Envelope:
    """A list file taken apart: its form is checked strictly, but nothing in it is verified yet."""

    payload: bytes = field(repr=False)
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Envelope:
        """Take a file apart. Raises ListError (size, envelope or payload type).

        >>> Envelope.parse(b'{"payload":"e30K","payloadType":"%b","signatures":[]}' % PAYLOAD_TYPE.encode()).payload
        b'{}\\n'
        >>> Envelope.parse(b'{"payload":"e30K","payloadType":"text/plain","signatures":[]}')
        Traceback (most recent call last):
        stoplist.core.lists.list_header.ListError: the payload type is not application/vnd.stoplist.list.v1; ...
        """
        if len(data) > MAX_FILE_SIZE:
            raise ListError(ListFault.SIZE, f"the file is larger than {MAX_FILE_SIZE} bytes")
        if not data:
            raise ListError(ListFault.SIZE, "the file is empty")
        rest, payload = _cut_payload(data)
        if len(rest) > MAX_ENVELOPE_SIZE:
            raise ListError(
                ListFault.ENVELOPE, f"the file without its payload is larger than {MAX_ENVELOPE_SIZE} bytes"
            )
        envelope = strict_value(rest, ListFault.ENVELOPE)
        if not isinstance(envelope, dict) or set(envelope) != {"payload", "payloadType", "signatures"}:
            raise ListError(ListFault.ENVELOPE, "not an envelope of payload, payloadType and signatures")
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ListError(ListFault.PAYLOAD_TYPE, f"the payload type is not {PAYLOAD_TYPE}")
        if envelope["payload"] != "":
            raise ListError(ListFault.ENVELOPE, "the payload is not one text of base64")
        entries = envelope["signatures"]
        if not isinstance(entries, list) or len(entries) > MAX_SIGNATURES:
            raise ListError(ListFault.ENVELOPE, f"'signatures' is not a list of at most {MAX_SIGNATURES}")
        signatures = []
        for entry in entries:
            if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"}:
                raise ListError(ListFault.ENVELOPE, "a signature needs exactly keyid and sig")
            keyid, sig = entry["keyid"], entry["sig"]
            if not isinstance(keyid, str) or not isinstance(sig, str) or not sig.isascii():
                raise ListError(ListFault.ENVELOPE, "keyid and sig are texts")
            signatures.append(Signature(keyid, _base64(memoryview(sig.encode())).hex()))
        if len({signature.keyid for signature in signatures}) != len(signatures):
            raise ListError(ListFault.ENVELOPE, "two signatures name the same keyid")
        return cls(_base64(payload), tuple(signatures))

    @property
    def header(self) -> ListHeader:
        """The header, unverified. Raises ListError."""
        line, newline, _ = self.payload[: MAX_HEADER_SIZE + 1].partition(b"\n")
        if not newline:
            raise ListError(ListFault.HEADER, f"the header has no end within {MAX_HEADER_SIZE} bytes")
        return ListHeader.parse(line)

    @property
    def digests(self) -> memoryview:
        """The digests, as many as the header says and strictly rising; unverified. Raises ListError."""
        return read_digests(self.payload, self.header)

    def signers(self, trusted: Iterable[TrustedKey], judge: SignatureJudge = is_signature_of) -> tuple[TrustedKey, ...]:
        """The trusted keys that signed this payload, each key material once."""
        found: dict[bytes, TrustedKey] = {}
        by_id = {key.key_id: key for key in trusted}
        pae = self._dsse().pae()
        for signature in self.signatures:
            key = by_id.get(signature.keyid)
            if key is not None and judge(key.key, signature, pae):
                found[key.material] = key
        return tuple(found.values())

    def signed_by(self, signer: Signer) -> Envelope:
        """This envelope with one more signature. Raises ListError if that key has already signed."""
        signature = signer.sign(self._dsse().pae())
        if signature.keyid in {other.keyid for other in self.signatures}:
            raise ListError(
                ListFault.SIGNATURES,
                f"key {signature.keyid[:16]} has already signed this list",
                hint="the second signature must come from another person's key",
            )
        return Envelope(self.payload, (*self.signatures, signature))

    def to_bytes(self) -> bytes:
        """The file, in the form in which securesystemslib writes a DSSE envelope."""
        # The payload may be hundreds of megabytes. Inserting it here avoids copying it four times.
        hollow = DsseEnvelope(b"", PAYLOAD_TYPE, {s.keyid: s for s in self.signatures}).to_dict()
        before, empty, after = json.dumps(hollow, separators=(",", ":")).partition('"payload":""')
        assert empty
        return b"".join(
            (before.encode(), empty[:-1].encode(), base64.b64encode(self.payload), b'"', after.encode(), b"\n")
        )

    def _dsse(self) -> DsseEnvelope:
        return DsseEnvelope(self.payload, PAYLOAD_TYPE, {s.keyid: s for s in self.signatures})


def build(
    domains: Iterable[str],
    *,
    list_id: str,
    serial: int,
    issued: datetime,
    expires: datetime,
    list_key: ListKey,
    recipient: str = "",
    check_host: str = CHECK_HOST,
) -> Envelope:
    """An unsigned list of canonical `domains`. Raises ListError if a header field is out of range."""
    digests = sorted_digests(list_key.secret, domains)
    header = ListHeader(
        list_id,
        serial,
        issued.replace(microsecond=0),
        expires.replace(microsecond=0),
        len(digests) // DIGEST_SIZE,
        list_key.key_id,
        recipient,
        check_host,
    )
    line = header.to_line()
    ListHeader.parse(line)
    return Envelope(line + digests, ())


def read_digests(payload: bytes, header: ListHeader) -> memoryview:
    """The digests after the header. Raises ListError if their number or their order is wrong."""
    digests = memoryview(payload)[payload.index(b"\n") + 1 :]
    if len(digests) != DIGEST_SIZE * header.count:
        raise ListError(
            ListFault.DIGESTS, f"the header counts {header.count} domains, but the list holds another number"
        )
    if not are_sorted_and_unique(digests):
        raise ListError(ListFault.DIGESTS, "the digests are not in strictly rising order")
    return digests


def _cut_payload(data: bytes) -> tuple[bytes, memoryview]:
    """The JSON of an envelope with an empty payload, and the base64 that was its payload.

    The payload may be hundreds of megabytes. A JSON parser would copy it several times, and hold the interpreter
    while it does. Cutting at the first ``"payload": "`` is safe. Inside a JSON text the quotes would be escaped. If
    another field of that name comes first, the payload that is left is not empty. An escape in the payload is an
    error, since base64 holds no backslash.
    """
    match = _PAYLOAD.search(data, 0, MAX_ENVELOPE_SIZE)
    if match is None:
        return data, memoryview(b"")
    end = data.find(b'"', match.end())
    if end < 0:
        return data, memoryview(b"")
    return data[: match.end()] + data[end:], memoryview(data)[match.end() : end]


def _base64(text: memoryview) -> bytes:
    """Decode base64 (RFC 4648, section 4); only one form of each value is allowed.

    The function decodes in pieces, because the decoder holds the interpreter: a request must not wait for a whole
    list.
    """
    parts = []
    try:
        for start in range(0, len(text), _BASE64_PIECE):
            piece = text[start : start + _BASE64_PIECE]
            parts.append(binascii.a2b_base64(piece, strict_mode=True))
            if len(parts[-1]) != len(piece) // 4 * 3 and start + _BASE64_PIECE < len(text):
                raise ValueError
    except ValueError:
        raise ListError(ListFault.ENVELOPE, "payload or sig is not base64") from None
    if parts and base64.b64encode(parts[-1])[-4:] != text[-4:]:
        raise ListError(ListFault.ENVELOPE, "payload or sig is not canonical base64")
    return parts[0] if len(parts) == 1 else b"".join(parts)
