"""No test mixes the machine's clock with a constant: the rule, and what it finds in the tests.

  unit tests     judge at ``tests.fixed_time.NOW`` and read no clock
  all others     run real processes by the machine's clock, and hold no constant of the present

A constant of the present names a time of the years 2024 to 2039, as a call, a text or a POSIX time. Unit tests may
hold one within a test or its decorators, but not at the level of a module or a class, nor as a default, nor in a
fixture; tests of real processes hold none anywhere. An exception has its reason in the code, ``# fixed time: WHY`` in
the lines of the constant, ``# machine's clock: WHY`` in the line that reads the clock. In a line of its own it is for
the whole module. A transcript holds no last day (``until:``) in those years.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
TRANSCRIPTS = sorted(FOLDER.glob("cli/*.txt"))
BY_THE_CLOCK = ("e2e", "bench", "cli")
"""Folders whose tests run real processes."""
YEARS = range(2024, 2040)  # fixed time: what is looked for
SECONDS = (datetime(YEARS[0], 1, 1, tzinfo=UTC).timestamp(), datetime(YEARS[-1] + 1, 1, 1, tzinfo=UTC).timestamp())
YEAR = r"20(?:2[4-9]|3\d)"
MONTH = r"(?:0[1-9]|1[0-2])"
DATE = re.compile(
    rf"(?<!\d){YEAR}([-/.]?){MONTH}\1[0-3]\d|\d\d[/ -][A-Z][a-z]{{2}}[/ -]{YEAR}(?!\d)"
    rf"|\b[A-Z][a-z]{{2}} [ \d]\d (?:[\d:]+ )?(?:[A-Z]+ )?{YEAR}(?!\d)"
)
UNITS = (1, 10**3, 10**6, 10**9)
"""A POSIX time counts seconds, or parts of them."""
LAST_DAY = re.compile(rf"(?:until: ?|--expires )['\"]?{YEAR}-")
READS = {"now", "utcnow", "today", "time", "time_ns", "localtime", "gmtime"}
CLOCKS = {"clock", "datetime", "date", "time"}


def constants_of_the_present(text: str, anywhere: bool = False) -> list[int]:
    """The lines of a module where one begins that has no reason; within functions too, if `anywhere`."""
    lines = text.splitlines()
    if _has_reason_for_all(lines, "fixed time"):
        return []
    tree = ast.parse(text)
    places = _all_but_prose(tree) if anywhere else _shared_by_tests(tree)
    return [
        place.lineno
        for place in places
        if any(map(_names_the_present, [place] if anywhere else ast.walk(place)))
        and not _has_reason(lines[place.lineno - 1 : place.end_lineno], "fixed time")
    ]


def _shared_by_tests(tree: ast.Module) -> Iterator[ast.stmt | ast.expr]:
    """The statements of a module and its classes, those of fixtures, and the defaults of all functions."""
    yield from _statements(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            yield from (default for default in (*node.defaults, *node.kw_defaults) if default)
        elif isinstance(node, ast.FunctionDef) and any("fixture" in ast.unparse(each) for each in node.decorator_list):
            yield from _statements(node.body)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Each statement that holds no others, but those of functions; texts that stand by themselves are left out."""
    for node in body:
        blocks = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(node, "handlers", [])]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_prose(node):
            continue
        if any(blocks):
            yield from itertools.chain.from_iterable(map(_statements, blocks))
        else:
            yield node


