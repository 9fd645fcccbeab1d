"""Distinct hosts: how many hosts a trial met that a list must never block, or that are known already."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stoplist import files
from stoplist.core.counts import Disclosure, Shown
from stoplist.core.hosts import Host, HostError
from stoplist.core.lists.digests import DigestSet, sorted_digests
from stoplist.errors import StoplistError

MAX_HOSTS = 250_000
"""Up to so many distinct hosts that would be stopped, the trial can tell them apart."""
_MAX_KNOWN_SIZE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """Distinct hosts that would be stopped or observed. Only the numbers of false positives are always exact.

    `is_all` is false if there were more hosts than the trial can tell apart. `known` is None if no known sites were
    given.
    """

    hosts: Shown
    never_block: int
    known: int | None
    is_all: bool


class DistinctHosts:
    """Distinct hosts, up to `most`, as digests under a random key that nobody is given: no host can be recovered
    from them."""

    def __init__(self, never_block: DigestSet, known: DigestSet | None, most: int = MAX_HOSTS) -> None:
        self._key = os.urandom(32)
        self._seen: set[bytes] = set()
        self._never_block = never_block
        self._known = known
        self._most = most
        self._is_all = True
        self._of_never_block = 0
        self._of_known = 0

    def add(self, host: Host) -> None:
        digest = sorted_digests(self._key, [host.name])
        if digest in self._seen:
            return
        if len(self._seen) >= self._most:
            self._is_all = False
            return
        self._seen.add(digest)
        self._of_never_block += covers(self._never_block, host)
        self._of_known += self._known is not None and covers(self._known, host)

    def found(self, disclosure: Disclosure | None) -> Found:
        number = len(self._seen)
        shown = disclosure.show([number]) if disclosure else Shown(number, is_complete=True)
        known = None if self._known is None else self._of_known
        return Found(shown, self._of_never_block, known, self._is_all)


def read_known(path: Path) -> Iterator[Host]:
    """Well-known sites from a file: one a line, where `#` begins a comment; or from the last column of CSV.

    Raises StoplistError.
    """
    for number, line in enumerate(io.BytesIO(files.read(path, _MAX_KNOWN_SIZE)), 1):
        text = line.partition(b"#")[0].rpartition(b",")[2].strip()
        if text:
            try:
                yield Host.parse(text)
            except HostError as error:
                hint = "write one host a line"
                raise StoplistError(f"no site: {error.message}", hint=hint, place=f"{path}:{number}") from None


def covers(domains: DigestSet, host: Host) -> bool:
    """Whether a host is one of the domains, or below one."""
    return domains.longest_suffix(host) > 0


def digests_of(hosts: Iterable[Host]) -> DigestSet:
    key = os.urandom(32)
    return DigestSet(key, sorted_digests(key, (host.name for host in hosts)))
