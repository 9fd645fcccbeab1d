"""The list file, format 1 (docs/list-format.md): parse, verify, build, sign.

A file is a DSSE envelope (https://github.com/secure-systems-lab/dsse) in JSON. Its payload is one
line of JSON, the header, then the sorted keyed digests of the domains. `SignedList.open` is the only
way to a SignedList: whoever holds one holds a list that verified.

The order of checks, the first fault ends it:
  1. size                      5. header: exact fields, types and ranges
  2. strict JSON, base64       6. list id and serial: not lower than the highest seen
  3. payload type              7. clock: not issued in the future, unless it was in force before
  4. signatures: `threshold`   8. digests: `count` of them, strictly rising
     distinct trusted keys     9. the list key is the one that the list was made for

Rules
  - Any bytes give a SignedList or a ListError, nothing else.
  - Key ids are hints; what counts is distinct key material that verifies.
  - An expired list is a SignedList whose `expired(now)` is true: the caller decides.
  - A list that was in force before verifies whatever the clock says: a clock set back must not end
    enforcement.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, Signer, SSlibKey

from stoplist.core import strict_json
from stoplist.core.hosts import CHECK_HOST, Host, HostError
from stoplist.core.lists.digests import (
    DIGEST_SIZE,
    DigestSet,
    are_sorted_and_unique,
    sorted_digests,
)
from stoplist.core.times import format_time
from stoplist.errors import StoplistError

PAYLOAD_TYPE = "application/vnd.stoplist.list.v1"
MAX_FILE_SIZE = 512 * 1024 * 1024
"""Largest list file, in bytes: about 25 million domains."""
MAX_KEY_SIZE = 64 * 1024
"""Largest file of a trusted key or a list key, in bytes."""
MAX_ENVELOPE_SIZE = 64 * 1024
"""Largest envelope but for its payload, in bytes: 16 signatures by RSA keys of 16,384 bits fit."""
MAX_HEADER_SIZE = 4096
CHECK_HOST_SUFFIXES = (".invalid", ".test")
"""Where a check host may be: below names that no site can have (RFC 6761), since it is stopped whatever it is."""
MAX_SIGNATURES = 16
CLOCK_SKEW = timedelta(hours=24)
LIST_KEY_SIZE = 32

_LIST_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_PAYLOAD = re.compile(rb'"payload"[ \t\r\n]*:[ \t\r\n]*"')
_BASE64_PIECE = 128 * 1024
_MAX_SERIAL = 2**53 - 1
_MAX_RECIPIENT = 200


class ListFault(StrEnum):
    """What is wrong with a list file, in the order in which faults are looked for."""

    SIZE = "size"
    ENVELOPE = "envelope"
    PAYLOAD_TYPE = "payload type"
    SIGNATURES = "signatures"
    HEADER = "header"
    SERIAL = "serial"
    CLOCK = "clock"
    DIGESTS = "digests"
    LIST_KEY = "list key"
    GUARD = "guard"


class ListError(StoplistError):
    """A file that is not, or not yet, a list to enforce. `fault` says at which check it failed."""

    def __init__(self, fault: ListFault, message: str, *, hint: str = "ask the publisher for a new copy") -> None:
        super().__init__(message, hint=hint)
        self.fault = fault


class KeyFileError(StoplistError):
    """A key file that cannot be used."""


@dataclass(frozen=True, slots=True)
class ListKey:
    """The secret that the digests of one recipient's list are keyed with: 32 bytes."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: bytes) -> ListKey:
        """Read a list key as `to_text` wrote it. Raises KeyFileError, which never shows the key."""
        try:
            secret = bytes.fromhex(text.decode("ascii").strip())
        except ValueError:
            secret = b""
        if len(secret) != LIST_KEY_SIZE:
            raise KeyFileError(
                f"not a list key: {2 * LIST_KEY_SIZE} hexadecimal digits are expected",
                hint="use the list key that came with the list, or make one with 'stoplist list keygen --list-key'",
            )
        return cls(secret)

    def to_text(self) -> bytes:
        return self.secret.hex().encode() + b"\n"

    @property
    def key_id(self) -> str:
        """Names the key without showing it: 16 hexadecimal digits of a keyed hash of nothing."""
        return hashlib.blake2b(digest_size=8, key=self.secret, person=b"stoplist-key-id").hexdigest()


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that may sign a list. Two are equal when their key material is."""

    material: bytes = field(repr=False)
    key: SSlibKey = field(compare=False, repr=False)

    @classmethod
    def parse(cls, pem: bytes) -> TrustedKey:
        """Read a PEM public key (Ed25519, ECDSA P-256/384/521 or RSA). Raises KeyFileError."""
        try:
            public = load_pem_public_key(pem)
            key = SSlibKey.from_crypto(public)
            material = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            hint = "use the .pub file that 'stoplist list keygen' wrote"
            if b"PRIVATE KEY" in pem:
                hint = "this is a private key: take it off this machine and name its .pub file here"
            raise KeyFileError("not a PEM public key (Ed25519, ECDSA or RSA)", hint=hint) from None
        return cls(hashlib.sha256(material).digest(), key)

    @property
    def key_id(self) -> str:
        return str(self.key.keyid)


type SignatureJudge = Callable[[SSlibKey, Signature, bytes], bool]


def is_signature_of(key: SSlibKey, signature: Signature, signed: bytes) -> bool:
    """Whether `signature` is that of `key` over the bytes `signed`."""
    try:
        key.verify_signature(signature, signed)
    except UnverifiedSignatureError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ListHeader:
    """The first line of a payload. Times are UTC, to the second."""

    list: str
    serial: int
    issued: datetime
    expires: datetime
    count: int
    key_id: str
    recipient: str
    check_host: str

    @classmethod
    def parse(cls, line: bytes) -> ListHeader:
        """Read a header strictly: exactly these fields, each of its type. Raises ListError."""
        fields = _strict_json(line, ListFault.HEADER)
        if not isinstance(fields, dict) or set(fields) != set(cls.__slots__):
            raise ListError(ListFault.HEADER, f"the header needs exactly the fields {', '.join(cls.__slots__)}")
        _check(_matches(_LIST_ID, fields["list"]), "list", "a name of a-z, 0-9, '.', '_' and '-'")
        _check(_is_count(fields["serial"]) and fields["serial"] > 0, "serial", "a whole number above 0")
        _check(_is_count(fields["count"]), "count", "a whole number")
        _check(_matches(_KEY_ID, fields["key_id"]), "key_id", "16 hexadecimal digits")
        _check(
            isinstance(fields["recipient"], str)
            and len(fields["recipient"]) <= _MAX_RECIPIENT
            and fields["recipient"].isprintable(),
            "recipient",
            f"a printable text of at most {_MAX_RECIPIENT} characters",
        )
        fields["issued"] = _time(fields["issued"], "issued")
        fields["expires"] = _time(fields["expires"], "expires")
        _check(fields["issued"] < fields["expires"], "expires", "a time after 'issued'")
        try:
            canonical = Host.parse(fields["check_host"]) if isinstance(fields["check_host"], str) else None
        except HostError:
            canonical = None
        _check(
            canonical is not None
            and canonical.name == fields["check_host"]
            and canonical.name.endswith(CHECK_HOST_SUFFIXES),
            "check_host",
            f"a canonical host below {' or '.join(CHECK_HOST_SUFFIXES)}",
        )
        return cls(**fields)

    def expired(self, now: datetime) -> bool:
        return now >= self.expires

    def to_line(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["issued"] = format_time(self.issued)
        fields["expires"] = format_time(self.expires)
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A list file taken apart: strict in form, nothing about it verified yet."""

    payload: bytes = field(repr=False)
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Envelope:
        """Take a file apart. Raises ListError (size, envelope or payload type)."""
        if len(data) > MAX_FILE_SIZE:
            raise ListError(ListFault.SIZE, f"the file is larger than {MAX_FILE_SIZE} bytes")
        if not data:
            raise ListError(ListFault.SIZE, "the file is empty")
        rest, payload = _cut_payload(data)
        if len(rest) > MAX_ENVELOPE_SIZE:
            raise ListError(ListFault.ENVELOPE, f"all but the payload is larger than {MAX_ENVELOPE_SIZE} bytes")
        envelope = _strict_json(rest, ListFault.ENVELOPE)
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
        return _digests(self.payload, self.header)

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
        """This envelope with one signature more. Raises ListError where that key has signed."""
        signature = signer.sign(self._dsse().pae())
        if signature.keyid in {other.keyid for other in self.signatures}:
            raise ListError(
                ListFault.SIGNATURES,
                f"key {signature.keyid[:16]} has already signed this list",
                hint="the second signature must come from another person's key",
            )
        return Envelope(self.payload, (*self.signatures, signature))

    def to_bytes(self) -> bytes:
        """The file, as securesystemslib writes a DSSE envelope."""
        # Its payload may be hundreds of megabytes: put in here, so that it is not copied four times.
        hollow = DsseEnvelope(b"", PAYLOAD_TYPE, {s.keyid: s for s in self.signatures}).to_dict()
        before, empty, after = json.dumps(hollow, separators=(",", ":")).partition('"payload":""')
        assert empty
        return b"".join(
            (before.encode(), empty[:-1].encode(), base64.b64encode(self.payload), b'"', after.encode(), b"\n")
        )

    def _dsse(self) -> DsseEnvelope:
        return DsseEnvelope(self.payload, PAYLOAD_TYPE, {s.keyid: s for s in self.signatures})


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest list of an id that was in force: its serial and the SHA-256 of its payload."""

    list: str
    serial: int
    payload_digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class History:
    """What was in force before: a new file must not be behind it.

    `expected` is the list id that the file held until now, None if it is not known; `seen` has the
    newest list of each id.
    """

    expected: str | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)

    def after(self, signed: SignedList) -> History:
        """This history, and `signed` in force in some file."""
        before = self.seen.get(signed.header.list)
        if before is not None and before.serial > signed.header.serial:
            return self
        return History(self.expected, {**self.seen, signed.header.list: signed.seen})

    def expecting(self, signed: SignedList) -> History:
        """This history, and `signed` in force in the very file."""
        return History(signed.header.list, self.after(signed).seen)

    def check(self, header: ListHeader, payload_digest: bytes) -> bool:
        """Whether this very list was in force before. Raises ListError if a newer or another one was."""
        if self.expected not in (None, header.list):
            raise ListError(
                ListFault.SERIAL,
                f"this is the list {header.list!r}, and {self.expected!r} is expected in this file",
                hint="give each list a file of its own",
            )
        before = self.seen.get(header.list)
        if before is None:
            return False
        if header.serial < before.serial:
            raise ListError(
                ListFault.SERIAL,
                f"serial {header.serial} is older than {before.serial}, which was in force",
                hint="fetch the newest list; to go back, have it signed again under a higher serial",
            )
        if header.serial == before.serial and payload_digest != before.payload_digest:
            raise ListError(
                ListFault.SERIAL,
                f"another list with the same serial {header.serial} was in force",
                hint="ask the publisher which is right: each list needs a serial of its own",
            )
        return header.serial == before.serial


NO_HISTORY = History()


@dataclass(frozen=True, slots=True)
class VerifiedPayload:
    """The payload of a list file that verified, before a list key makes it a SignedList.

    `signers` are the key ids of the distinct trusted keys that signed it; `digest` is the SHA-256
    of the payload: two lists with the same are the same list.
    """

    header: ListHeader
    payload: bytes = field(repr=False)
    signers: tuple[str, ...]
    digest: bytes = field(repr=False)

    @property
    def offset(self) -> int:
        """Where the digests begin in the payload."""
        return self.payload.index(b"\n") + 1


def verify(
    data: bytes,
    *,
    trusted: Sequence[TrustedKey],
    threshold: int,
    now: datetime,
    history: History = NO_HISTORY,
    judge: SignatureJudge = is_signature_of,
) -> VerifiedPayload:
    """Verify the bytes of a list file: every check of the format but that of the list key.

    `threshold` distinct keys of `trusted` must have signed it; `now` is an aware time; `judge` says
    of each signature whether it is one. Raises ListError.
    """
    envelope = Envelope.parse(data)
    signers = envelope.signers(trusted, judge)
    if threshold < 1 or len(signers) < threshold:
        raise ListError(
            ListFault.SIGNATURES,
            f"signed by {len(signers)} of the trusted keys, {threshold} needed",
            hint="get it signed by another trusted person ('stoplist list sign'), or fetch it again",
        )
    header = envelope.header
    digest = hashlib.sha256(envelope.payload).digest()
    seen = history.check(header, digest)
    if header.issued > now + CLOCK_SKEW and not seen:
        raise ListError(
            ListFault.CLOCK,
            f"issued in the future: {format_time(header.issued)}",
            hint="check the clock of this machine, then the publisher's",
        )
    verified = VerifiedPayload(header, envelope.payload, tuple(key.key_id for key in signers), digest)
    _digests(envelope.payload, header)
    return verified


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list that verified, ready to be asked. `payload_digest` is that of `VerifiedPayload`."""

    header: ListHeader
    digests: DigestSet = field(compare=False)
    signers: tuple[str, ...]
    payload_digest: bytes = field(repr=False)

    @classmethod
    def open(
        cls,
        data: bytes,
        *,
        trusted: Sequence[TrustedKey],
        threshold: int,
        list_keys: Sequence[ListKey],
        now: datetime,
        history: History = NO_HISTORY,
        judge: SignatureJudge = is_signature_of,
    ) -> SignedList:
        """Verify the bytes of a list file with `verify`, and open it with its list key.

        `list_keys` are those at hand; the header names the one to use. Raises ListError.
        """
        verified = verify(data, trusted=trusted, threshold=threshold, now=now, history=history, judge=judge)
        header = verified.header
        for list_key in list_keys:
            if header.key_id == list_key.key_id:
                digests = DigestSet(list_key.secret, verified.payload, verified.offset)
                return cls(header, digests, verified.signers, verified.digest)
        raise ListError(
            ListFault.LIST_KEY,
            f"made with list key {header.key_id}, and here is {', '.join(key.key_id for key in list_keys)}",
            hint="use the list key that belongs to this copy of the list",
        )

    @property
    def seen(self) -> Seen:
        return Seen(self.header.list, self.header.serial, self.payload_digest)

    def expired(self, now: datetime) -> bool:
        return self.header.expired(now)


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
    """An unsigned list of canonical `domains`. Raises ListError where a header field is out of range."""
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


