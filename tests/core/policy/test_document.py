"""Document: each value and key with its place, and what YAML says in words that an operator knows."""

from __future__ import annotations

import pytest

from stoplist.core.policy.document import Document, PolicyError
from stoplist.core.policy.text import PolicyText
from stoplist.errors import Place, Problems
from tests.core.policy.test_models import GOOD


def told(text: str) -> list[PolicyError]:
    with pytest.raises(Problems) as caught:
        PolicyText.parse(text.encode(), "school.yaml")
    errors = [problem for problem in caught.value.problems if isinstance(problem, PolicyError)]
    assert len(errors) == len(caught.value.problems)
    return errors


def meant(error: PolicyError) -> tuple[str, str]:
    """The sort of fault, and the text that its carets stand under."""
    assert error.where is not None
    start = error.where.column - 1
    return error.kind, error.where.text[start : start + error.where.length]


@pytest.mark.parametrize(
    ("old", "new", "kind", "under"),
    [
        pytest.param("mode: enforce\nl", "mode: on\nl", "value", "on", id="a value"),
        pytest.param("mode: enforce\nl", "mode:\nl", "value", "", id="no value"),
        pytest.param("mode: enforce\nl", "mod: enforce\nl", "unknown-key", "mod", id="an unknown key"),
        pytest.param("round_to: 10", "round_up: 10", "unknown-key", "round_up", id="an unknown key in a line"),
        pytest.param("listen:", "mode: observe\nlisten:", "duplicate-key", "mode", id="a duplicate key"),
        pytest.param("  operator: Example School\n", "", "missing-key", "stop_page", id="a missing key of a section"),
        pytest.param(
            "topic: worry, ", "", "missing-key", '{name: Example helpline, link: "tel:0000"}', id="of an item"
        ),
        pytest.param("{env: STOPLIST_KEY}", "{}", "value", "{}", id="a section"),
        pytest.param("until: 2026-12-31", "until: 2026-02-30", "value", "2026-02-30", id="no date"),
        pytest.param("operator: Example", "operator: !x Example", "value", "!x Example School", id="a tag"),
        pytest.param("  authority:", "\tauthority:", "syntax", "\t", id="a tab"),
        pytest.param("counts: {period", "counts: period", "syntax", ":", id="no YAML"),
        pytest.param("listen: 127", 'listen: "127', "syntax", '"', id="a quote without an end"),
        pytest.param("round_to: 10}", "round_to: 10", "syntax", "{", id="a bracket without an end"),
    ],
)
def test_the_carets_stand_under_what_is_wrong(old: str, new: str, kind: str, under: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    found = told(text)
    assert (kind, under) in [(each, shown if under else "") for each, shown in map(meant, found)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("version: 1\n  mode: enforce\n", "a ':' where no key is allowed", id="indented too far"),
        pytest.param(
            "stop_page:\n    a: 1\n  b: 2\n", "a line that belongs to nothing above it", id="indented between"
        ),
        pytest.param("contact: a: b\n", "a ':' where no key is allowed", id="two colons"),
        pytest.param("mode enforce\nlisten: 1\n", "a ':' where no key is allowed", id="no colon"),
        pytest.param("mode: @x\n", "a character that no value can begin with", id="an at sign"),
        pytest.param("mode: 'enforce\nlisten: 1\n", "a quote that is never closed", id="an open quote"),
        pytest.param("lists: [a, b\nmode: x\n", "a bracket that is not closed", id="an open bracket"),
        pytest.param("mode: x\n---\nmode: y\n", "a second document", id="two documents"),
        pytest.param("mode: *x\n", "an anchor or alias", id="an alias"),
    ],
)
def test_a_fault_of_yaml_is_told_in_plain_words_and_that_the_rest_was_not_read(text: str, message: str) -> None:
    (error,) = told(text)
    assert error.message.startswith(message)
    assert error.hint.endswith("(the rest of the file was not read)")


def test_a_value_stands_at_its_first_character() -> None:
    document = Document.read(b"a: {b: c}\nd:\n  - e\n", "x")
    places = {at: str(document.place(at)) for at in [(), ("a",), ("a", "b"), ("d",), ("d", 0), ("none",)]}
    assert places == {
        (): "x:1:1",
        ("a",): "x:1:4",
        ("a", "b"): "x:1:8",
        ("d",): "x:2:1",
        ("d", 0): "x:3:5",
        ("none",): "x:1:1",
    }
    assert document.keys["a", "b"] == Place("x", 1, 5, 1, "a: {b: c}")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\x85", "\u2028"])
def test_lines_are_counted_as_yaml_counts_them(line_end: str) -> None:
    (error,) = [each for each in told(line_end.join(["version: 1", "# é", "mod: x", ""])) if each.kind == "unknown-key"]
    assert error.where == Place("school.yaml", 3, 1, 3, "mod: x")


def test_a_byte_order_mark_moves_no_column() -> None:
    assert told("\ufeffmod: x\n")[-1].where == Place("school.yaml", 1, 1, 3, "mod: x")


def test_a_base_adds_what_is_left_out_and_keeps_its_places() -> None:
    document = Document.read(b"a: 1\nb: {c: 2}\nl: [1]\n", "own")
    document.over(Document.read(b"b:\n  c: 3\n  d: 4\nl: [2, 3]\ne: 5\na: {x: 1}\n", "base"))
    assert document.values == {"a": 1, "b": {"c": 2, "d": 4}, "l": [1], "e": 5}
    assert str(document.place(("b", "d"))) == "base:3:6"
    assert str(document.place(("b", "c"))) == "own:2:8"
    assert ("l", 1) not in document.places
