"""What a publisher does: make keys, build a list from domains, sign it, verify it, look at it.

Rules
  - Every faulty line is reported in one run, with its number and a remedy, and nothing is written.
  - Private keys and list keys go to files with mode 0600, never to stdout.
  - An output file appears whole or not at all; a key is never overwritten unless forced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from publicsuffixlist import PublicSuffixList
from securesystemslib.signer import CryptoSigner, Signer

from stoplist import files
from stoplist.core.hosts import Host, HostError
from stoplist.core.signedlist import (
    LIST_KEY_SIZE,
    MAX_FILE_SIZE,
    Envelope,
    KeyFileError,
    ListHeader,
    ListKey,
    TrustedKey,
    VerifiedPayload,
    build,
    format_time,
    verify,
)
from stoplist.errors import Problems, StoplistError
from stoplist.loading import MAX_KEY_SIZE


class DomainError(StoplistError):
    """A line of the publisher's that is no domain to list. `place` is ``file:line``."""


@dataclass(frozen=True, slots=True)
class Domains:
    """The domains to list, canonical, and what was dropped on the way."""

    names: frozenset[str]
    duplicates: int
    covered: int


def make_signing_key(path: Path, *, force: bool) -> None:
    """A new Ed25519 key pair: `path` (private PEM, 0600) and ``path.pub`` (public PEM)."""
    signer = CryptoSigner.generate_ed25519()
    public = public_pem(signer)
    public_path = path.with_name(f"{path.name}.pub")
    if not force and public_path.exists():
        raise StoplistError("exists already", hint="use --force to overwrite it", place=str(public_path))
    files.write(path, signer.private_bytes, mode=files.PRIVATE, replace=force)
    files.write(public_path, public, mode=files.PUBLIC, replace=force)


def make_list_key(path: Path, *, force: bool) -> None:
    """A new list key (0600)."""
    files.write(path, ListKey(os.urandom(LIST_KEY_SIZE)).to_text(), mode=files.PRIVATE, replace=force)


def read_domains(lines: Iterable[str], source: str) -> Domains:
    """Domains from text, one a line, ``#`` begins a comment. Raises Problems, one for each faulty line."""
    suffixes = PublicSuffixList()
    problems: list[StoplistError] = []
    names: set[str] = set()
    duplicates = 0
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            name = _domain(text, suffixes)
        except StoplistError as error:
            problems.append(DomainError(f"{text!r} {error.message}", hint=error.hint, place=f"{source}:{number}"))
            continue
        duplicates += name in names
        names.add(name)
    if problems:
        raise Problems(problems)
    if not names:
        raise StoplistError("no domain at all", hint="an empty list would stop nothing: check the file", place=source)
    topmost = frozenset(name for name in names if not _is_covered(name, names))
    return Domains(topmost, duplicates, len(names) - len(topmost))


def build_list(
    domains: Domains,
    *,
    list_id: str,
    serial: int,
    expires: datetime,
    list_key: Path,
    signers: Sequence[Path],
    recipient: str,
    output: Path,
    now: datetime,
) -> ListHeader:
    """Write a new list file, replacing the one before it, and return its header. Raises StoplistError."""
    if expires <= now:
        raise StoplistError(f"expires on {format_time(expires)}, which is past", hint="choose a later --expires")
    envelope = build(
        domains.names,
        list_id=list_id,
        serial=serial,
        issued=now,
        expires=expires,
        list_key=_read_key(list_key, ListKey.parse),
        recipient=recipient,
    )
    for signer in signers:
        envelope = envelope.signed_by(_signer(signer))
    files.write(output, envelope.to_bytes(), mode=files.PUBLIC, replace=True)
    return envelope.header


def sign_list(path: Path, signer: Path) -> ListHeader:
    """Add a signature to a list file and return its header."""
    envelope = read_envelope(path)
    header = _at(path, lambda: envelope.header)
    signed = _at(path, lambda: envelope.signed_by(_signer(signer)))
    files.write(path, signed.to_bytes(), mode=files.PUBLIC, replace=True)
    return header


def verify_list(path: Path, trusted: Sequence[Path], threshold: int, now: datetime) -> VerifiedPayload:
    """Verify a list file that has not expired, without its list key. Raises StoplistError."""
    keys = [_read_key(key, TrustedKey.parse) for key in trusted]
    data = files.read(path, MAX_FILE_SIZE)
    verified = _at(path, lambda: verify(data, trusted=keys, threshold=threshold, now=now))
    if verified.expired(now):
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
    """A date (the end of that day, UTC) or an RFC 3339 time. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if len(text) == len("2026-01-31"):
        moment = datetime.combine(moment, time(23, 59, 59), UTC)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment.astimezone(UTC)


def _domain(text: str, suffixes: PublicSuffixList) -> str:
    if "://" in text or "/" in text:
        raise StoplistError("is a URL", hint="write the domain alone: a list covers whole domains")
    if "*" in text:
        raise StoplistError("is a wildcard", hint="write the domain alone: its subdomains are covered")
    try:
        host = Host.parse(text)
    except HostError as error:
        raise StoplistError(f"is no domain: {error.message}", hint="correct or remove the line") from None
    if host.is_address:
        raise StoplistError("is an IP address", hint="remove the line: addresses are shared, only names are listed")
    if "." not in host.name:
        raise StoplistError("is a single label", hint="write the domain as it is registered, such as 'listed.example'")
    if suffixes.is_public(host.name):
        raise StoplistError(
            "is a public suffix, under which anybody can register",
            hint="list the domains below it that were checked",
        )
    if any(not 0 < len(label) < 64 for label in host.name.split(".")) or len(host.name) > 253:
        raise StoplistError("is no domain: DNS cannot hold it", hint="correct or remove the line")
    return host.name


def _is_covered(name: str, names: set[str]) -> bool:
    dot = name.find(".")
    while dot >= 0:
        name = name[dot + 1 :]
        if name in names:
            return True
        dot = name.find(".")
    return False


def _signer(path: Path) -> Signer:
    def parse(pem: bytes) -> Signer:
        try:
            return CryptoSigner(load_pem_private_key(pem, None))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            hint = "use the private key that 'stoplist list keygen' wrote"
            if b"PUBLIC KEY" in pem:
                hint = "this is a public key: name the private one, without .pub"
            raise KeyFileError("not a private key in PEM (Ed25519, ECDSA or RSA)", hint=hint) from None

    return _read_key(path, parse)


def public_pem(signer: CryptoSigner) -> bytes:
    private = load_pem_private_key(signer.private_bytes, None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read_key[T](path: Path, parse: Callable[[bytes], T]) -> T:
    data = files.read(path, MAX_KEY_SIZE)
    return _at(path, lambda: parse(data))


def _at[T](path: Path, step: Callable[[], T]) -> T:
    """Do a step; an error without a place gets that of the file."""
    try:
        return step()
    except StoplistError as error:
        raise error.at(str(path)) from None
