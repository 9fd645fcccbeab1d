"""Difference: what a policy would change if it took the place of the one in force.

Rules
  - The module loads both policies whole, with their lists; it does not ask the gate.
  - Defaults are values: it is no change to write out a key with the value that it had anyway.
  - Of lists, the result holds only numbers. Of names, it holds only those that one of the two policies names itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stoplist import loading
from stoplist.core.decide import Ruleset, Verdict, decide
from stoplist.core.hosts import Host
from stoplist.core.lists.guard import DomainChanges
from stoplist.core.lists.list_header import ListHeader
from stoplist.core.policy.models import ExceptionPolicy, HelpLine, ListKeySource, ListPolicy, Policy, TestPolicy
from stoplist.core.policy.text import is_file
from stoplist.core.policy.values import SpokenText


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A value of the policy by its key, before and after; None if there is none."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ListChange:
    """Two lists of one name, and how they differ in domains."""

    before: ListHeader
    after: ListHeader
    change: DomainChanges


@dataclass(frozen=True, slots=True)
class VerdictChange:
    host: str
    before: Verdict
    after: Verdict


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences. `running` is the file of the policy in force."""

    running: Path
    values: tuple[ValueChange, ...]
    lists: tuple[ListChange, ...]
    verdicts: tuple[VerdictChange, ...]

    def __bool__(self) -> bool:
        return bool(self.values or self.lists or self.verdicts)


def between(running: Path, policy: Path, ruleset: Ruleset, now: datetime) -> Difference:
    """The difference between the policy in the file `running` and the `ruleset` of the one in `policy`. Raises
    Problems if the former does not load."""
    before = loading.load(running, now=now).ruleset
    values = [
        dict(_Flat(file.parent, running.parent, tuple(signed.header.list for signed in each.lists)).values(each.policy))
        for each, file in ((before, running), (ruleset, policy))
    ]
    return Difference(
        running,
        tuple(_changed(*values)),
        tuple(_lists(before, ruleset)),
        tuple(_verdicts(before, ruleset, now.timestamp())),
    )


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[ValueChange]:
    for key in {**after, **before}:
        if before.get(key) != after.get(key):
            yield ValueChange(key, before.get(key), after.get(key))


def _lists(before: Ruleset, after: Ruleset) -> Iterator[ListChange]:
    old = {signed.header.list: signed for signed in before.lists}
    for signed in after.lists:
        was = old.get(signed.header.list)
        if was is not None and was.payload_digest != signed.payload_digest:
            yield ListChange(was.header, signed.header, DomainChanges.between(was, signed))


def _verdicts(before: Ruleset, after: Ruleset, now: float) -> Iterator[VerdictChange]:
    named: dict[str, Host] = {}
    for policy in (before.policy, after.policy):
        named |= {host.name: host for host in _hosts(policy)}
    for name, host in named.items():
        was, becomes = decide(before, host, now), decide(after, host, now)
        if (was.action, was.reason) != (becomes.action, becomes.reason):
            yield VerdictChange(name, was, becomes)


def _hosts(policy: Policy) -> Iterator[Host]:
    yield from policy.never_block
    yield from (exception.domain for exception in policy.exceptions)
    yield from (test.host for test in policy.tests)


@dataclass(frozen=True, slots=True)
class _Flat:
    """A policy as keys and texts, in the form in which two policies can be compared.

    A file that a policy in `folder` names is written as seen from `base`. A list is written by its name in `lists`.
    """

    folder: Path
    base: Path
    lists: tuple[str, ...]

    def values(self, section: BaseModel, path: str = "") -> Iterator[tuple[str, str]]:
        for name, field in type(section).model_fields.items():
            yield from self._value(getattr(section, name), field, f"{path}.{name}" if path else name)

    def _value(self, value: Any, field: FieldInfo, key: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, BaseModel):
            yield from self.values(value, key)
        elif isinstance(value, SpokenText):
            for language, text in value.texts:
                yield (f"{key}.{language}" if language else key), text
        elif isinstance(value, tuple):
            seen: dict[str, int] = {}
            for position, item in enumerate(value):
                name = self._name(item, position, field)
                seen[name] = again = seen.get(name, 0) + 1
                yield from self._value(item, field, f"{key}[{name}]" if again == 1 else f"{key}[{name} #{again}]")
        elif value is not None:
            yield key, self._text(value, field)

    def _name(self, item: Any, position: int, field: FieldInfo) -> str:
        """The name by which an item of a list is the same as an item of the other policy."""
        match item:
            case ListPolicy():
                return self.lists[position]
            case ExceptionPolicy(domain=Host(name=name)) | TestPolicy(host=Host(name=name)) | HelpLine(name=name):
                return name
            case ListKeySource(file=None, env=name):
                return str(name)
            case ListKeySource(file=str(name)):
                return self._seen(name)
        return self._text(item, field)

    def _seen(self, name: str) -> str:
        return os.path.relpath(self.folder / name, self.base)

    def _text(self, value: Any, field: FieldInfo) -> str:
        if isinstance(value, Host):
            return value.name
        if isinstance(value, str) and is_file(field):
            return self._seen(value)
        # Write a number of percent or seconds in the form of its example.
        unit = (
            re.fullmatch("[0-9]+(%|s)", str(field.examples[0])) if isinstance(value, int) and field.examples else None
        )
        return f"{value}{unit[1] if unit else ''}"


def as_lines(difference: Difference) -> list[str]:
    """The lines for people."""
    if not difference:
        return [f"against {difference.running}: nothing changes"]
    lines = [f"against {difference.running}:"]
    for value in difference.values:
        if value.before is None:
            lines.append(f"  + {_short(value.key, value.after)}")
        elif value.after is None:
            lines.append(f"  - {_short(value.key, value.before)}")
        else:
            lines.append(f"  {value.key}: {value.before} -> {value.after}")
    for each in difference.lists:
        before, after, change = each.before, each.after, each.change
        counts = f"{change.added} added, {change.removed} removed" if change.same_key else "under another list key"
        lines.append(
            f"  list {after.list}: serial {before.serial} -> {after.serial}, "
            f"{change.before} -> {change.after} domains, {counts}"
        )
    return lines + [f"  {each.host}: {_said(each.before)} -> {_said(each.after)}" for each in difference.verdicts]


def _short(key: str, value: str | None) -> str:
    """A value with its key; if an item of a list is its own name, the item once."""
    return f"{key.removesuffix(f'[{value}]')}: {value}"


def as_fields(difference: Difference) -> dict[str, Any]:
    """The fields for scripts."""
    return {
        "running": str(difference.running),
        "values": [{"key": each.key, "before": each.before, "after": each.after} for each in difference.values],
        "lists": [
            {
                "list": each.after.list,
                "serial": [each.before.serial, each.after.serial],
                "domains": [each.change.before, each.change.after],
                "added": each.change.added if each.change.same_key else None,
                "removed": each.change.removed if each.change.same_key else None,
            }
            for each in difference.lists
        ],
        "verdicts": [
            {
                "host": each.host,
                "before": {"action": each.before.action, "reason": each.before.reason},
                "after": {"action": each.after.action, "reason": each.after.reason},
            }
            for each in difference.verdicts
        ],
    }


def _said(verdict: Verdict) -> str:
    return f"{verdict.action} ({verdict.reason})"