def _digests(payload: bytes, header: ListHeader) -> memoryview:
    """What stands after the header. Raises ListError."""
    digests = memoryview(payload)[payload.index(b"\n") + 1 :]
    if len(digests) != DIGEST_SIZE * header.count:
        raise ListError(ListFault.DIGESTS, f"the header counts {header.count} domains, the list holds others")
    if not are_sorted_and_unique(digests):
        raise ListError(ListFault.DIGESTS, "the digests are not in strictly rising order")
    return digests


def _strict_json(data: bytes, fault: ListFault) -> Any:
    try:
        return strict_json.parse(data)
    except ValueError:
        raise ListError(fault, "not strict JSON: the file is torn, or is no list") from None


def _cut_payload(data: bytes) -> tuple[bytes, memoryview]:
    """The JSON of an envelope with an empty payload, and the base64 that was its payload.

    The payload may be hundreds of megabytes; a JSON parser would copy it several times and hold the
    interpreter while it does. Cutting at the first ``"payload": "`` is safe: inside a JSON text the
    quotes would be escaped; if another field of that name comes first, the payload that is left is not
    empty, and base64 holds no backslash, so that an escape is no base64.
    """
    match = _PAYLOAD.search(data, 0, MAX_ENVELOPE_SIZE)
    if match is None:
        return data, memoryview(b"")
    end = data.find(b'"', match.end())
    if end < 0:
        return data, memoryview(b"")
    return data[: match.end()] + data[end:], memoryview(data)[match.end() : end]


def _base64(text: memoryview) -> bytes:
    """Decode base64 (RFC 4648, section 4) of which each value has one form only.

    In pieces, because the decoder holds the interpreter: a request must not wait for a whole list.
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


def _time(value: Any, name: str) -> datetime:
    try:
        _check(_matches(_TIME, value), name, "a time like 2026-01-31T00:00:00Z")
        return datetime.fromisoformat(value)
    except ValueError:
        raise ListError(ListFault.HEADER, f"{name!r} is no date that exists") from None


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None and value.isascii()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_SERIAL


def _check(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise ListError(ListFault.HEADER, f"{name!r} is not {expected}")
