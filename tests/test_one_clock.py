"""No test mixes the machine's clock with a constant: the rule, and what it finds in the tests.

  unit tests     judge at ``tests.fixed_time.NOW`` and read no clock
  all others     run real processes by the machine's clock, and hold no constant of the present

A constant of the present is one at the level of a module that names a time of the years 2024 to 2039, as a call, a
text or a POSIX time. An exception has its reason in the code, ``# fixed time: WHY`` in the lines of the constant,
``# machine's clock: WHY`` in the line that reads the clock. In a line of its own it is for the whole module.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
BY_THE_CLOCK = ("e2e", "bench", "cli")
"""Folders whose tests run real processes."""
YEARS = range(2024, 2040)
SECONDS = (datetime(YEARS[0], 1, 1, tzinfo=UTC).timestamp(), datetime(YEARS[-1] + 1, 1, 1, tzinfo=UTC).timestamp())
YEAR = r"20(?:2[4-9]|3\d)"
DATE = re.compile(rf"(?<!\d){YEAR}-\d\d-\d\d|\d\d[/-][A-Z][a-z]{{2}}[/-]{YEAR}(?!\d)")
READS = {"now", "utcnow", "today", "time", "time_ns", "localtime", "gmtime"}
CLOCKS = {"clock", "datetime", "date", "time"}


def constants_of_the_present(text: str) -> list[int]:
    """The lines of a module where one begins that has no reason."""
    lines = text.splitlines()
    if _has_reason_for_all(lines, "fixed time"):
        return []
    return [
        statement.lineno
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and any(map(_names_the_present, ast.walk(statement)))
        and not _has_reason(lines[statement.lineno - 1 : statement.end_lineno], "fixed time")
    ]


def _names_the_present(node: ast.AST) -> bool:
    match node:
        case ast.Call(args=[ast.Constant(value=int(year)), *_]) if _name_of(node.func) in {"datetime", "date"}:
            return year in YEARS
        case ast.Constant(value=str(text)):
            return bool(DATE.search(text))
        case ast.Constant(value=bytes(data)):
            return bool(DATE.search(data.decode("latin-1")))
        case ast.Constant(value=int(number) | float(number)):
            return SECONDS[0] <= number < SECONDS[1]
    return False


def readings_of_a_clock(text: str) -> list[int]:
    """The lines of a module that read a clock of the machine and say no reason."""
    lines = text.splitlines()
    if _has_reason_for_all(lines, "machine's clock"):
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in READS
        and _name_of(node.func.value) in CLOCKS
        and not _has_reason([lines[node.lineno - 1]], "machine's clock")
    ]


def _name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _has_reason_for_all(lines: list[str], word: str) -> bool:
    return any(re.match(rf"# {word}: \S", line) for line in lines)


def _has_reason(lines: list[str], word: str) -> bool:
    return any(re.search(rf"# {word}: \S", line) for line in lines)


def _here(lines: list[int], module: Path) -> Iterator[str]:
    return (f"{module.relative_to(FOLDER)}:{number}" for number in lines)


def test_no_module_holds_a_constant_of_the_present():
    found = [place for module in MODULES for place in _here(constants_of_the_present(module.read_text()), module)]
    assert not found, "use tests.fixed_time.NOW, or say in the line '# fixed time: WHY' it is safe"


def test_no_unit_test_reads_the_machines_clock():
    units = [module for module in MODULES if module.relative_to(FOLDER).parts[0] not in BY_THE_CLOCK]
    found = [place for module in units for place in _here(readings_of_a_clock(module.read_text()), module)]
    assert not found, "take the time as an argument, or say in the line '# machine's clock: WHY' it is read"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)", id="a call"),
        pytest.param("DAY = datetime.date(2027, 1, 31)", id="a call by its module"),
        pytest.param("NOON = at('2026-11-21T12:00')", id="a text"),
        pytest.param("NOON: float = 1_795_262_400", id="POSIX seconds"),
        pytest.param("RULES = ruleset(\n    {'a.example': '2031-12-31'},\n)", id="in several lines"),
        pytest.param("LOG = b'[21/Nov/2026:23:58:08 +0000]'", id="bytes of a log"),
        pytest.param("NOW = datetime(2026, 11, 21)  # fixed time:", id="a reason that is empty"),
    ],
)
def test_a_constant_of_the_present_is_found(text: str):
    assert constants_of_the_present(f"\n{text}\n") == [2]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("NOW = datetime(2026, 11, 21)  # fixed time: the format of version 1 began then", id="a reason"),
        pytest.param("# fixed time: what programs wrote\nA = '2026-11-21'\nB = '2026-11-22'", id="one for a module"),
        pytest.param("EXPIRES = datetime(2096, 1, 1, tzinfo=UTC)", id="far ahead"),
        pytest.param("BEGIN = date(1971, 1, 1)", id="long ago"),
        pytest.param("DAY, MILLION = 86400, 1_000_000", id="other numbers"),
        pytest.param("def made():\n    return date(2026, 11, 21)", id="in a function"),
    ],
)
def test_what_is_safe_is_left_alone(text: str):
    assert constants_of_the_present(text) == []


@pytest.mark.parametrize("text", ["datetime.now(UTC)", "clock.now()", "time.time()", "dt.date.today()"])
def test_a_reading_of_the_clock_is_found(text: str):
    assert readings_of_a_clock(f"\n{text}\n") == [2]


@pytest.mark.parametrize(
    "text", ["time.monotonic()", "start.clock.now", "x = time.time()  # machine's clock: OpenSSL judges by it"]
)
def test_other_readings_are_left_alone(text: str):
    assert readings_of_a_clock(text) == []
