"""The policies that admins copy: each one loads with its list and keys, and its tests hold, today and in ten years."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from stoplist import clock, loading
from stoplist.core.policy.models import Policy
from stoplist.core.policy.text import PolicyText

# machine's clock: people copy them on any day

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "policies"
POLICIES = sorted(FOLDER.glob("*.yaml"))
IN_TEN_YEARS = clock.now() + timedelta(days=3653)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policy_loads_with_all_that_it_names(path: Path):
    loaded = loading.load(path, now=clock.now())
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


# Nothing in the repository that people copy goes bad


COPIED = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md")),
    *(path for folder in ("docs", "deploy", "policies", "addon") for path in sorted((ROOT / folder).rglob("*"))),
]
LAST_DAY = re.compile(r"(?:until: ?|--expires |expires_on: )['\"]?(\d{4}-\d\d-\d\d)")


def _last_days(path: Path) -> list[date]:
    try:
        return [date.fromisoformat(day) for day in LAST_DAY.findall(path.read_text())]
    except UnicodeDecodeError:
        return []


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policy_is_as_good_in_ten_years(path: Path):
    loaded = loading.load(path, now=IN_TEN_YEARS)
    assert not loaded.faults
    assert list(map(str, loaded.warnings)) == list(map(str, loading.load(path, now=clock.now()).warnings))
    assert not [signed for signed in loaded.ruleset.lists if signed.expired(IN_TEN_YEARS)]
    assert not [each for each in loaded.ruleset.policy.exceptions if each.until <= IN_TEN_YEARS.date()]


def test_no_example_of_a_last_day_is_past_in_ten_years():
    found = {path: _last_days(path) for path in COPIED if path.is_file()}
    assert sum(map(len, found.values())) >= 8
    assert not {path: days for path, days in found.items() if days and min(days) <= IN_TEN_YEARS.date()}
