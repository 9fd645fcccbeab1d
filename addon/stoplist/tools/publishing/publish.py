"""The steps of a publisher: make keys, build a list from domains, sign it, verify it, look at it.

Rules
  - Private keys and list keys go to files with mode 0600, never to stdout.
  - An output file appears whole or not at all. The module overwrites a key only if forced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from stoplist import files
from stoplist.core.lists.envelope import MAX_FILE_SIZE, Envelope, build
from stoplist.core.lists.guard import DomainChanges
from stoplist.core.lists.keys import LIST_KEY_SIZE, MAX_KEY_SIZE, ListKey, TrustedKey
from stoplist.core.lists.list_header import ListHeader
from stoplist.core.lists.signed_list import VerifiedPayload, verify
from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.tools.publishing.domains import Domains
from stoplist.tools.publishing.signers import SigningKey, public_pem

type Track = Callable[[Iterable[str]], Iterable[str]]
"""Passes items on, and shows somebody how many have passed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The changes of a list against an older list file that nobody has verified."""

    file: Path
    old: ListHeader
    change: DomainChanges


@dataclass(frozen=True, slots=True)
class Built:
    """A list file that was written."""

    header: ListHeader
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class Review:
    """A list file as its next signer sees it. Nothing in it is verified; `signers` are key ids."""

    file: Path
    header: ListHeader
    signers: tuple[str, ...]
    comparison: Comparison | None
    _envelope: Envelope = field(repr=False)
    _data: bytes = field(repr=False)

    def sign(self, key: SigningKey) -> None:
        """Add a signature to exactly the bytes that were reviewed, in their file. Raises StoplistError."""
        signed = _at(self.file, lambda: key.sign(self._envelope))
        if files.read(self.file, MAX_FILE_SIZE) != self._data:
            raise StoplistError(
                "the file has changed while you looked at it",
                hint="look at it again, and sign it then",
                place=str(self.file),
            )
        files.write(self.file, signed.to_bytes(), mode=files.PUBLIC, replace=True)


def make_signing_key(path: Path, *, force: bool) -> None:
    """A new Ed25519 key pair: `path` (private PEM, 0600) and ``path.pub`` (public PEM)."""
    signer = CryptoSigner.generate_ed25519()
    public = public_pem(signer)
    public_path = path.with_name(f"{path.name}.pub")
    files.write_all((public_path, public, files.PUBLIC), (path, signer.private_bytes, files.PRIVATE), replace=force)


def make_list_key(path: Path, *, force: bool) -> None:
    """A new list key (0600)."""
    files.write(path, ListKey(os.urandom(LIST_KEY_SIZE)).to_text(), mode=files.PRIVATE, replace=force)


def build_list(
    domains: Domains,
    *,
    list_id: str,
    serial: int | None,
    expires: datetime,
    list_key: Path,
    signing_keys: Sequence[SigningKey],
    recipient: str,
    output: Path,
    now: datetime,
    compare_with: Path | None = None,
    force: bool = False,
    track: Track = iter,
) -> Built:
    """Write a new list file, replacing the one before it. Raises StoplistError.

    `compare_with` is an older list file to compare it with. The `serial` must be higher than that of this file, and of
    the one that is replaced; None means the next one. Every signer of the replaced list must sign the new
    one. `force` skips both checks. `track` sees the domains while they are digested.
    """
    if expires <= now:
        raise StoplistError(f"expires on {format_time(expires)}, which is past", hint="choose a later --expires")
    before = _lists_before(list_id, compare_with, output)
    serial = _serial(serial, before, force=force)
    envelope = build(
        track(domains.names),
        list_id=list_id,
        serial=serial,
        issued=now,
        expires=expires,
        list_key=_read_key(list_key, ListKey.parse),
        recipient=recipient,
    )
    comparison = compare(envelope, compare_with)
    for key in signing_keys:
        envelope = key.sign(envelope)
    if not force and output in before:
        _keeps_signers(output, before[output], envelope)
    files.write(output, envelope.to_bytes(), mode=files.PUBLIC, replace=True)
    return Built(envelope.header, comparison)


def _lists_before(list_id: str, compare_with: Path | None, output: Path) -> dict[Path, Envelope]:
    """The older lists of this name: the one to compare with, and the one that `output` holds, if it holds any."""
    found = {}
    for path in (output, *([compare_with] if compare_with is not None else [])):
        with suppress(StoplistError):  # there is none yet, or something else is replaced
            envelope = read_envelope(path)
            if envelope.header.list == list_id:
                found[path] = envelope
    return found


def _serial(wanted: int | None, before: Mapping[Path, Envelope], *, force: bool) -> int:
    """The serial of a new list. Raises StoplistError if gates that had a list before it would refuse it."""
    last: Path | None = max(before, key=lambda path: before[path].header.serial, default=None)
    if wanted is None and last is None:
        raise StoplistError("there is no list before this one", hint="write its number: --serial 1")
    if last is None:
        assert wanted is not None
        return wanted
    serial: int = before[last].header.serial
    if wanted is None:
        return serial + 1
    if wanted <= serial and not force:
        raise StoplistError(
            f"serial {wanted} is not higher than {serial} in this list: gates that have it refuse the new one",
            hint=f"write --serial next, or --serial {serial + 1}; to build it all the same: --force",
            place=str(last),
        )
    return wanted


def _keeps_signers(path: Path, before: Envelope, envelope: Envelope) -> None:
    """Check that all signers of the list that is replaced have signed the new one. Raises StoplistError."""
    missing = {each.keyid for each in before.signatures} - {each.keyid for each in envelope.signatures}
    if missing:
        raise StoplistError(
            f"the list in this file has a signature by {', '.join(sorted(missing))}, and the new list would have none",
            hint="sign with all keys, or write to another file and pass that on; to replace it all the same: --force",
            place=str(path),
        )


def review(path: Path, compare_with: Path | None = None) -> Review:
    """A list file for its next signer, compared with an older one if `compare_with` names one. Raises StoplistError."""
    data = files.read(path, MAX_FILE_SIZE)
    envelope = _at(path, lambda: Envelope.parse(data))
    header = _at(path, lambda: envelope.header)
    _at(path, lambda: envelope.digests)
    signers = tuple(signature.keyid for signature in envelope.signatures)
    return Review(path, header, signers, compare(envelope, compare_with), envelope, data)


def compare(envelope: Envelope, old: Path | None) -> Comparison | None:
    """The changes of a list against an older list file of the same id. Raises StoplistError."""
    if old is None:
        return None
    before = read_envelope(old)
    header = _at(old, lambda: before.header)
    if header.list != envelope.header.list:
        raise StoplistError(
            f"this is the list {header.list!r}, not {envelope.header.list!r}",
            hint="compare with the list that came before it",
            place=str(old),
        )
    return Comparison(old, header, _at(old, lambda: DomainChanges.between_unverified(before, envelope)))


def verify_list(path: Path, trusted: Sequence[Path], threshold: int, now: datetime) -> VerifiedPayload:
    """Verify a list file that has not expired, without its list key. Raises StoplistError."""
    keys = [_read_key(key, TrustedKey.parse) for key in trusted]
    data = files.read(path, MAX_FILE_SIZE)
    verified = _at(path, lambda: verify(data, trusted=keys, threshold=threshold, now=now))
    if verified.header.expired(now):
        raise StoplistError(
            f"the list expired on {format_time(verified.header.expires)}",
            hint="fetch a fresh list from its publisher",
            place=str(path),
        )
    return verified


def read_envelope(path: Path) -> Envelope:
    """A list file, taken apart but not verified. Raises StoplistError."""
    data = files.read(path, MAX_FILE_SIZE)
    return _at(path, lambda: Envelope.parse(data))


def parse_expiry(text: str) -> datetime:
    """A date (the end of that day, UTC) or an RFC 3339 time. Raises ValueError.

    >>> parse_expiry("2026-01-31").isoformat()
    '2026-01-31T23:59:59+00:00'
    >>> parse_expiry("2026-01-31T12:00:00")
    Traceback (most recent call last):
    ValueError: no time zone
    """
    moment = datetime.fromisoformat(text)
    if len(text) == len("2026-01-31"):
        moment = datetime.combine(moment, time(23, 59, 59), UTC)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("no year that exists") from None


def _read_key[T](path: Path, parse: Callable[[bytes], T]) -> T:
    data = files.read(path, MAX_KEY_SIZE)
    return _at(path, lambda: parse(data))


def _at[T](path: Path, step: Callable[[], T]) -> T:
    """Do a step; if it raises an error without a place, give the error the place of the file."""
    try:
        return step()
    except StoplistError as error:
        raise error.at(str(path)) from None