def _is_prose(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _all_but_prose(tree: ast.Module) -> Iterator[ast.expr]:
    """All expressions, but for texts that stand by themselves."""
    prose = [node.value for node in ast.walk(tree) if isinstance(node, ast.stmt) and _is_prose(node)]
    return (node for node in ast.walk(tree) if isinstance(node, ast.expr) and node not in prose)


def _names_the_present(node: ast.AST) -> bool:
    match node:
        case ast.Call(args=[ast.Constant(value=int(year)), ast.Constant(value=int()), *_]):
            return year in YEARS
        case ast.Tuple(elts=[ast.Constant(value=int(year)), ast.Constant(value=int()), *_]):
            return year in YEARS
        case ast.keyword(arg="year", value=ast.Constant(value=int(year))):
            return year in YEARS
        case ast.Constant(value=str(text)):
            return bool(DATE.search(text))
        case ast.Constant(value=bytes(data)):
            return bool(DATE.search(data.decode("latin-1")))
        case ast.Constant(value=int(number) | float(number)):
            return any(SECONDS[0] <= number / unit < SECONDS[1] for unit in UNITS)
    return False


def readings_of_a_clock(text: str) -> list[int]:
    """The lines of a module that read a clock of the machine and say no reason."""
    lines = text.splitlines()
    if _has_reason_for_all(lines, "machine's clock"):
        return []
    tree = ast.parse(text)
    imported = _imported(tree)
    return [
        node.lineno
        for node in ast.walk(tree)
        if _reads_a_clock(node, imported) and not _has_reason([lines[node.lineno - 1]], "machine's clock")
    ]


def _imported(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """What each imported name stands for: the last name of the module it is from, and its name there."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").rpartition(".")[2]
            found |= {each.asname or each.name: (module, each.name) for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.asname: ("", each.name) for each in node.names if each.asname}
    return found


def _reads_a_clock(node: ast.AST, imported: dict[str, tuple[str, str]]) -> bool:
    """A call of what reads a clock, under whatever name it was imported, or its name that is handed to another."""
    match node:
        case ast.Call(func=ast.Attribute(value=of, attr=name)) if name in READS:
            called = _name_of(of)
            return called in CLOCKS or imported.get(called, ("", ""))[1] in CLOCKS
        case ast.Call(func=ast.Name(id=name)) if name in imported:
            module, real = imported[name]
            return module in CLOCKS and real in READS
        case ast.keyword(value=ast.Attribute(value=ast.Name(id=of), attr=name)) if name in READS:
            return imported.get(of, ("", ""))[1] in CLOCKS
    return False


def _name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _has_reason_for_all(lines: list[str], word: str) -> bool:
    return any(re.match(rf"# {word}: \S", line) for line in lines)


def _has_reason(lines: list[str], word: str) -> bool:
    return any(re.search(rf"# {word}: \S", line) for line in lines)


def _here(lines: list[int], module: Path) -> Iterator[str]:
    return (f"{module.relative_to(FOLDER)}:{number}" for number in lines)


def _goes_by_the_clock(module: Path) -> bool:
    return module.relative_to(FOLDER).parts[0] in BY_THE_CLOCK


def test_no_module_holds_a_constant_of_the_present():
    found = [
        place
        for module in MODULES
        for place in _here(constants_of_the_present(module.read_text(), _goes_by_the_clock(module)), module)
    ]
    assert not found, "use tests.fixed_time.NOW, or say in the line '# fixed time: WHY' it is safe"


def test_no_transcript_holds_a_last_day_of_the_present():
    assert LAST_DAY.search("exceptions: [{domain: a.example, until: 2030-06-30}]")
    found = [
        f"{path.name}:{number}"
        for path in TRANSCRIPTS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LAST_DAY.search(line)
    ]
    assert not found, "write a year such as 2099: transcripts run by the machine's clock"


def test_no_unit_test_reads_the_machines_clock():
    units = [module for module in MODULES if not _goes_by_the_clock(module)]
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
        pytest.param("HEAD = 'Sat, 21 Nov 2026 12:00:00 GMT'", id="a text of HTTP"),
        pytest.param("def made(now=datetime(2026, 11, 21)): ...", id="a default"),
        pytest.param("def made(*, day='2026-11-21'): ...", id="a default by its name"),
        pytest.param("NOW = dt.datetime(2026, 11, 21)", id="a call by another name"),
        pytest.param("NOW = datetime(year=2026, month=11, day=21)", id="a call with names"),
        pytest.param("NOW = timegm((2026, 11, 21, 0, 0, 0))", id="a tuple"),
        pytest.param("UNTIL = '20261231000000Z'", id="a text without marks"),
        pytest.param("UNTIL = 'Dec 31 00:00:00 2026 GMT'", id="a text of OpenSSL"),
        pytest.param("UNTIL = '2026/12/31'", id="a text with strokes"),
        pytest.param("UNTIL = 1_795_262_400_000", id="milliseconds"),
        pytest.param("if True: UNTIL = '2026-12-31'", id="a condition"),
        pytest.param("UNTIL.append('2026-12-31')", id="a statement"),
        pytest.param("@pytest.fixture\ndef until(): return '2026-12-31'", id="a fixture"),
    ],
)
def test_a_constant_of_the_present_is_found(text: str):
    assert constants_of_the_present(f"\n{text}\n") in ([2], [3])


@pytest.mark.parametrize("head", ["class Site:", "@dataclass\nclass Site:\n  class Inner:"])
def test_a_constant_of_a_class_is_found(head: str):
    text = f"{head}\n    now: datetime = datetime(2026, 11, 21)\n"
    assert constants_of_the_present(text) == [text.count("\n")]


@pytest.mark.parametrize(
    "text",
    [
        "@pytest.mark.parametrize('now', [date(2026, 11, 21)])\ndef test(now): ...",
        "def test():\n    return date(2026, 11, 21)",
        "def test():\n    if now() > date(2026, 11, 21):\n        pass",
        "class Site:\n    now = date(2026, 11, 21)",
        "with at('2026-11-21'):\n    pass",
    ],
)
def test_what_goes_by_the_clock_holds_no_constant_anywhere(text: str):
    assert len(constants_of_the_present(text, anywhere=True)) == 1
    assert constants_of_the_present(f"'Since 2026-11-21.'\n# fixed time: WHY\n{text}", anywhere=True) == []
    assert constants_of_the_present("def test():\n    'Since 2026-11-21.'", anywhere=True) == []


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


@pytest.mark.parametrize(
    "text",
    [
        *("datetime.now(UTC)", "clock.now()", "time.time()", "dt.date.today()"),
        "time(); from time import time",
        "seconds(); from time import time as seconds",
        "now(); from stoplist.clock import now",
        "dt.now(UTC); from datetime import datetime as dt",
        "wall.now(); from stoplist import clock as wall",
        "field(default_factory=clock.now); from stoplist import clock",
    ],
)
def test_a_reading_of_the_clock_is_found(text: str):
    assert readings_of_a_clock(f"\n{text}\n") == [2]


@pytest.mark.parametrize(
    "text",
    [
        *("time.monotonic()", "start.clock.now", "x = time.time()  # machine's clock: OpenSSL judges by it"),
        "at(clock.now)",
        "field(when=clock.now)",
        "now()",
    ],
)
def test_other_readings_are_left_alone(text: str):
    assert readings_of_a_clock(text) == []
