"""The output of faults in an operator's files: for people, for scripts, for code scanning (SARIF).

Rules
  - For people: place, fault, remedy, then the line with carets under the fault.
  - A style is an addition: nothing is lost without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import click

from stoplist import __version__
from stoplist.core.policy.document import PolicyError
from stoplist.errors import Problems, StoplistError

_RULES = {
    "syntax": "The file is valid YAML, without anchors, aliases and tags",
    "unknown-key": "Every key is known",
    "duplicate-key": "Every key is written once",
    "missing-key": "No key is missing",
    "value": "Every value is valid for its key",
    "input": "Every file that the policy names can be used",
    "test": "The tests of the policy pass",
}


def each(error: StoplistError) -> tuple[StoplistError, ...]:
    """The errors that make up an error: itself, or several."""
    return error.problems if isinstance(error, Problems) else (error,)


def as_text(error: StoplistError, width: int, *, styled: bool = False) -> str:
    """Text for people. `width` is the width of their terminal; `styled` says whether it may show colours."""
    return "\n".join(line for problem in each(error) for line in _lines(problem, width, styled))


def _lines(problem: StoplistError, width: int, styled: bool) -> Iterator[str]:
    text = str(problem)
    if styled and problem.where is not None:
        yield click.style(problem.place, bold=True) + text.removeprefix(problem.place)
    else:
        yield text
    if problem.where is not None and (excerpt := problem.where.excerpt(width)):
        line, carets = excerpt.split("\n")
        yield line
        bare = carets.rstrip("^")
        yield bare + click.style(carets[len(bare) :], fg="red", bold=True) if styled else carets


def as_fields(problem: StoplistError) -> dict[str, Any]:
    """The fields for scripts."""
    where = problem.where
    return {
        "rule": _rule(problem),
        "message": problem.message,
        "hint": problem.hint,
        "file": where.source if where else problem.place,
        "line": where.line if where else None,
        "column": where.column if where else None,
    }


def as_sarif(problems: Sequence[StoplistError], warnings: Iterable[StoplistError]) -> dict[str, Any]:
    """A log of SARIF 2.1.0 (OASIS)."""
    found = [*((problem, "error") for problem in problems), *((warning, "warning") for warning in warnings)]
    driver = {
        "name": "stoplist",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()],
    }
    results = [
        {
            "ruleId": _rule(problem),
            "level": level,
            "message": {"text": f"{problem.message}; {problem.hint}" if problem.hint else problem.message},
            "locations": [{"physicalLocation": _location(problem)}],
        }
        for problem, level in found
    ]
    return {
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _rule(problem: StoplistError) -> str:
    return problem.kind if isinstance(problem, PolicyError) else "input"


def _location(problem: StoplistError) -> dict[str, Any]:
    where = problem.where
    path = PurePath(where.source if where else problem.place)
    location: dict[str, Any] = {"artifactLocation": {"uri": path.as_uri() if path.is_absolute() else quote(str(path))}}
    if where is not None:
        location["region"] = {
            "startLine": where.line,
            "startColumn": where.column,
            "endColumn": where.column + where.length,
        }
    return location
