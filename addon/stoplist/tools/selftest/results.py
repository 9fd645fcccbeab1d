"""Results of self-tests: `stoplist selftest` writes each as a line of JSON, and a report sums up many.

Rules
  - Of a line, the reader keeps only its time, its state and the names of its checks. The observation of a check is
    in words, and those may name hosts.
  - A line that is not the result of a self-test is an error. The reader ignores unknown fields: a later version may
    write them.
  - The file may grow while the module reads it. The reader leaves out a last line that has no end yet and is not
    whole.
"""

from __future__ import annotations

import io
import itertools
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from stoplist import files
from stoplist.core import strict_json
from stoplist.core.counts import Period
from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.tools.selftest.self_test import CheckName, CheckState, Result, SelfTest, worst

MAX_LINE = 64 * 1024
"""The longest line that the reader accepts, in bytes."""

_SHOWN = 40
_REMEDY = "a line is what 'stoplist selftest --format json' writes: remove this one, or name another file"
_CHECKS = {each.value: each for each in CheckName}
_RESULTS = {each.value: each for each in Result}
_STATES = {each.word: each for each in CheckState}


@dataclass(frozen=True, slots=True)
class NotPassed:
    """A run of `tests` self-tests in one file that did not pass and had the same result.

    `file` is its place among the given files, from 1 on. `checks` were not fine; a skipped check is not among them.
    """

    file: int
    first: datetime
    last: datetime
    tests: int
    state: CheckState
    checks: tuple[CheckName, ...]


@dataclass(frozen=True, slots=True)
class SelfTests:
    """How many self-tests were run, and how many passed; the number of periods with at least one in which all
    passed."""

    files: int
    tests: int
    passed: int
    passed_periods: int
    not_passed: tuple[NotPassed, ...]


def as_line(found: SelfTest, time: datetime) -> str:
    """The result of a self-test that began at `time`: one line of JSON, without a line end."""
    return json.dumps(
        {
            "time": format_time(time),
            "state": found.state.word,
            "exit_code": found.state.value,
            "list_age_days": found.list_age,
            "checks": [asdict(check) for check in found.checks],
        }
    )


def sum_up(paths: Sequence[Path], periods: Iterable[Period], starts: float, ends: float) -> SelfTests:
    """Sum up the self-tests in these files from `starts` on and before `ends`, in POSIX seconds.

    Raises StoplistError if a file cannot be read, is named twice, or has a line that is no result.
    """
    _check_distinct(paths)
    tested = [
        sorted((each for each in _read(path) if starts <= each.time.timestamp() < ends), key=lambda each: each.time)
        for path in paths
    ]
    not_passed = [stretch for number, of_file in enumerate(tested, 1) for stretch in _stretches(number, of_file)]
    together = sorted(itertools.chain(*tested), key=lambda each: each.time)
    return SelfTests(
        files=len(paths),
        tests=len(together),
        passed=sum(each.state is CheckState.OK for each in together),
        passed_periods=_passed_periods(together, periods),
        not_passed=tuple(sorted(not_passed, key=lambda each: (each.first, each.file))),
    )


@dataclass(frozen=True, slots=True)
class _Tested:
    """The parts of a line that the reader keeps."""

    time: datetime
    state: CheckState
    bad: tuple[CheckName, ...]


def _check_distinct(paths: Sequence[Path]) -> None:
    known: list[Path] = []
    for path in paths:
        if path.exists():
            if any(path.samefile(other) for other in known):
                raise StoplistError("this file is named twice", hint="name each file once", place=str(path))
            known.append(path)


def _stretches(file: int, tested: Sequence[_Tested]) -> Iterator[NotPassed]:
    for (state, bad), group in itertools.groupby(tested, lambda each: (each.state, each.bad)):
        found = list(group)
        if state is not CheckState.OK:
            yield NotPassed(file, found[0].time, found[-1].time, len(found), state, bad)


def _passed_periods(tested: Sequence[_Tested], periods: Iterable[Period]) -> int:
    """The number of periods with at least one self-test in which all passed; `tested` are in order."""
    times = [each.time.timestamp() for each in tested]
    found = (tested[bisect_left(times, period.starts) : bisect_left(times, period.ends)] for period in periods)
    return sum(bool(inside) and all(each.state is CheckState.OK for each in inside) for inside in found)


# Lines


def _read(path: Path) -> Iterator[_Tested]:
    for number, line in _lines(path):
        try:
            value = strict_json.parse(line)
        except ValueError:
            if line.startswith(b"{") and not line.endswith(b"\n"):
                return
            words = _quoted(line.decode(errors="replace").strip())
            raise StoplistError(f"{words} is not strict JSON", hint=_REMEDY, place=f"{path}:{number}") from None
        try:
            tested = _tested(value)
        except StoplistError as error:
            raise error.at(f"{path}:{number}") from None
        yield tested


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines, each with its number, from 1 on, and with its line end if it has one. Raises StoplistError."""
    with files.open_stream(path) as stream:
        reader = io.BufferedReader(stream)
        try:
            for number in itertools.count(1):
                line = reader.readline(MAX_LINE + 1)
                if len(line) > MAX_LINE:
                    raise StoplistError(f"longer than {MAX_LINE} bytes", hint=_REMEDY, place=f"{path}:{number}")
                if not line:
                    return
                yield number, line
        except OSError as error:
            why = (error.strerror or "no reason").lower()
            raise StoplistError(f"cannot be read ({why})", hint="check the disk", place=str(path)) from None


def _tested(value: object) -> _Tested:
    """Read the value of a line. Raises StoplistError, without a place."""
    fields = _object(value, "no result of a self-test")
    time = _time(fields.get("time"))
    state = _one_of(_STATES, fields.get("state"), "no state of a self-test")
    results = _results(fields.get("checks"))
    if all(result is Result.SKIPPED for result in results.values()):
        raise _fault("no check was made")
    if state is not worst(results.values()):
        raise _fault(f"the state is '{state.word}', but the checks come to '{worst(results.values()).word}'")
    fine = (None, Result.OK, Result.SKIPPED)
    return _Tested(time, state, tuple(name for name in CheckName if results.get(name) not in fine))


def _results(value: object) -> dict[CheckName, Result]:
    if not isinstance(value, list):
        raise _fault(f"{_quoted(value)} is no list of checks")
    results: dict[CheckName, Result] = {}
    for each in value:
        check = _object(each, "no check of a self-test")
        name = _one_of(_CHECKS, check.get("name"), "no check of a self-test")
        if name in results:
            raise _fault(f"the check '{name}' is there twice")
        results[name] = _one_of(_RESULTS, check.get("result"), "no result of a check")
    return results


def _time(value: object) -> datetime:
    """Read a time in the form of `format_time`."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            if format_time(time) == value:
                return time
    except (ValueError, OverflowError):
        pass
    raise _fault(f"{_quoted(value)} is no time like 2026-01-31T00:00:00Z")


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _fault(f"{_quoted(value)} is {what}")
    return value


def _one_of[T](known: Mapping[str, T], value: object, what: str) -> T:
    if not isinstance(value, str) or value not in known:
        raise _fault(f"{_quoted(value)} is {what} ({', '.join(known)})")
    return known[value]


def _fault(message: str) -> StoplistError:
    return StoplistError(message, hint=_REMEDY)


def _quoted(value: object) -> str:
    """A value for a message: printable whatever it holds, and cut if it is long."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = value if isinstance(value, str) else json.dumps(value)
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return ascii(short) if isinstance(value, str) else short
