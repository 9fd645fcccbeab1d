"""Results of self-tests: what is written is what is read, and of that only times, states and names of checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoplist.core.counts import Period
from stoplist.errors import StoplistError
from stoplist.tools.selftest.results import MAX_LINE, NotPassed, SelfTests, as_line, sum_up
from stoplist.tools.selftest.self_test import Check, CheckName, CheckState, Result, SelfTest
from tests.examples import examples
from tests.fixed_time import NOW

MORNING = NOW.replace(day=3, hour=8)
FINE = dict.fromkeys(CheckName, Result.OK)
DOWN = dict.fromkeys(CheckName, Result.SKIPPED) | {CheckName.HTTP: Result.UNKNOWN}
OLD = FINE | {CheckName.LIST_AGE: Result.WARNING}
BROKEN = FINE | {CheckName.HTTPS: Result.FAILED, CheckName.CONTROL: Result.FAILED, CheckName.UNTOUCHED: Result.SKIPPED}
WORDS = "saw words-of-secret"


def result_of(results: dict[CheckName, Result], words: str = WORDS) -> SelfTest:
    return SelfTest(tuple(Check(name, result, words, words, 0.1) for name, result in results.items()), 3)


def line(minutes: int, results: dict[CheckName, Result] = FINE, words: str = WORDS) -> str:
    """The line of a self-test so many minutes after the morning."""
    return as_line(result_of(results, words), MORNING + timedelta(minutes=minutes)) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "selftests.jsonl"


def days(number: int) -> list[Period]:
    return [Period.at(MORNING.timestamp() + 86400 * at, "day") for at in range(number)]


def read(*paths: Path, days_: int = 1) -> SelfTests:
    """Sum up what is in these files of so many days from that of the morning on."""
    periods = days(days_)
    return sum_up(paths, periods, periods[0].starts, periods[-1].ends)


def refusal(path: Path) -> StoplistError:
    with pytest.raises(StoplistError) as caught:
        read(path)
    error = caught.value
    assert error.hint
    assert str(error).isprintable()
    assert len(error.message) < 200
    return error


# What is written is read


def test_a_line_holds_the_moment_and_all_that_was_seen():
    text = as_line(result_of({CheckName.HTTP: Result.OK}), MORNING)
    assert json.loads(text) == {
        "time": "2026-11-03T08:00:00Z",
        "state": "ok",
        "exit_code": 0,
        "list_age_days": 3,
        "checks": [{"name": "http", "result": "ok", "seen": WORDS, "remedy": WORDS, "seconds": 0.1}],
    }
    assert "\n" not in as_line(result_of(FINE, "two\nlines\u2028"), MORNING)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    results=st.dictionaries(st.sampled_from(CheckName), st.sampled_from(Result), min_size=1).filter(
        lambda results: set(results.values()) != {Result.SKIPPED}
    ),
    words=st.text(),
    minutes=st.integers(0, 900),
)
def test_what_is_written_is_read(file: Path, results: dict[CheckName, Result], words: str, minutes: int):
    file.write_text(line(minutes, results, words))
    found = read(file)
    state = result_of(results).state
    assert (found.tests, found.passed) == (1, state is CheckState.OK)
    time = MORNING + timedelta(minutes=minutes)
    bad = (Result.WARNING, Result.FAILED, Result.UNKNOWN)
    names = tuple(name for name in CheckName if results.get(name) in bad)
    assert found.not_passed == ((NotPassed(1, time, time, 1, state, names),) if names else ())


def test_a_file_of_every_state(file: Path):
    file.write_text(line(0) + line(1, OLD) + line(2, BROKEN) + line(3, DOWN) + line(4))
    found = read(file)
    assert (found.files, found.tests, found.passed, found.passed_periods) == (1, 5, 2, 0)
    assert [(each.state, each.checks) for each in found.not_passed] == [
        (CheckState.WARNING, ("list age",)),
        (CheckState.CRITICAL, ("https", "control")),
        (CheckState.UNKNOWN, ("http",)),
    ]


def test_an_empty_file_has_no_tests(file: Path):
    file.touch()
    assert read(file) == SelfTests(1, 0, 0, 0, ())


def test_nothing_of_what_was_seen_is_kept(file: Path):
    file.write_text(line(0, BROKEN, "secret.example") + line(1, DOWN, "secret.example"))
    found = read(file)
    assert found.tests == 2
    assert "secret" not in repr(found)


# Stretches, days, files


def test_tests_one_after_another_that_came_to_the_same_are_one_stretch(file: Path):
    file.write_text(
        line(0, DOWN) + line(10, DOWN) + line(20, DOWN) + line(30, BROKEN) + line(40) + line(50, BROKEN) + line(60, OLD)
    )
    found = [(each.first, each.last, each.tests, each.state.word) for each in read(file).not_passed]
    minutes = timedelta(minutes=1)
    assert found == [
        (MORNING, MORNING + 20 * minutes, 3, "unknown"),
        (MORNING + 30 * minutes, MORNING + 30 * minutes, 1, "critical"),
        (MORNING + 50 * minutes, MORNING + 50 * minutes, 1, "critical"),
        (MORNING + 60 * minutes, MORNING + 60 * minutes, 1, "warning"),
    ]


def test_one_state_by_other_checks_is_another_stretch(file: Path):
    only_http = FINE | {CheckName.HTTP: Result.FAILED}
    file.write_text(line(0, BROKEN) + line(10, only_http))
    assert [each.checks for each in read(file).not_passed] == [("https", "control"), ("http",)]


def test_lines_may_stand_in_any_order(file: Path):
    file.write_text(line(20, DOWN) + line(0, DOWN) + line(10))
    assert [each.first.minute for each in read(file).not_passed] == [0, 20]


def test_days_with_all_passed_have_a_test_and_none_that_did_not_pass(file: Path):
    day = 24 * 60
    file.write_text(line(0) + line(5) + line(day) + line(day + 5, OLD) + line(3 * day) + line(4 * day, DOWN))
    found = read(file, days_=6)
    assert (found.tests, found.passed, found.passed_periods) == (6, 4, 2)


def test_only_tests_of_the_days_are_taken(file: Path):
    file.write_text(line(-8 * 60 - 1, DOWN) + line(-8 * 60) + line(16 * 60 - 1) + line(16 * 60, DOWN))
    found = read(file)
    assert (found.tests, found.passed, found.passed_periods, found.not_passed) == (2, 2, 1, ())


def test_a_line_of_another_day_is_read_as_strictly(file: Path):
    file.write_text(line(-9999).replace('"ok"', '"fine"', 1))
    assert refusal(file).place == f"{file}:1"


def test_files_are_told_apart_and_a_day_must_pass_in_each(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(line(0, DOWN) + line(20, DOWN) + line(24 * 60))
    two.write_text(line(10) + line(24 * 60, OLD) + line(2 * 24 * 60))
    found = read(one, two, days_=3)
    assert (found.files, found.tests, found.passed, found.passed_periods) == (2, 6, 3, 1)
    assert [(each.file, each.tests) for each in found.not_passed] == [(1, 2), (2, 1)]


def test_a_file_that_is_named_twice_is_refused(file: Path, tmp_path: Path):
    file.touch()
    other = tmp_path / "other.jsonl"
    other.symlink_to(file)
    with pytest.raises(StoplistError, match="named twice"):
        read(file, other)


# What is no result


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    """A line in which one thing is wrong."""
    fields = json.loads(line(0, BROKEN))
    change(fields)
    return json.dumps(fields)


def first_check(**fields: object) -> str:
    return changed(lambda whole: whole["checks"][0].update(fields))


# fixed time: an example in a message

MALFORMED = [
    pytest.param("", "'' is not strict JSON", id="an empty line"),
    pytest.param(
        "STOPLIST OK - 5 checks fine | http=0.012s", "'STOPLIST OK - 5 checks fine | http=0.012...'", id="text"
    ),
    pytest.param("\x1b]0;a title\x07" + "x" * 500, r"'\x1b]0;a title\x07xxx", id="control characters"),
    pytest.param("\ufeff{}", "is not strict JSON", id="a byte order mark"),
    pytest.param('{"time": NaN}', "is not strict JSON", id="no JSON value"),
    pytest.param(line(0)[:90], "is not strict JSON", id="cut off, and more came behind"),
    pytest.param(line(0)[:90] + line(1).strip(), "is not strict JSON", id="cut off, and joined to the next"),
    pytest.param(line(0).strip() + line(1).strip(), "is not strict JSON", id="two in one line"),
    pytest.param(line(0).replace("{", '{"state": "ok", ', 1).strip(), "is not strict JSON", id="a field twice"),
    pytest.param("[" * 30000 + "]" * 30000, "is not strict JSON", id="deeply nested"),
    pytest.param("9" * 5000, "is not strict JSON", id="a number without end"),
    pytest.param("x" * (MAX_LINE + 1), f"longer than {MAX_LINE} bytes", id="too long"),
    pytest.param("[]", "a list is no result of a self-test", id="a list"),
    pytest.param("null", "null is no result of a self-test", id="null"),
    pytest.param("9" * 4000, f"{'9' * 40}... is no result", id="a long number"),
    pytest.param("{}", "null is no time like 2026-01-31T00:00:00Z", id="an empty object"),
    pytest.param(changed(lambda it: it.pop("time")), "null is no time", id="no time"),
    pytest.param(changed(lambda it: it.update(time=1793692800)), "1793692800 is no time", id="POSIX seconds"),
    pytest.param(changed(lambda it: it.update(time="2026-11-03T08:00:00")), "is no time", id="a time of no zone"),
    pytest.param(changed(lambda it: it.update(time="2026-11-03T08:00:00+00:00")), "is no time", id="an offset"),
    pytest.param(changed(lambda it: it.update(time="2026-11-03T08:00:00.5Z")), "is no time", id="half a second"),
    pytest.param(changed(lambda it: it.update(time="2026-11-31T08:00:00Z")), "is no time", id="no such day"),
    pytest.param(changed(lambda it: it.update(time="0001-01-01T00:00:00+14:00")), "is no time", id="before year 1"),
    pytest.param(changed(lambda it: it.update(time="\u0662026-11-03T08:00:00Z")), "is no time", id="other digits"),
    pytest.param(changed(lambda it: it.pop("state")), "null is no state of a self-test (ok, ", id="no state"),
    pytest.param(changed(lambda it: it.update(state="failed")), "'failed' is no state", id="another state"),
    pytest.param(changed(lambda it: it.update(state="CRITICAL")), "'CRITICAL' is no state", id="in upper case"),
    pytest.param(changed(lambda it: it.update(state=2)), "2 is no state", id="an exit code"),
    pytest.param(changed(lambda it: it.update(state=["ok"])), "a list is no state", id="a list of states"),
    pytest.param(
        changed(lambda it: it.update(state="ok")),
        "'ok', but the checks come to 'critical'",
        id="a state of other checks",
    ),
    pytest.param(changed(lambda it: it.pop("checks")), "null is no list of checks", id="no checks"),
    pytest.param(changed(lambda it: it.update(checks={})), "an object is no list of checks", id="an object of checks"),
    pytest.param(changed(lambda it: it.update(checks=[])), "no check was made", id="an empty list of checks"),
    pytest.param(changed(lambda it: it.update(checks=["http"])), "'http' is no check", id="names alone"),
    pytest.param(changed(lambda it: it["checks"].append(it["checks"][0])), "'http' is there twice", id="a check twice"),
    pytest.param(first_check(name="dns"), "'dns' is no check of a self-test (http, https, ", id="an unknown check"),
    pytest.param(first_check(name="www.secret.example/" * 99), "...' is no check of", id="a long name"),
    pytest.param(first_check(name=None), "null is no check of", id="a check without a name"),
    pytest.param(first_check(result="fine"), "'fine' is no result of a check", id="another result"),
    pytest.param(first_check(result=True), "true is no result of a check", id="a truth"),
    pytest.param(
        as_line(result_of(dict.fromkeys(CheckName, Result.SKIPPED)), MORNING), "no check was made", id="all skipped"
    ),
]


@pytest.mark.parametrize(("text", "words"), MALFORMED)
def test_a_line_that_is_no_result_is_told_with_its_place(file: Path, text: str, words: str):
    file.write_text(line(0) + text + "\n" + line(1))
    error = refusal(file)
    assert error.place == f"{file}:2"
    assert words in error.message
    assert "stoplist selftest --format json" in error.hint


def test_fields_of_a_later_version_are_passed_over(file: Path):
    later = json.loads(line(0, DOWN)) | {"version": 2, "place": {"secret": [1.5, None]}}
    later["checks"][0]["tries"] = 3
    file.write_text(json.dumps(later) + "\n")
    found = read(file)
    assert found.tests == 1
    assert "secret" not in repr(found)


@pytest.mark.parametrize("results", [FINE, DOWN])
def test_a_last_line_that_is_still_being_written_is_left_out(file: Path, results: dict[CheckName, Result]):
    """Wherever it is cut, also where what is there ends as a whole line would."""
    whole = line(1, results)
    for cut in range(len(whole) - 1):
        file.write_text(line(0) + whole[:cut])
        assert read(file).tests == 1, whole[:cut]
    file.write_text(line(0) + whole.removesuffix("\n"))
    assert read(file).tests == 2


@pytest.mark.parametrize("text", ["<html>", "STOPLIST OK - 5 checks", '{"time": null}', "[]"])
def test_a_last_line_that_no_self_test_began_is_an_error(file: Path, text: str):
    file.write_text(line(0) + text)
    assert refusal(file).place == f"{file}:2"


def test_a_last_line_without_end_has_a_cap_too(file: Path):
    file.write_text(line(0) + "{" + " " * MAX_LINE)
    assert "longer than" in refusal(file).message


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path):
    broken = Path("/proc/self/mem")
    for path, words in ((tmp_path / "gone", "no such file"), (tmp_path, "is a directory"), (broken, "output error")):
        error = refusal(path)
        assert (error.place, words in error.message) == (str(path), True)


def results_or_error(path: Path) -> SelfTests | StoplistError:
    try:
        return read(path)
    except StoplistError as error:
        return error


PIECES = st.sampled_from([line(0), line(1, DOWN), line(2, BROKEN)[:-1], '"state"', "[", "}", "\n", '"ok"', "null", ":"])


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.lists(PIECES, max_size=8).map(lambda pieces: "".join(pieces).encode()))
def test_any_bytes_give_results_or_an_error(file: Path, data: bytes):
    file.write_bytes(data)
    found = results_or_error(file)
    if isinstance(found, SelfTests):
        assert found.tests <= data.count(b"\n") + 1
    else:
        assert found.hint
        assert str(found).isprintable()
