"""SelfTest: the results of the checks of a self-test, and their text.

The text has the form of monitoring plugins (https://www.monitoring-plugins.org/doc/guidelines.html): one of four
states, which are exit codes too, and a first line with performance data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

_SHOWN = 80
"""How much of a text from outside is shown, in characters."""


class CheckName(StrEnum):
    """The checks of a self-test, in their order."""

    HTTP = "http"
    HTTPS = "https"
    CONTROL = "control"
    UNTOUCHED = "untouched"
    LIST_AGE = "list age"


class Result(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


class CheckState(IntEnum):
    """The state of a self-test; the value is the exit code of a monitoring plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """The state in the form for programs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: a sentence about the observation and, if it is not fine, a remedy."""

    name: CheckName
    result: Result
    seen: str
    remedy: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The results of a self-test. `list_age` is in days."""

    checks: tuple[Check, ...]
    list_age: int | None = None
    max_age: int | None = None

    @property
    def state(self) -> CheckState:
        """The state of all checks together."""
        return worst(check.result for check in self.checks)


_WORST_FIRST = {
    Result.FAILED: CheckState.CRITICAL,
    Result.UNKNOWN: CheckState.UNKNOWN,
    Result.WARNING: CheckState.WARNING,
}


def worst(results: Iterable[Result]) -> CheckState:
    """The state for the worst of these results: a failure is worse than an unknown result."""
    found = set(results)
    return next((state for result, state in _WORST_FIRST.items() if result in found), CheckState.OK)


def as_text(found: SelfTest) -> str:
    """The lines of a monitoring plugin: the first gives the overall result, each of the others is a check."""
    lines = [f"STOPLIST {found.state.name} - {_summary(found)}{_performance(found)}"]
    for check in found.checks:
        remedy = f"; {check.remedy}" if check.remedy else ""
        lines.append(f"{check.name}: {check.result}, {check.seen}{remedy}")
    return "\n".join(lines)


def _summary(found: SelfTest) -> str:
    bad = next((result for result, state in _WORST_FIRST.items() if state is found.state), None)
    if bad is not None:
        return "; ".join(f"{check.name}: {check.seen}" for check in found.checks if check.result is bad)
    skipped = sum(check.result is Result.SKIPPED for check in found.checks)
    return f"{len(found.checks) - skipped} checks fine" + (f", {skipped} skipped" if skipped else "")


def _performance(found: SelfTest) -> str:
    values = [
        f"{check.name}={check.seconds:.3f}s"
        for check in found.checks
        if check.name in (CheckName.HTTP, CheckName.HTTPS, CheckName.CONTROL) and check.seconds is not None
    ]
    if found.list_age is not None:
        values.append(f"list_age={found.list_age}" + (f";{found.max_age}" if found.max_age is not None else ""))
    return f" | {' '.join(values)}" if values else ""


def printable(text: str) -> str:
    """A text from outside, in one short line; without '|', which would begin performance data."""
    shown = "".join(character if character.isprintable() and character != "|" else "?" for character in text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
