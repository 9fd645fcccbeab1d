"""The one base error of Stoplist: it says what is wrong, where, and what to do about it.

Rules
  - A message never holds a requested host, a URL or a client address. It may hold text that an operator wrote: a
    path, a line number, a value of a policy or of a list under construction.
  - A subclass exists only if a caller reacts differently to it.
  - ``str(error)`` is one line. `excerpt` shows the line of the file, and only to people.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

_SHOWN = {"\t": "→"}
_COMMAND = re.compile(r"(stoplist (?:[a-z]+ )+)POLICY\b")
"""A command about a policy, in a hint."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an operator's text file: line and column from 1 on, its `length` in characters (1 if it goes on in
    the next line), and the line itself. ``str()`` is ``file:line:column``."""

    source: str
    line: int
    column: int = 1
    length: int = 1
    text: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"

    def excerpt(self, width: int) -> str:
        """The line, cut to `width` columns of a terminal, with carets under the place; '' if there is no line. Shows
        control characters, which a terminal would obey, as '?', and a tab as '→'."""
        if not self.text:
            return ""
        number = f"{self.line:5} | "
        text = "".join(character if character.isprintable() else _SHOWN.get(character, "?") for character in self.text)
        start, room = self.column - 1, max(20, width - len(number) - 2)
        first = max(0, min(start - room // 2, len(text) - room)) if len(text) > room else 0
        shown = ("…" if first else "") + text[first : first + room] + ("…" if first + room < len(text) else "")
        before = ("…" if first else "") + text[first:start]
        meant = text[start : min(start + self.length, first + room)]
        carets = "^" * max(1, _cells(meant))
        return f"{number}{shown}\n{' ' * (len(number) - 2)}| {' ' * _cells(before)}{carets}"


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


class StoplistError(Exception):
    """An error that an operator can correct.

    `place` says where it is (``school.yaml:12:3``), `message` says what is wrong with which value, and `hint` says
    what to do. ``str(error)`` joins them: ``place: message; hint``. `where` is the place with its line, for errors
    that have one.
    """

    def __init__(self, message: str, *, hint: str = "", place: str | Place = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = str(place)
        self.where = place if isinstance(place, Place) else None

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def at(self, place: str) -> StoplistError:
        """Set the place of this error if it has none, and return the error."""
        self.place = self.place or place
        return self


def with_paths(text: str, policy: Path, state_dir: Path | None = None) -> str:
    """A text in which commands name this policy, and a state directory, in the way that a shell reads them.

    >>> with_paths("make it: stoplist ca POLICY --create", Path("my policy.yaml"), Path("state"))
    "make it: stoplist ca 'my policy.yaml' --state-dir state --create"
    """
    named = shlex.quote(str(policy)) + (f" --state-dir {shlex.quote(str(state_dir))}" if state_dir else "")
    return _COMMAND.sub(lambda match: f"{match[1]}{named}", text)


class Problems(StoplistError):  # noqa: N818  it is several errors
    """Several errors found in one run, each with its own place and remedy."""

    def __init__(self, problems: list[StoplistError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def of_system(error: OSError) -> StoplistError:
    """An error of the system about a file; or about the process itself, such as its limits, if it names none."""
    if error.filename is None:
        return StoplistError(
            f"the system refuses to go on ({(error.strerror or str(error)).lower()})",
            hint="check the limits of this account and of the machine",
        )
    return StoplistError(
        f"cannot be used ({(error.strerror or str(error)).lower()})",
        hint="check the path, its owner and its permissions; run the command as an account that may use it",
        place=str(error.filename),
    )
