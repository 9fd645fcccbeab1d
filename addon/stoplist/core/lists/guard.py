"""The guard: it decides whether a person must look at a verified list before it replaces the old one.

Filters in this field have blocked thousands of sites by one wrong file, properly delivered. The guard holds a list
if it changes more than the policy allows, or if it lists a name that the policy never expects on it. A held list is
not refused: a person who has looked at it releases it.

Rules
  - The guard never holds a change of up to `ALLOWANCE` domains: percentages of small lists mean nothing.
  - It counts added and removed domains separately. A list of the same size with other domains is a change of both.
    After a change of list key it can compare only the sizes.
  - The gate stops a check host whatever the digests say. So the guard holds a list with another check host than
    before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stoplist.core.hosts import Host
from stoplist.core.lists.digests import common, high_halves
from stoplist.core.lists.envelope import Envelope
from stoplist.core.lists.list_header import ListError, ListFault, ListHeader
from stoplist.core.lists.signed_list import SignedList

if TYPE_CHECKING:  # a publisher compares lists without a policy
    from stoplist.core.policy.models import GuardPolicy

ALLOWANCE = 10
"""How many domains may be added, and how many removed, whatever the size of the list."""


@dataclass(frozen=True, slots=True)
class DomainChanges:
    """How a list differs from the one before it, in domains.

    Without `same_key` only the sizes were compared; `added` and `removed` are then the least that they can be.
    """

    before: int
    after: int
    added: int
    removed: int
    same_key: bool

    @classmethod
    def between(cls, old: SignedList, new: SignedList) -> DomainChanges:
        return cls._between(old.header, old.digests.high_halves(), new.header, new.digests.high_halves())

    @classmethod
    def between_unverified(cls, old: Envelope, new: Envelope) -> DomainChanges:
        """The difference between two list files that nobody has verified. Raises ListError if one is no list."""
        return cls._between(old.header, high_halves(old.digests), new.header, high_halves(new.digests))

    @classmethod
    def _between(
        cls, old: ListHeader, old_halves: NDArray[np.uint64], new: ListHeader, new_halves: NDArray[np.uint64]
    ) -> DomainChanges:
        before, after = len(old_halves), len(new_halves)
        if old.key_id != new.key_id:
            return cls(before, after, max(0, after - before), max(0, before - after), same_key=False)
        both = common(old_halves, new_halves)
        return cls(before, after, after - both, before - both, same_key=True)


class HeldListError(ListError):
    """A list that verified, `signed`, and that waits for a person's release."""

    def __init__(self, signed: SignedList, message: str) -> None:
        self.signed = signed
        serial = signed.header.serial
        super().__init__(
            ListFault.GUARD,
            f"serial {serial} is held: {message}",
            hint=f"look at it with its publisher, then: stoplist list release POLICY --serial {serial}",
        )


def check(
    new: SignedList, old: SignedList | None, guard: GuardPolicy, never_block: Iterable[Host]
) -> DomainChanges | None:
    """Let a verified list pass and return how it differs from `old`, or raise HeldListError. `old` is the list in
    force, None if there is none."""
    check_host = new.header.check_host
    unexpected = sum(1 for host in never_block if host.name == check_host or new.digests.longest_suffix(host))
    if unexpected:
        raise HeldListError(new, f"it lists {unexpected} of the names in 'never_block'")
    if old is None:
        return None
    if check_host != old.header.check_host:
        raise HeldListError(new, "its check host has changed; self-tests must use the new one")
    change = DomainChanges.between(old, new)
    if _is_beyond(change.added, change.before, guard.grow):
        raise HeldListError(new, f"it adds {change.added} domains to {change.before}, more than {guard.grow}%")
    if _is_beyond(change.removed, change.before, guard.shrink):
        raise HeldListError(new, f"it removes {change.removed} domains of {change.before}, more than {guard.shrink}%")
    return change


def _is_beyond(changed: int, before: int, percent: int) -> bool:
    return changed > ALLOWANCE and 100 * changed > percent * before
