"""Explain: the path of a decision, which this module notes while `decide` itself walks it.

Rules
  - No second judgement: `decide` gets a ruleset whose parts take notes, and each look at a part is a step.
  - When nobody asks for an explanation, it costs nothing: `decide` knows nothing of it.
  - Steps hold the names that were tried, for the person who asked; nobody logs them.
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
    """One look: the names that were looked at, in their order, and the one of them that was found.

    `list`, `serial` and `action` are those of the list. `expires`, in POSIX time, is that of the list, of an
    exception, or of the first list that refuses everything once it has expired. `ended` says whether it lies in the
    past.
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
    """A verdict, and the steps that led to it. The last step decided, unless none did."""

    verdict: Verdict
    steps: tuple[Step, ...]


def explain(ruleset: Ruleset, host: Host, now: float, *, observes: bool = False) -> Explanation:
    """The verdict of `decide` for one host at the POSIX time `now`, and the steps to it. `observes` says that the
    client is only observed."""
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
    """A mapping that reports each name that somebody looks up."""

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
    """Address rules that report each address that they judge."""

    steps: list[Step]

    def permit(self, address: Address) -> bool:
        permitted = AddressRules.permit(self, address)
        self.steps.append(Step(Rule.ADDRESS, (str(address),), None if permitted else str(address)))
        return permitted


class _Digests(DigestSet):
    """A list's digests that report each name that they digest, and whether the last one was found."""

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
    """A keyed hash that notes its input."""

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
