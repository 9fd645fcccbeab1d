"""PolicyText: a policy file read strictly from YAML, with the place of each value; or all of its faults.

Rules
  - One run finds every fault, each with its line, the value as it was written, and a remedy.
  - An unknown key is an error that suggests the right one. A duplicate key, a tab, an anchor and an alias are errors
    as well: a policy says each thing once and plainly.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import (
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from stoplist.core.policy.document import Document, Path, name
from stoplist.core.policy.document import PolicyError as PolicyError
from stoplist.core.policy.models import ListPolicy, Policy, Section
from stoplist.core.policy.values import FILE, FOLDER
from stoplist.errors import Place, Problems, StoplistError

MAX_POLICY_SIZE = 1024 * 1024
"""Largest policy file, in bytes."""


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy that was read, with the place of each of its values for later errors."""

    document: Document
    policy: Policy

    @classmethod
    def parse(cls, data: bytes, source: str) -> PolicyText:
        """Read the bytes of a policy file; `source` names it in errors. Raises Problems."""
        return cls.of(Document.read(data, source))

    @classmethod
    def of(cls, document: Document) -> PolicyText:
        """The policy in a document. Raises Unsound, or else Problems."""
        try:
            policy = Policy.model_validate(document.values)
        except ValidationError as error:
            details = error.errors()
            told = in_order([*document.problems, *_explain_all(document, details)], document.source)
            raise _unsound(document, told, details) from None
        if document.problems:
            raise Problems(in_order(document.problems, document.source))
        return cls(document, policy)

    def place(self, *path: str | int) -> Place:
        """The place of a value, or of the section nearest to it."""
        return self.document.place(path)


class Unsound(Problems):
    """Faults of a policy. `sound` is the policy without them, so that a check can still look at everything that it
    names. `left_out` are the keys for which `sound` has no value of its own."""

    def __init__(self, problems: list[StoplistError], sound: PolicyText, left_out: frozenset[str]) -> None:
        super().__init__(problems)
        self.sound = sound
        self.left_out = left_out


def in_order(problems: list[StoplistError], source: str) -> list[StoplistError]:
    """Sort problems by line; those of the file `source` come before those of the files that it includes."""

    def order(problem: StoplistError) -> tuple[bool, str, int, int]:
        where = problem.where or Place(source, 1)
        return where.source != source, where.source, where.line, where.column

    return sorted(problems, key=order)


def _unsound(document: Document, problems: list[StoplistError], details: list[ErrorDetails]) -> Unsound:
    locs = [loc for loc in (*(detail["loc"] for detail in details), *document.faulty) if loc]
    faulty = frozenset(str(loc[0]) for loc in locs)
    values = {
        key: TypeAdapter(field.rebuild_annotation()).validate_python(document.values[key])
        for key, field in Policy.model_fields.items()
        if key in document.values and key not in faulty
    }
    places = dict(document.places)
    if "lists" not in values:
        values["lists"] = ()
        for number in _sound_items(document, "lists", locs):
            for at, place in document.places.items():
                if at[:2] == ("lists", number):
                    places["lists", len(values["lists"]), *at[2:]] = place
            values["lists"] += (ListPolicy.model_validate(document.values["lists"][number]),)
    sound = PolicyText(dataclasses.replace(document, places=places), Policy.model_construct(**values))
    return Unsound(problems, sound, faulty)


def _sound_items(document: Document, key: str, locs: list[Path]) -> list[int]:
    """The positions of a list's items that have no fault; empty if the list itself has one."""
    items, faulty = document.values.get(key), {loc[1:2] for loc in locs if loc[0] == key}
    if not isinstance(items, list) or () in faulty:
        return []
    return [position for position in range(len(items)) if (position,) not in faulty]


def _explain_all(document: Document, details: list[ErrorDetails]) -> list[StoplistError]:
    """Turn pydantic's errors into ours. A section that is empty only because all of it was faulty is no fault of its
    own."""
    locs = [detail["loc"] for detail in details]
    found = [(_as_written(document, detail["loc"]), detail) for detail in details]
    return [
        _explain(document, path, detail)
        for path, detail in found
        if not any(path[: len(faulty)] == faulty for faulty in document.faulty)
        and not any(len(loc) > len(detail["loc"]) and loc[: len(detail["loc"])] == detail["loc"] for loc in locs)
    ]


