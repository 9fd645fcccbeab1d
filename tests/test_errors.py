"""Errors: one line for logs and scripts; for people also the line of the file, with carets under what is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.errors import Place, Problems, StoplistError, of_system

LINE = "counts: {period: day, hide_below: 1}"


def test_an_error_is_one_line_with_place_message_and_remedy() -> None:
    error = StoplistError("too low", hint="write 10", place=Place("school.yaml", 40, 35, 1, LINE))
    assert str(error) == "school.yaml:40:35: too low; write 10"
    assert str(Problems([error, StoplistError("gone", place="a.yaml")])) == f"{error}\na.yaml: gone"


@pytest.mark.parametrize(
    ("place", "width", "excerpt"),
    [
        pytest.param(Place("a", 40, 35, 1, LINE), 80, [f"   40 | {LINE}", f"      | {' ' * 34}^"], id="a character"),
        pytest.param(Place("a", 40, 10, 6, LINE), 80, [f"   40 | {LINE}", f"      | {' ' * 9}^^^^^^"], id="a word"),
        pytest.param(Place("a", 1, 1, 1, "\tmode: x"), 80, ["    1 | →mode: x", "      | ^"], id="a tab"),
        pytest.param(Place("a", 1, 3, 1, "a \x1b[31m"), 80, ["    1 | a ?[31m", "      |   ^"], id="an escape"),
        pytest.param(
            Place("a", 1, 7, 3, "名前: x x"), 80, ["    1 | 名前: x x", "      |         ^"], id="wide characters"
        ),
        pytest.param(
            Place("a", 1, 4, 1, "e\u0301: x"), 80, ["    1 | e\u0301: x", "      |   ^"], id="a combining mark"
        ),
        pytest.param(Place("a", 1, 9, 1, "mode:"), 80, ["    1 | mode:", "      |      ^"], id="past the end"),
    ],
)
def test_the_line_is_shown_with_carets_under_what_is_meant(place: Place, width: int, excerpt: list[str]) -> None:
    assert place.excerpt(width).split("\n") == excerpt


def test_a_long_line_is_cut_around_what_is_meant() -> None:
    line, carets = Place("a", 1, 51, 3, "0123456789" * 10).excerpt(38).split("\n")
    assert line[carets.index("^") : carets.rindex("^") + 1] == "012"
    assert (len(line), line[8], line[-1]) == (38, "…", "…")


def test_without_its_line_a_place_has_no_excerpt() -> None:
    assert Place("a", 3).excerpt(80) == ""


@given(
    st.text(max_size=300).map(lambda text: text.replace("\n", "")), st.integers(1, 320), st.integers(1, 400), st.data()
)
def test_any_line_is_shown_in_two_lines_that_no_terminal_obeys(
    text: str, column: int, length: int, data: st.DataObject
) -> None:
    shown = Place("a", 1, column, length, text).excerpt(data.draw(st.integers(1, 300)))
    assert not text or shown.count("\n") == 1
    assert all(line.isprintable() for line in shown.split("\n"))
    assert not text or "^" in shown


def test_an_error_of_the_system_names_its_file_or_none() -> None:
    of_file = of_system(PermissionError(13, "Permission denied", "/var/lib/stoplist"))
    assert str(of_file).startswith("/var/lib/stoplist: cannot be used (permission denied); check the path")
    of_process = of_system(OSError(24, "Too many open files"))
    assert str(of_process).startswith("the system refuses to go on (too many open files); check the limits")
