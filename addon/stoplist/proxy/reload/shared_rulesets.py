"""Shared rulesets: one ruleset in the memory of several processes.

The digests of the lists take most of a gate's memory, and never change. So the supervisor puts them into memory that
has a file descriptor and no name, and its workers map that memory. However many workers there are, the digests are in
memory once.

Rules
  - Shared memory is read-only: no process can change a list by which others judge.
  - A file descriptor lives as long as its list. Nothing is on disk.
  - A worker takes rulesets from the supervisor of its own gate only.
"""

from __future__ import annotations

import dataclasses
import fcntl
import mmap
import os
import pickle
import weakref
from collections.abc import Mapping, Sequence

from stoplist.core.counts import Cell
from stoplist.core.decide import Ruleset
from stoplist.core.lists.digests import DigestSet, Payload
from stoplist.core.lists.list_header import ListHeader
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.policy.models import Policy
from stoplist.page.answers import StopPage

_PIECE = 1024 * 1024


class SharedDigests(DigestSet):
    """A DigestSet in memory that can be passed on: `files` are the file descriptors of its payload and its index."""

    __slots__ = ("__weakref__", "files")

    def __init__(self, list_key: bytes, offset: int, files: Sequence[int]) -> None:
        self.files = tuple(files)
        for file in self.files:
            weakref.finalize(self, os.close, file)
        payload, index = (_map(file) for file in self.files)
        super().__init__(list_key, payload, offset, memoryview(index).cast("I"))


def share(ruleset: Ruleset) -> Ruleset:
    """The same ruleset, with its lists in memory that can be passed on."""
    lists = [dataclasses.replace(signed, digests=_share(signed.digests)) for signed in ruleset.lists]
    return Ruleset.of(ruleset.policy, lists)


def pack(ruleset: Ruleset, page: StopPage, layout: Mapping[Cell, int]) -> list[int]:
    """File descriptors that hold a shared ruleset, its stop page, and the places of its cells in the counters.

    The caller closes the first one after sending it. The ruleset owns the others.
    """
    lists, files = [], list[int]()
    for signed in ruleset.lists:
        assert isinstance(signed.digests, SharedDigests)
        files += signed.digests.files
        lists.append(
            (
                signed.header.to_line(),
                signed.signers,
                signed.payload_digest,
                signed.digests.list_key,
                signed.digests.offset,
            )
        )
    return [_file(pickle.dumps((ruleset.policy, page, lists, dict(layout)))), *files]


def unpack(files: Sequence[int]) -> tuple[Ruleset, StopPage, Mapping[Cell, int]]:
    """The values that `pack` packed. The ruleset owns its file descriptors from then on."""
    policy: Policy
    page: StopPage
    layout: Mapping[Cell, int]
    with os.fdopen(files[0], "rb") as description:
        description.seek(0)
        policy, page, described, layout = pickle.load(description)  # noqa: S301  from the supervisor, which started this process
    lists = []
    for number, (line, signers, payload_digest, list_key, offset) in enumerate(described):
        digests = SharedDigests(list_key, offset, files[1 + 2 * number : 3 + 2 * number])
        lists.append(SignedList(ListHeader.parse(line.rstrip(b"\n")), digests, signers, payload_digest))
    return Ruleset.of(policy, lists), page, layout


def _share(digests: DigestSet) -> SharedDigests:
    if isinstance(digests, SharedDigests):
        return digests
    files = [_file(digests.payload), _file(digests.index.cast("B"))]
    return SharedDigests(digests.list_key, digests.offset, files)


def _file(data: Payload | memoryview) -> int:
    """The file descriptor of memory that holds `data`, and that cannot be changed."""
    file = os.memfd_create("stoplist", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest[:_PIECE]) :]
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return file


def _map(file: int) -> mmap.mmap:
    return mmap.mmap(file, os.fstat(file).st_size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