def _as_written(document: Document, loc: Path) -> Path:
    """The path of a value in the document. It leaves out the position that pydantic adds if one value
    stands for several."""
    path: Path = ()
    for step in loc:
        if (isinstance(step, str) and step) or (*path, step) in document.places:
            path = (*path, step)
    return path


def _explain(document: Document, path: Path, detail: ErrorDetails) -> PolicyError:
    kind = detail["type"]
    place = document.place((*path, _ABOUT[kind]) if kind in _ABOUT else path)
    section, found = _field(path)
    if kind == "extra_forbidden":
        known = list(section.model_fields) if section else []
        close, home = difflib.get_close_matches(str(path[-1]), known, 1), _home(str(path[-1]), Policy, ())
        if home is not None and () in (home, path[:-1]):
            hint = f"it belongs under '{name(home)}'" if home else "it belongs at the beginning of a line"
        else:
            hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        where = document.keys.get(path, place)
        return PolicyError(f"unknown key '{path[-1]}'", hint=hint, place=where, kind="unknown-key")
    given = detail.get("ctx", {})
    hint = given.get("hint") or _HINTS.get(kind, "")
    if not hint and found is not None:
        key = next(step for step in reversed(path) if isinstance(step, str))
        written = document.written.get(path, "")
        if kind == "string_type" and written:
            hint = f"put quotes around it: '{written}'"
        elif kind == "tuple_type" and written:
            hint = f"put it in brackets: '{key}: [{written}]'"
        else:
            hint = f"write, for example, '{key}: {found.examples[0]}'"
    if kind == "missing":
        return PolicyError(f"the key '{name(path)}' is missing", hint=hint, place=place, kind="missing-key")
    message = _MESSAGES[kind].format(**given) if kind in _MESSAGES else detail["msg"].removeprefix("Input ")
    shown = f" '{document.written[path]}'" if path in document.written else ""
    return PolicyError(f"{name(path)}:{shown} {message}", hint=hint, place=place, kind="value")


_MESSAGES = {
    "literal_error": "is not one of {expected}",
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "tuple_type": "is not a list",
    "model_type": "is not a set of keys and values",
    "int_type": "is not a whole number",
    "bool_type": "is neither true nor false",
    "string_type": "is not a text",
    "too_short": "is empty",
}
_ABOUT = {"threshold": "threshold", "help": "help", "legal": "status"}
"""For some sections, the key that a fault of the section is about."""
_HINTS = {
    "one_source": "write 'key: {file: worst-of.listkey}' or 'key: {env: STOPLIST_KEY}'",
    "one_directory": "write 'proxy_auth: {htpasswd: users.htpasswd}'",
    "threshold": "name more trusted keys, or ask for fewer signatures",
    "help": "add a line for each, such as '{topic: worry, name: Example helpline, link: \"tel:0000\"}'",
    "legal": "write the address of the legal demand, or status 403",
    "domain": "write the domain as it is registered, such as 'appeal.example'",
}


def _field(path: Path) -> tuple[type[Section] | None, Any]:
    """The section that holds the value at `path`, and the value's own field if it has one."""
    section: type[Section] | None = Policy
    found: Any = None
    for step in path:
        if isinstance(step, int):
            continue
        if found is not None:
            inner = next(_sections(found.annotation), None)
            if inner is None and section is not None:
                continue  # one of several languages of a text
            section = inner
        found = section.model_fields.get(step) if section else None
    return section, found


def _home(key: str, section: type[Section], path: Path) -> Path | None:
    """The outermost section that has this key; None if none has."""
    if key in section.model_fields:
        return path
    found = (
        _home(key, inner, (*path, step))
        for step, field in section.model_fields.items()
        for inner in _sections(field.annotation)
    )
    return next((home for home in found if home is not None), None)


def names_file(path: Path) -> bool:
    """Whether the value at `path` is the path of a file or folder."""
    _, found = _field(path)
    return found is not None and is_file(found)


def is_file(field: FieldInfo) -> bool:
    """Whether a field holds the path of a file or folder, or several."""
    return not {FILE, FOLDER}.isdisjoint(_descriptions(field))


def _descriptions(part: Any) -> Iterator[str | None]:
    yield getattr(part, "description", None)
    for inner in (
        *getattr(part, "metadata", ()),
        getattr(part, "annotation", None),
        *getattr(part, "__args__", ()),
        *getattr(part, "__metadata__", ()),
    ):
        if inner is not None:
            yield from _descriptions(inner)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _sections(part)
