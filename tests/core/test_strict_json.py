"""Strict JSON: one reading, or none."""

from __future__ import annotations

import pytest

from stoplist.core import strict_json


def test_a_value_is_what_it_says() -> None:
    assert strict_json.parse(b'{"a": [1, "\xc3\xbc", null], "b": {"a": 2}}') == {"a": [1, "ü", None], "b": {"a": 2}}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a": 1, "a": 1}', id="a name twice"),
        pytest.param(b'[{"b": {"a": 1, "a": 2}}]', id="a name twice, inside"),
        pytest.param(b"[NaN]", id="not a number"),
        pytest.param(b"-Infinity", id="infinity"),
        pytest.param(b"[1] 2", id="more behind it"),
        pytest.param(b"{'a': 1}", id="other quotes"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"[" * 200_000, id="nested too deeply"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever is wrong
        strict_json.parse(data)
