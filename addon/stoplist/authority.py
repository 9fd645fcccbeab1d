"""Authority: the place of a gate's CA, how the gate makes it, and how the next CA takes its place.

The state directory holds these files, unless the policy names the operator's own CA (`ca`):
  - ``ca.pem``: key and certificate of the CA in force, mode 0600; ``ca-cert.pem``: the certificate alone
  - ``ca-next.pem``, ``ca-next-cert.pem``: the same for the next CA, while the operator rolls it out

Rules
  - A gate makes its CA once. Only `switch` replaces a CA in force, by one rename.
  - The module refuses a key that others can read.
  - If the policy needs no CA, the module makes none and reads none.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from stoplist import certificates, files
from stoplist.certificates import CertificateAuthority
from stoplist.core.policy.models import Policy
from stoplist.core.times import format_time
from stoplist.errors import StoplistError

CA_FILE = "ca.pem"
CA_CERTIFICATE_FILE = "ca-cert.pem"
NEXT_FILE = "ca-next.pem"
NEXT_CERTIFICATE_FILE = "ca-next-cert.pem"
WARN_BEFORE = timedelta(days=60)
"""How long before the end of a CA a person should see to the next one."""

_MAX_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """The place of a CA: files of the operator, or else the state directory."""

    state_dir: Path
    certificate: Path
    key: Path
    is_own: bool
    """Whether the CA is the gate's own, not the operator's."""

    @classmethod
    def of(cls, policy: Policy, path: Path, state_dir: Path) -> Source | None:
        """The source that the policy in the file `path` names; None if the policy needs no CA."""
        if policy.https == "refuse" and policy.tls == "passthrough":
            return None
        if policy.ca is None:
            return cls(state_dir, state_dir / CA_FILE, state_dir / CA_FILE, is_own=True)
        folder = path.absolute().parent
        return cls(state_dir, folder / policy.ca.cert, folder / policy.ca.key, is_own=False)

    @property
    def next_key(self) -> Path:
        return self.state_dir / NEXT_FILE

    def exists(self) -> bool:
        """Whether there is a CA; if not, the gate has to make it."""
        return not self.is_own or self.key.exists()

    @property
    def shown(self) -> Path:
        """Path of the certificate without its key."""
        return self.state_dir / CA_CERTIFICATE_FILE if self.is_own else self.certificate

    def read(self) -> CertificateAuthority:
        """The CA, even if it has ended. Raises StoplistError if there is none that clients would accept."""
        return _read(self.certificate, self.key, is_own=self.is_own)

    def open(self, now: datetime) -> CertificateAuthority:
        """The CA. Raises StoplistError if there is none, or none that clients would accept now."""
        opened = self.read()
        if opened.ends <= now:
            hint = (
                "make the next CA with 'stoplist ca POLICY --renew', roll it out, then '--switch'"
                if self.is_own
                else "have your CA issue a new certificate"
            )
            raise StoplistError(f"the CA ended on {format_time(opened.ends)}", hint=hint, place=str(self.certificate))
        if self.is_own:
            with contextlib.suppress(StoplistError):  # the gate can serve even if it cannot write the folder
                _show(self.state_dir / CA_CERTIFICATE_FILE, opened)
        return opened

    def open_or_make(self, now: datetime) -> CertificateAuthority:
        """The CA; if the gate's own is missing, make it first. Raises StoplistError."""
        self.make_missing(now)
        return self.open(now)

    def make_missing(self, now: datetime) -> None:
        """Make the gate's own CA if there is none. Raises StoplistError."""
        if not self.exists():
            files.make_folder(self.state_dir, files.PRIVATE_FOLDER)
            _make(self.key, now)
            _show(self.shown, self.read())

    def following(self) -> CertificateAuthority | None:
        """The next CA, if one waits to come into force. Raises StoplistError."""
        return _read(self.next_key, self.next_key, is_own=True) if self.is_own and self.next_key.exists() else None

    def digests(self) -> dict[Path, bytes | None]:
        """A digest of each file's contents; two results are equal if nothing has changed."""
        reader = files.Reader()
        for path in (self.certificate, self.key):
            with contextlib.suppress(StoplistError):
                reader.read(path, _MAX_SIZE)
        return reader.seen

    def renew(self, now: datetime) -> CertificateAuthority:
        """Make the next CA beside the one in force. Raises StoplistError."""
        self._must_be_own()
        if not self.exists():
            raise StoplistError("there is no CA yet", hint="make it: stoplist ca POLICY --create", place=str(self.key))
        if self.next_key.exists():
            raise StoplistError(
                "there is a next CA already",
                hint="roll it out, then 'stoplist ca POLICY --switch'; or remove this file for another one",
                place=str(self.next_key),
            )
        _make(self.next_key, now, before=_read(self.key, self.key, is_own=True))
        following = _read(self.next_key, self.next_key, is_own=True)
        _show(self.state_dir / NEXT_CERTIFICATE_FILE, following)
        return following

    def switch(self, now: datetime) -> CertificateAuthority:
        """Put the next CA in force. Raises StoplistError if there is none, or none that the gate can use."""
        self._must_be_own()
        if not self.next_key.exists():
            raise StoplistError(
                "there is no next CA",
                hint="make it, and roll it out: stoplist ca POLICY --renew",
                place=str(self.next_key),
            )
        if _read(self.next_key, self.next_key, is_own=True).ends <= now:
            raise StoplistError(
                "the next CA has ended", hint="remove it, and make another one", place=str(self.next_key)
            )
        files.move(self.next_key, self.key)
        (self.state_dir / NEXT_CERTIFICATE_FILE).unlink(missing_ok=True)
        return self.open(now)

    def _must_be_own(self) -> None:
        if not self.is_own:
            raise StoplistError(
                "this CA is your own, not one that the gate made",
                hint="replace its files, the key first; the gate loads them",
                place=str(self.certificate),
            )


