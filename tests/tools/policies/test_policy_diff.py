"""Difference: what a policy would change against the one in force."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stoplist import loading
from stoplist.tools.policies import policy_diff, scaffold
from stoplist.tools.publishing import publish, signers
from stoplist.tools.publishing.domains import read_domains
from tests.fixed_time import NOW


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    scaffold.make(tmp_path / "gate", NOW)
    return tmp_path


def changed(gate: Path, *changes: tuple[str, str], more: str = "") -> list[str]:
    """What is told of a policy in the same folder that was changed so, without its first line."""
    path = gate / "gate" / "next.yaml"
    shutil.copy(gate / "gate" / "policy.yaml", path)
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text + more)
    ruleset = loading.load(path, now=NOW).ruleset
    return policy_diff.as_lines(policy_diff.between(gate / "gate" / "policy.yaml", path, ruleset, NOW))[1:]


def test_the_same_policy_changes_nothing(gate: Path) -> None:
    path = gate / "gate" / "policy.yaml"
    ruleset = loading.load(path, now=NOW).ruleset
    compared = policy_diff.between(gate / "gate" / "policy.yaml", path, ruleset, NOW)
    assert not compared
    assert policy_diff.as_lines(compared) == [f"against {gate}/gate/policy.yaml: nothing changes"]


def test_a_default_that_is_written_out_changes_nothing(gate: Path) -> None:
    assert changed(gate, more="watch: {poll: 10 seconds}\ntime_zone: UTC\nupstream: {}\n") == []


def test_values_are_told_with_their_units_and_items_by_their_names(gate: Path) -> None:
    assert changed(
        gate,
        ("grow: 50%", "grow: 20%"),
        ("[organisation.example]", "[library.example]"),
        ("period: day,", "period: day, keep: 1 year,"),
        ("operator: Example Organisation", "operator: {en: Example, fr: Exemple}"),
        more="watch: {poll: 1 min}\nclients: [10.0.0.0/8]\n",
    ) == [
        "  lists[demo].guard.grow: 50% -> 20%",
        "  + never_block: library.example",
        "  + stop_page.operator.en: Example",
        "  + stop_page.operator.fr: Exemple",
        "  counts.keep: 24 months -> 12 months",
        "  watch.poll: 10s -> 60s",
        "  + clients: 10.0.0.0/8",
        "  - never_block: organisation.example",
        "  - stop_page.operator: Example Organisation",
    ]


def test_what_becomes_of_the_names_of_the_policies_is_told(gate: Path) -> None:
    lines = changed(
        gate,
        ("www.listed.example, expect: stop", "www.listed.example, expect: pass"),
        more='exceptions: [{domain: www.listed.example, reason: "appeal", until: 2099-12-31}]\n',
    )
    assert lines[-1] == "  www.listed.example: stop (listed) -> pass (an exception of the policy)"


def test_a_new_list_is_told_in_numbers(gate: Path) -> None:
    folder = gate / "gate"
    publish.build_list(
        read_domains(["listed.example", "new.example", "newer.example"], "domains.txt"),
        list_id="demo",
        serial=2,
        expires=NOW + scaffold.LIFETIME,
        list_key=folder / "demo.listkey",
        signing_keys=[signers.from_file(folder / "keys" / name) for name in ("authority", "operator")],
        recipient="",
        output=folder / "next.stoplist",
        now=NOW,
    )
    assert changed(gate, ("demo.stoplist", "next.stoplist")) == [
        "  lists[demo].file: demo.stoplist -> next.stoplist",
        "  list demo: serial 1 -> 2, 3 -> 3 domains, 2 added, 2 removed",
    ]


def test_the_same_files_named_from_another_folder_are_no_change(gate: Path) -> None:
    (gate / "school").mkdir()
    path = gate / "school" / "policy.yaml"
    path.write_text("include: ../gate/policy.yaml\n")
    ruleset = loading.load(path, now=NOW).ruleset
    compared = policy_diff.between(gate / "gate" / "policy.yaml", path, ruleset, NOW)
    assert policy_diff.as_lines(compared)[1:] == ["  + include: policy.yaml"]


def test_scripts_get_the_same(gate: Path) -> None:
    path = gate / "gate" / "next.yaml"
    path.write_text(
        (gate / "gate" / "policy.yaml")
        .read_text()
        .replace("mode: enforce", "mode: observe")
        .replace("example, expect: stop", "example, expect: observe")
    )
    ruleset = loading.load(path, now=NOW).ruleset
    fields = policy_diff.as_fields(policy_diff.between(gate / "gate" / "policy.yaml", path, ruleset, NOW))
    assert fields["values"][0] == {"key": "mode", "before": "enforce", "after": "observe"}
    assert fields["lists"] == []
    assert fields["verdicts"] == [
        {
            "host": "www.listed.example",
            "before": {"action": "stop", "reason": "listed"},
            "after": {"action": "observe", "reason": "listed"},
        }
    ]
