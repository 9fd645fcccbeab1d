"""A list that verified, format 1 (docs/list-format.md).

Only `SignedList.open` makes a SignedList: code that holds one holds a list that verified.

The code checks in this order and stops at the first fault:
  1. size                      5. header: exact fields, types and ranges
  2. strict JSON, base64       6. list id and serial: not lower than the highest seen
  3. payload type              7. clock: not issued in the future, unless it was in force before
  4. signatures: `threshold`   8. digests: `count` of them, strictly rising
     distinct trusted keys     9. the list key is the one that the list was made for

Rules
  - Any bytes give a SignedList or a ListError, nothing else.
  - Key ids are hints. The code counts distinct key material that verifies.
  - An expired list is a SignedList whose `expired(now)` is true: the caller decides.
  - A list that was in force before verifies whatever the clock says: a clock set back must not end enforcement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from stoplist.core.lists.digests import DigestSet
from stoplist.core.lists.envelope import Envelope, read_digests
from stoplist.core.lists.keys import ListKey, SignatureJudge, TrustedKey, is_signature_of
from stoplist.core.lists.list_header import ListError, ListFault, ListHeader
from stoplist.core.times import format_time

CLOCK_SKEW = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest list of an id that was in force: its serial and the SHA-256 of its payload."""

    list: str
    serial: int
    payload_digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class History:
    """The lists that were in force before: a new file must not be behind them.

    `expected` is the list id that the file held until now, None if it is not known. `seen` has the newest list of
    each id.
    """

    expected: str | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)

    def after(self, signed: SignedList) -> History:
        """This history after `signed` came into force in some file."""
        before = self.seen.get(signed.header.list)
        if before is not None and before.serial > signed.header.serial:
            return self
        return History(self.expected, {**self.seen, signed.header.list: signed.seen})

    def expecting(self, signed: SignedList) -> History:
        """This history after `signed` came into force in this very file."""
        return History(signed.header.list, self.after(signed).seen)

    def check(self, header: ListHeader, payload_digest: bytes) -> bool:
        """Whether this very list was in force before. Raises ListError if a newer or another one was."""
        if self.expected not in (None, header.list):
            raise ListError(
                ListFault.SERIAL,
                f"this is the list {header.list!r}, but {self.expected!r} is expected in this file",
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
                hint="the publisher must build the list again under a higher serial",
            )
        return header.serial == before.serial


NO_HISTORY = History()


@dataclass(frozen=True, slots=True)
class VerifiedPayload:
    """The payload of a list file that verified, before a list key makes it a SignedList.

    `signers` are the key ids of the distinct trusted keys that signed it. `digest` is the SHA-256 of the payload:
    two lists with the same digest are the same list.
    """

    header: ListHeader
    payload: bytes = field(repr=False)
    signers: tuple[str, ...]
    digest: bytes = field(repr=False)

    @property
    def offset(self) -> int:
        """The offset in the payload at which the digests begin."""
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
    """Verify the bytes of a list file: every check of the format except the check of the list key.

    `threshold` distinct keys of `trusted` must have signed it. `now` is an aware time. `judge` says whether a
    signature is valid. Raises ListError.
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
    read_digests(envelope.payload, header)
    return verified


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list that verified, ready for lookups. `payload_digest` is the `digest` of `VerifiedPayload`."""

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

        `list_keys` are the keys at hand; the header names the one to use. Raises ListError.
        """
        verified = verify(data, trusted=trusted, threshold=threshold, now=now, history=history, judge=judge)
        header = verified.header
        for list_key in list_keys:
            if header.key_id == list_key.key_id:
                digests = DigestSet(list_key.secret, verified.payload, verified.offset)
                return cls(header, digests, verified.signers, verified.digest)
        raise ListError(
            ListFault.LIST_KEY,
            f"made with list key {header.key_id}, not with {', '.join(key.key_id for key in list_keys)}",
            hint="use the list key that belongs to this copy of the list",
        )

    @property
    def seen(self) -> Seen:
        return Seen(self.header.list, self.header.serial, self.payload_digest)

    def expired(self, now: datetime) -> bool:
        return self.header.expired(now)
