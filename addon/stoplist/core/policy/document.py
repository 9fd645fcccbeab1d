"""Document: a YAML file as plain values, and the place of each of them.

Rules
  - Every value, and every key, has its place: file, line, column.
  - A document says each thing once and plainly: a duplicate key, a tab, an anchor, an alias and a tag are faults.
  - If YAML itself cannot read something, that is a fault beside the others, as long as the reader can go on. If it
    cannot go on, the fault says so.
  - A base adds the keys that a document leaves out: `over` merges sections key by key and replaces all else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import yaml

from stoplist.errors import Place, Problems, StoplistError

type Path = tuple[str | int, ...]
"""The path of a value in a document: keys and positions, such as ``("lists", 0, "file")``."""

type ProblemKind = Literal["syntax", "unknown-key", "duplicate-key", "missing-key", "value", "input", "test"]
"""The kind of a fault, for programs: a fault of the YAML, of a key, of a value, of a file that a value names, or of
a test."""

_BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class PolicyError(StoplistError):
    """One fault of a policy. `place` is ``file:line:column``."""

    def __init__(self, message: str, *, hint: str, place: str | Place, kind: ProblemKind = "input") -> None:
        super().__init__(message, hint=hint, place=place)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Document:
    """`places` are the places of values, `keys` those of their keys, `written` the text of plain values.

    `problems` are the values that YAML itself cannot read. They stand in `values` as None, and their paths in
    `faulty`.
    """

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    faulty: set[Path] = field(default_factory=set)
    problems: list[StoplistError] = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, source: str) -> Self:
        """Read YAML. Raises Problems if it is no YAML, or not a set of keys and values."""
        try:
            text = data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode().split("\n")
            here = Place(source, len(before), len(before[-1]) + 1)
            raise _broken(here, "not UTF-8 text", "save it as UTF-8") from None
        lines, line = _BREAKS.split(text), 1

        def place(line: int, column: int = 1, length: int = 1) -> Place:
            return Place(source, line, column, length, lines[line - 1] if line <= len(lines) else "")

        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
            finally:
                line = loader.line + 1
            document = cls(source)
            if not isinstance(node, yaml.MappingNode):
                raise Problems(
                    [
                        PolicyError(
                            "a policy is a set of keys and values",
                            hint="start with 'version: 1'",
                            place=place(1),
                            kind="syntax",
                        )
                    ]
                )
            _Conversion(document, loader, place).run(node)
        except yaml.MarkedYAMLError as error:
            raise _syntax_error(error, place) from None
        except yaml.reader.ReaderError as error:
            before = text[: error.position].split("\n")
            here = place(len(before), len(before[-1]) + 1)
            raise _broken(here, f"holds the control character {chr(error.character)!r}", "remove it") from None
        except (ValueError, OverflowError):
            raise _broken(place(line), "holds an invalid number or character", "correct the line") from None
        except RecursionError:
            raise _broken(place(line), "is nested too deeply", "write the values out in a few levels") from None
        return document

    def place(self, path: Path) -> Place:
        """The place of a value, or of the section nearest to it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path) or Place(self.source, 1)

    def over(self, base: Document) -> None:
        """Take from `base` the keys that this document leaves out: sections key by key, other values as a whole."""
        self._take(base, self.values, base.values, ())
        self.problems[:0] = base.problems

    def _take(self, base: Document, mine: dict[str, Any], theirs: dict[str, Any], path: Path) -> None:
        for key, value in theirs.items():
            below = (*path, key)
            if key not in mine:
                mine[key] = value
                self.places.update(_below(base.places, below))
                self.keys.update(_below(base.keys, below))
                self.written.update(_below(base.written, below))
                self.faulty.update(at for at in base.faulty if at[: len(below)] == below)
            elif isinstance(mine[key], dict) and isinstance(value, dict):
                self._take(base, mine[key], value, below)

    def texts(self) -> Iterator[tuple[Path, str]]:
        """Every text among the values, with its path."""
        return _texts(self.values, ())

    def replace(self, path: Path, text: str) -> None:
        """Replace the text at `path` by `text`."""
        holder: Any = self.values
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = text


def _below[T](values: Mapping[Path, T], path: Path) -> dict[Path, T]:
    return {at: value for at, value in values.items() if at[: len(path)] == path}


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in list(value.items()):
            yield from _texts(below, (*path, key))
    elif isinstance(value, list):
        for position, below in enumerate(list(value)):
            yield from _texts(below, (*path, position))


