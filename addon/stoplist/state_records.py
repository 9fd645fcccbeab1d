"""State records: what a state tells about lists, and the rows of its journal."""

from __future__ import annotations

from dataclasses import dataclass

from stoplist.core.lists.list_header import ListHeader
from stoplist.core.lists.signed_list import Seen

EXCEPTIONS = EXCEPTED, WITHDRAWN = "excepted", "withdrawn"
"""Results in the journal that are about exceptions of a policy."""
CHANGED = "changed"
"""The result in the journal that is about the keys of a policy."""
OF_POLICIES = (*EXCEPTIONS, CHANGED)
JOURNAL_ROWS = 10_000
"""How many rows the journal keeps; it drops the oldest first."""


@dataclass(frozen=True, slots=True)
class RememberedList:
    """The list that is in force for a list file."""

    header: ListHeader
    signers: tuple[str, ...]
    since: str
    payload_digest: bytes

    @property
    def seen(self) -> Seen:
        return Seen(self.header.list, self.header.serial, self.payload_digest)


@dataclass(frozen=True, slots=True)
class Held:
    """A list that waits for a person's release."""

    file: str
    list: str
    serial: int
    payload_digest: bytes
    why: str
    since: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal. `result` is activated, refused, held or released for a list file. It is excepted or
    withdrawn, with no list, for an exception of a policy, and changed for the policy itself. `why` holds no value of
    a policy except the reasons of exceptions."""

    time: str
    file: str
    result: str
    list: str | None
    serial: int | None
    why: str
    signers: tuple[str, ...]
