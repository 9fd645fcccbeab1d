"""Faults as they are shown: to people with and without colours, to scripts, and as SARIF."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stoplist.core.policy.document import PolicyError
from stoplist.errors import Place, Problems, StoplistError
from stoplist.tools.policies import problem_output

VALUE = PolicyError("mode: 'on' is wrong", hint="write", place=Place("a b.yaml", 2, 7, 2, "mode: on"), kind="value")
GONE = StoplistError("no such file", hint="put it there", place="/srv/gate/list")


def test_people_see_the_fault_and_then_the_line() -> None:
    assert problem_output.as_text(Problems([VALUE, GONE]), 80).split("\n") == [
        "a b.yaml:2:7: mode: 'on' is wrong; write",
        "    2 | mode: on",
        "      |       ^^",
        "/srv/gate/list: no such file; put it there",
    ]


def test_a_style_adds_nothing_but_itself() -> None:
    styled = problem_output.as_text(Problems([VALUE, GONE]), 80, styled=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", styled) == problem_output.as_text(Problems([VALUE, GONE]), 80)
    assert "\x1b[1ma b.yaml:2:7\x1b[0m: mode" in styled
    assert "\x1b[31m\x1b[1m^^\x1b[0m" in styled


def test_scripts_get_fields() -> None:
    assert problem_output.as_fields(VALUE) == {
        "rule": "value",
        "message": "mode: 'on' is wrong",
        "hint": "write",
        "file": "a b.yaml",
        "line": 2,
        "column": 7,
    }
    assert [problem_output.as_fields(GONE)[key] for key in ("rule", "file", "line")] == [
        "input",
        "/srv/gate/list",
        None,
    ]


def test_sarif_has_what_the_standard_asks_for() -> None:
    """SARIF 2.1.0: sections 3.13 (log), 3.14 (run), 3.27 (result), 3.29 (physical location), 3.30 (region)."""
    log = json.loads(json.dumps(problem_output.as_sarif([VALUE], [GONE])))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "stoplist"
    rules = {rule["id"] for rule in driver["rules"]}
    assert len(rules) == len(driver["rules"])
    wrong, gone = run["results"]
    assert [(result["ruleId"], result["level"]) for result in (wrong, gone)] == [
        ("value", "error"),
        ("input", "warning"),
    ]
    assert {wrong["ruleId"], gone["ruleId"]} <= rules
    assert all(result["message"]["text"] for result in (wrong, gone))
    places = [result["locations"][0]["physicalLocation"] for result in (wrong, gone)]
    assert places == [
        {
            "artifactLocation": {"uri": "a%20b.yaml"},
            "region": {"startLine": 2, "startColumn": 7, "endColumn": 9},
        },
        {"artifactLocation": {"uri": "file:///srv/gate/list"}},
    ]


@pytest.mark.parametrize("kind", ["syntax", "unknown-key", "duplicate-key", "missing-key", "value", "input", "test"])
def test_every_kind_of_fault_is_a_rule(kind: str) -> None:
    (run,) = problem_output.as_sarif([], [])["runs"]
    assert kind in {rule["id"] for rule in run["tool"]["driver"]["rules"]}


def test_the_hook_for_pre_commit_runs_check() -> None:
    text = (Path(__file__).parents[3] / ".pre-commit-hooks.yaml").read_text()
    assert "entry: stoplist check\n" in text