@dataclass(frozen=True, slots=True)
class _Conversion:
    """Turns YAML's nodes into a Document."""

    document: Document
    loader: _Loader
    place: Callable[[int, int, int], Place]

    def run(self, node: yaml.MappingNode) -> None:
        self.document.places[()] = Place(self.document.source, 1)
        self.document.values.update(self._section(node, ()))

    def _convert(self, node: yaml.Node, path: Path) -> Any:
        """The plain value of a node, and of all below it."""
        self._remember(node, path)
        if node in self.loader.tagged:
            self._faulty_value(path, node, f"a value with the tag {node.tag!r}", "write the value without a tag")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(item, (*path, position)) for position, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._section(node, path)
        assert isinstance(node, yaml.ScalarNode)
        self.document.written[path] = node.value
        try:
            return self.loader.construct_object(node)
        except ValueError:
            message = f"'{node.value}' is not a valid date or number"
            self._faulty_value(path, node, message, "write a date as YYYY-MM-DD")
        except yaml.constructor.ConstructorError:
            self._faulty_value(path, node, f"'{node.value}' is no plain value", "put quotes around it")
        return None

    def _section(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for each in (node, *(key for key, _ in node.value)):
            if each in self.loader.tagged:
                self._fault(each, f"the tag {each.tag!r}", "write it without a tag", "syntax")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, "a key that is no word", "write 'key: value'", "syntax")
            elif key.value in values:
                first = self.document.keys[(*path, key.value)].line
                self._fault(
                    key, f"duplicate key {key.value!r}", f"keep one; the first is on line {first}", "duplicate-key"
                )
            else:
                self.document.keys[(*path, key.value)] = self._place(key)
                values[key.value] = self._convert(value, (*path, key.value))
        return values

    def _remember(self, node: yaml.Node, path: Path) -> None:
        """Record the place of a value: the place where it begins, or that of its key if the value begins in another
        line."""
        here, key = self._place(node), self.document.keys.get(path)
        self.document.places[path] = here if key is None or key.line == here.line else key

    def _place(self, node: yaml.Node) -> Place:
        start, end = node.start_mark, node.end_mark
        length = end.column - start.column if end.line == start.line else 1
        return self.place(start.line + 1, start.column + 1, max(1, length))

    def _faulty_value(self, path: Path, node: yaml.Node, message: str, hint: str) -> None:
        self.document.faulty.add(path)
        self._fault(node, f"{name(path)}: {message}", hint, "value")

    def _fault(self, node: yaml.Node, message: str, hint: str, kind: ProblemKind) -> None:
        self.document.problems.append(PolicyError(message, hint=hint, place=self._place(node), kind=kind))


class _Loader(yaml.SafeLoader):
    """A YAML loader without anchors and aliases. `tagged` are the nodes with a tag that was written out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tagged: set[yaml.Node] = set()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        if getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="an anchor or alias ('&' or '*' before a value)", problem_mark=event.start_mark
            )
        node = super().compose_node(parent, index)
        if node is not None and getattr(event, "tag", None):
            self.tagged.add(node)
        return node


def name(path: Path) -> str:
    """A path as people write it: ``lists[1].file``."""
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


_UNREAD = "the rest of the file was not read"


def _broken(place: Place, message: str, hint: str) -> Problems:
    return Problems([PolicyError(message, hint=f"{hint} ({_UNREAD})", place=place, kind="syntax")])


_QUOTE, _BRACKET = "while scanning a quoted scalar", "while parsing a flow"
_SYNTAX = (
    ("\\t", "a tab where YAML wants spaces: '\\t'", "indent with spaces"),
    (
        "mapping values are not allowed",
        "a ':' where no key is allowed",
        "put quotes around a value that holds ': ', or indent the line like its neighbours",
    ),
    ("could not find expected ':'", "a key without ':'", "write 'key: value'"),
    ("another document", "a second document", "remove the line '---'"),
    ("cannot start any token", "a character that no value can begin with", "put quotes around the value"),
    (
        "expected <block end>",
        "a line that belongs to nothing above it",
        "indent it like its neighbours, or close the quote above it",
    ),
)
"""Messages of the YAML parser, each with its meaning for somebody who has never seen its grammar, and a remedy."""


def _syntax_error(error: yaml.MarkedYAMLError, place: Callable[[int, int, int], Place]) -> Problems:
    mark = error.problem_mark or error.context_mark
    said, context = error.problem or "cannot be read as YAML", error.context or ""
    problem, hint = said, "see the line and the one above it: indentation, quotes, or a missing ':'"
    if "anchor" in said or "alias" in context:
        problem, hint = "an anchor or alias ('&' or '*' before a value)", "write the value out, or put quotes around it"
        if "found '.'" in said:
            hint = "write the domain without '*.': it covers its subdomains as well"
    elif context.startswith(_QUOTE) and ("end of stream" in said or "document separator" in said):
        mark, problem, hint = error.context_mark, "a quote that is never closed", "write the same quote at its end"
    elif context.startswith(_BRACKET) and said.startswith("expected ','"):
        mark, problem = error.context_mark, "a bracket that is not closed, or a ',' that is missing after it begins"
        hint = "separate values by ', ' and close the bracket; quote a value that holds one of [ ] { } ,"
    else:
        for part, meant, remedy in _SYNTAX:
            if part in said:
                problem, hint = meant, remedy
                break
    return _broken(place(mark.line + 1, mark.column + 1, 1) if mark else place(1, 1, 1), problem, hint)