def needs(
    authority: CertificateAuthority, following: CertificateAuthority | None, *, is_own: bool, now: datetime
) -> list[str]:
    """The matters of a CA that need a person, in words; empty if there are none."""
    if authority.certificate.not_valid_before_utc > now:
        begins = format_time(authority.certificate.not_valid_before_utc)
        return [f"the CA is not valid before {begins}: check the clock; if the clock is right, make a new CA"]
    left = authority.ends - now
    if left >= WARN_BEFORE:
        return []
    days = f"{left.days} day{'' if left.days == 1 else 's'}"
    end = f"ends on {format_time(authority.ends)}, in {days}" if left > timedelta() else "has ended"
    if following is not None:
        act = "roll the next one out, then 'stoplist ca POLICY --switch'"
    elif is_own:
        act = "make the next one with 'stoplist ca POLICY --renew'"
    else:
        act = "have a new certificate issued, and replace its files"
    return [f"the CA {end}: {act}"]


def _read(certificate: Path, key: Path, *, is_own: bool) -> CertificateAuthority:
    if files.is_readable_by_others(key):
        raise StoplistError("others can read the CA's key", hint=f"chmod 600 {key}", place=str(key))
    data, private = files.read(certificate, _MAX_SIZE), files.read(key, _MAX_SIZE)
    try:
        return CertificateAuthority.parse(data, private, place=str(certificate), key_place=str(key))
    except StoplistError as error:
        if is_own:
            error.hint = "restore the file from a backup; if there is none, remove it: the gate makes a new CA, and "
            "clients must trust that one"
        raise


def _make(path: Path, now: datetime, before: CertificateAuthority | None = None) -> None:
    """Write a new CA to `path`, unless another process has already written one."""
    certificate, key = certificates.new(now, before.certificate if before else None)
    data = key + certificate.public_bytes(Encoding.PEM)
    try:
        files.write(path, data, mode=files.PRIVATE, replace=False)
    except StoplistError:
        if not path.exists():
            raise


def _show(path: Path, authority: CertificateAuthority) -> None:
    """Make sure that `path` holds the certificate alone, for the clients."""
    data = authority.certificate.public_bytes(Encoding.PEM)
    try:
        is_there = files.read(path, _MAX_SIZE) == data
    except StoplistError:
        is_there = False
    if not is_there:
        files.write(path, data, mode=files.PUBLIC, replace=True)
