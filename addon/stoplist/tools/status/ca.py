"""The gate's CA, for the person who looks after it: its identity, the certificates that clients must trust, and how
the next one takes its place.

Rules
  - The module shows and exports certificates only: no private key leaves its file.
  - Looking changes nothing. Only `create` makes a CA, so that the operator can roll it out before the gate runs. A CA
    that a person made by mistake, in another place than the gate's, would be trusted by all clients for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from stoplist import authority, loading
from stoplist.authority import Source
from stoplist.certificates import is_root
from stoplist.errors import StoplistError
from stoplist.tools.status import ca_formats

type Which = Literal["current", "next"]


@dataclass(frozen=True, slots=True)
class Overview:
    """The facts about a CA. `file` is the file of its certificate; `following` is the next one, if there is one.

    `trusted` are the certificates that clients must trust: the current root, or the operator's if `file` holds it,
    and the next one.
    """

    file: Path
    certificate: x509.Certificate
    ends: datetime
    following: x509.Certificate | None
    trusted: tuple[x509.Certificate, ...]
    needs: tuple[str, ...]


def show(policy: Path, state_dir: Path, now: datetime) -> Overview | None:
    """The CA of a policy; None if the policy needs none. Raises StoplistError if there is none yet."""
    source = _source(policy, state_dir)
    if source is None:
        return None
    if not source.exists():
        raise StoplistError(
            "no CA is here",
            hint="name the state directory of the gate, with --state-dir or as 'state_dir' in the policy; "
            "for a gate that has not run yet: stoplist ca POLICY --create",
            place=str(source.key),
        )
    return _overview(source, now)


def create(policy: Path, state_dir: Path, now: datetime) -> Overview:
    """Make the CA of a gate that has not run yet. Raises StoplistError."""
    source = _needed(policy, state_dir)
    if source.exists():
        raise StoplistError(
            "there is a CA already",
            hint="show it: stoplist ca POLICY; make its successor: stoplist ca POLICY --renew",
            place=str(source.certificate),
        )
    source.make_missing(now)
    return _overview(source, now)


def status(policy: Path, state_dir: Path, now: datetime) -> Overview | None:
    """The CA of a policy; None if the policy needs none, or if there is none yet. Raises StoplistError."""
    source = _source(policy, state_dir)
    return _overview(source, now) if source is not None and source.exists() else None


def renew(policy: Path, state_dir: Path, now: datetime) -> Overview:
    """Make the next CA beside the one in force. Raises StoplistError."""
    source = _needed(policy, state_dir)
    source.renew(now)
    return _overview(source, now)


def switch(policy: Path, state_dir: Path, now: datetime) -> Overview:
    """Put the next CA in force. Raises StoplistError."""
    source = _needed(policy, state_dir)
    source.switch(now)
    return _overview(source, now)


def export(policy: Path, state_dir: Path, wanted: str, which: Which | None, now: datetime) -> bytes:
    """The certificates that clients must trust, in one of ca_formats.FORMATS: all of them, or `which`. Raises
    StoplistError."""
    found = show(policy, state_dir, now)
    if found is None:
        raise _no_ca(policy)
    certificates = found.trusted
    if which == "next" and found.following is None:
        raise StoplistError("there is no next CA", hint="make it: stoplist ca POLICY --renew", place=str(found.file))
    if which is not None and found.following is not None:
        certificates = (found.following,) if which == "next" else certificates[:-1]
    if not certificates:
        raise StoplistError(
            f"the root above it is not in this file: {found.certificate.issuer.rfc4514_string()}",
            hint="roll that root out; or add it at the end of the file, to export it from here",
            place=str(found.file),
        )
    if wanted == "der" and len(certificates) > 1:
        raise StoplistError(
            "DER holds one certificate, and there are the current CA and the next one",
            hint="choose: --which current, or --which next",
            place=str(found.file),
        )
    return ca_formats.FORMATS[wanted](certificates)


def _overview(source: Source, now: datetime) -> Overview:
    current, following = source.read(), source.following()
    roots = [each for each in current.certificates if is_root(each)]
    if following is not None:
        roots.append(following.certificate)
    return Overview(
        source.shown,
        current.certificate,
        current.ends,
        following.certificate if following is not None else None,
        tuple(roots),
        tuple(authority.needs(current, following, is_own=source.is_own, now=now)),
    )


def _source(policy: Path, state_dir: Path) -> Source | None:
    return Source.of(loading.read_policy(policy).policy, policy, state_dir)


def _needed(policy: Path, state_dir: Path) -> Source:
    source = _source(policy, state_dir)
    if source is None:
        raise _no_ca(policy)
    return source


def _no_ca(policy: Path) -> StoplistError:
    return StoplistError(
        "no CA is used: 'https: refuse'", hint="write 'https: page' to show pages over HTTPS", place=str(policy)
    )
