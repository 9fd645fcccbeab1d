"""Explain: the path of a decision, noted while `decide` itself walks it.

Rules
  - No twin of the judgement: `decide` is given a ruleset whose parts take notes, and whatever it looks at is a step.
  - Off, it costs nothing: `decide` knows nothing of it.
  - Steps hold the names that were tried, for who asked; they are never logged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from stoplist.core.addresses import Address, AddressRules
from stoplist.core.decide import Action, Reason, Ruleset, Verdict, decide
from stoplist.core.hosts import Host
from stoplist.core.lists.digests import DigestSet
from stoplist.core.lists.signed_list import SignedList


class Rule(StrEnum):
    CHECK_HOST = "check host"
    EXPIRY = "expiry"
    ADDRESS = "address"
    LIST = "list"
    EXCEPTION = "exception"


@dataclass(frozen=True, slots=True)
class Step:
    """One look: at which names, in their order, and which of them was found.

    `list`, `serial`, `action` and `expires` are those of the list, `expires` also that of an exception, or of the
    first list that refuses everything once it has expired, in POSIX time. `ended`: it lies in the past.
    """

    rule: Rule
    tried: tuple[str, ...] = ()
    found: str | None = None
    list: str | None = None
    serial: int | None = None
    action: Action | None = None
    expires: float | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict, and the steps that led to it; the last one decided, unless none did."""

    verdict: Verdict
    steps: tuple[Step, ...]


def explain(ruleset: Ruleset, host: Host, now: float, *, observes: bool = False) -> Explanation:
    """What `decide` says of one host at the POSIX time `now`, and how it came to that; `observes` says that the client
    is only observed."""
    steps: list[Step] = []
    entries = [
        (
            dataclasses.replace(signed, digests=_Digests(signed.digests, _note_list(steps, signed, verdict, now))),
            verdict,
        )
        for signed, verdict in (ruleset.observed if observes else ruleset.entries)
    ]
    noting = dataclasses.replace(
        ruleset,
        entries=tuple(entries),
        observed=tuple(entries),
        check_hosts=_Names(ruleset.check_hosts, _note_check_hosts(steps)),
        exceptions=_Names(ruleset.exceptions, _note_exceptions(steps, now)),
        addresses=_Addresses(ruleset.addresses.networks, steps),
    )
    verdict = decide(noting, host, now, observes=observes)
    if not math.isinf(ruleset.refuse_from) and verdict.reason is not Reason.CHECK_HOST:
        steps.insert(1, Step(Rule.EXPIRY, expires=ruleset.refuse_from, ended=verdict.reason is Reason.EXPIRED))
    return Explanation(verdict, tuple(steps))


def _note_check_hosts(steps: list[Step]) -> Callable[[str, Any], None]:
    def note(name: str, verdict: Verdict | None) -> None:
        step = Step(Rule.CHECK_HOST, (name,))
        if verdict is not None:
            step = dataclasses.replace(
                step, found=name, list=verdict.list, serial=verdict.serial, action=verdict.action
            )
        steps.append(step)

    return note


def _note_exceptions(steps: list[Step], now: float) -> Callable[[str, Any], None]:
    def note(name: str, ends: float | None) -> None:
        before = steps.pop() if steps[-1].rule is Rule.EXCEPTION else Step(Rule.EXCEPTION)
        step = dataclasses.replace(before, tried=(*before.tried, name))
        if ends is not None:
            step = dataclasses.replace(step, found=name, expires=ends, ended=ends <= now)
        steps.append(step)

    return note


def _note_list(
    steps: list[Step], signed: SignedList, verdict: Verdict, now: float
) -> Callable[[list[str], bool], None]:
    expires = signed.header.expires.timestamp()

    def note(tried: list[str], found: bool) -> None:
        name = tried[-1] if found else None
        action = verdict.action
        steps.append(
            Step(Rule.LIST, tuple(tried), name, verdict.list, verdict.serial, action, expires, ended=expires <= now)
        )

    return note


class _Names[T](Mapping[str, T]):
    """A mapping that tells of each name that is asked for."""

    def __init__(self, names: Mapping[str, T], note: Callable[[str, T | None], None]) -> None:
        self._names = names
        self._note = note

    def __getitem__(self, name: str) -> T:
        self._note(name, self._names.get(name))
        return self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True)
class _Addresses(AddressRules):
    """Rules for addresses that tell of each address that is judged."""

    steps: list[Step]

    def permit(self, address: Address) -> bool:
        permitted = AddressRules.permit(self, address)
        self.steps.append(Step(Rule.ADDRESS, (str(address),), None if permitted else str(address)))
        return permitted


class _Digests(DigestSet):
    """A list's digests that tell of each name that is digested, and whether the last one was found."""

    __slots__ = ("_note",)

    def __init__(self, digests: DigestSet, note: Callable[[list[str], bool], None]) -> None:
        super().__init__(digests.list_key, digests.payload, digests.offset, digests.index)
        self._note = note

    def longest_suffix(self, host: Host) -> int:
        tried: list[str] = []
        plain, self._hasher = self._hasher, cast("Any", _Hasher(self._hasher, tried))
        labels = DigestSet.longest_suffix(self, host)
        self._hasher = plain
        self._note(tried, labels > 0)
        return labels


class _Hasher:
    """A keyed hash that writes down what it is fed."""

    def __init__(self, hasher: Any, tried: list[str]) -> None:
        self._hasher = hasher
        self._tried = tried

    def copy(self) -> _Hasher:
        return _Hasher(self._hasher.copy(), self._tried)

    def update(self, name: bytes) -> None:
        self._tried.append(name.decode("ascii"))
        self._hasher.update(name)

    def digest(self) -> bytes:
        return cast("bytes", self._hasher.digest())
