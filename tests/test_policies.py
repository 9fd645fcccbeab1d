"""The policies that admins copy: each one loads with its list and keys, and its tests hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stoplist import clock, loading
from stoplist.core.policy import Policy, PolicyText

FOLDER = Path(__file__).parent.parent / "policies"
POLICIES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policy_loads_with_all_that_it_names(path: Path):
    loaded = loading.load(path, now=clock.now())  # machine's clock: people copy them today
    assert not loaded.faults
    assert loaded.ruleset.lists[0].header.list == "demo"


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policy_tests_a_stop_and_a_pass(path: Path):
    policy = loading.read_policy(path).policy
    assert {"stop", "pass"} <= {test.expect for test in policy.tests}


def test_the_four_policies_are_there():
    assert [path.stem for path in POLICIES] == ["demo", "enterprise", "school", "trial"]


def test_every_key_is_explained_in_one_of_them():
    text = "".join(path.read_text() for path in POLICIES)
    keys = set(Policy.model_fields)
    assert keys == {key for key in keys if f"\n{key}:" in text or f"\n# {key}:" in text}


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_what_is_commented_out_is_right_as_well(path: Path):
    text = path.read_text()
    for line, key in re.findall(rf"^# (({'|'.join(Policy.model_fields)}): \S.*)$", text, re.MULTILINE):
        if f"\n{key}:" not in text:
            PolicyText.parse(f"{text}\n{line}\n".encode(), path.name)


def test_the_demo_is_what_a_gate_without_a_policy_runs():
    assert loading.demo_policy().resolve() == FOLDER / "demo.yaml"


def test_no_private_key_is_among_them():
    assert not [path for path in FOLDER.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
