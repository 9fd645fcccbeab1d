"""The dependencies that pyproject.toml declares, and requirements.lock, which pins them.

Each check is a function from text to the faults it finds. A second test shows it bad examples, because a check that
reads nothing finds nothing either.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
LOCK = (ROOT / "requirements.lock").read_text()
LOWER = {">", ">=", "==", "===", "~="}
UPPER = {"<", "<=", "!=", "==", "===", "~="}
PLACE = re.compile(
    r"://|--(?:extra-)?index-url|--find-links|(?:^|\s)/\w|\b[a-z0-9-]+\.(?:com|dev|io|net|org)\b", re.IGNORECASE
)


def _operators(requirement: str) -> set[str]:
    return {specifier.operator for specifier in Requirement(requirement).specifier}


def _declared(project: str) -> list[str]:
    """Return every requirement of the project, but not the project's own name in its extras."""
    tables = tomllib.loads(project)
    own = tables["project"]["name"]
    extras = tables["project"].get("optional-dependencies", {}).values()
    groups = [tables["build-system"]["requires"], tables["project"]["dependencies"], *extras]
    return [text for group in groups for text in group if Requirement(text).name != own]


def _without_lower_bound(project: str) -> list[str]:
    return [text for text in _declared(project) if not _operators(text) & LOWER]


def _upper_bounds_without_reason(project: str) -> list[str]:
    """Return the requirements with an upper bound and no comment on their line or on the line above."""
    lines = project.splitlines()
    faults: list[str] = []
    for text in _declared(project):
        if not _operators(text) & UPPER:
            continue
        for number, line in enumerate(lines):
            _, quoted, rest = line.partition(f'"{text}"')
            if quoted and not (re.search(r"#\s*\w", rest) or re.match(r"\s*#\s*\w", lines[number - 1])):
                faults.append(text)
    return faults


def _locked(lock: str) -> dict[str, list[str]]:
    """Return the words of each requirement in the lock: first the requirement itself, then its options."""
    joined = re.sub(r"\\\n\s*", " ", lock)
    lines = [line.split(" --") for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {canonicalize_name(Requirement(words[0]).name): [word.strip() for word in words] for words in lines}


def _not_locked(project: str, lock: str) -> list[str]:
    """Return the run-time requirements that the lock leaves out, or pins at a version that they do not allow."""
    locked = _locked(lock)
    faults: list[str] = []
    for text in tomllib.loads(project)["project"]["dependencies"]:
        wanted = Requirement(text)
        words = locked.get(canonicalize_name(wanted.name))
        pin = re.search(r"==([^\s;]+)", words[0]) if words else None
        if not pin or not wanted.specifier.contains(pin[1], prereleases=True):
            faults.append(text)
    return faults


def _without_hash(lock: str) -> list[str]:
    return [
        name
        for name, (_, *options) in _locked(lock).items()
        if not any(re.fullmatch(r"hash=sha256:[0-9a-f]{64}", option) for option in options)
    ]


def _places(lock: str) -> list[str]:
    return [line for line in lock.splitlines() if PLACE.search(line)]


def _project(*dependencies: str) -> str:
    listed = "\n".join(dependencies)
    return f'[build-system]\nrequires = []\n[project]\nname = "own"\ndependencies = [\n{listed}\n]\n'


HASH = f"--hash=sha256:{'0' * 64}"


def test_every_direct_dependency_has_a_lower_bound():
    assert _declared(PROJECT)
    assert _without_lower_bound(PROJECT) == []


@pytest.mark.parametrize("text", ["some", "some<3", "some!=2.1", "some[extra]; sys_platform == 'linux'"])
def test_a_dependency_without_a_lower_bound_is_found(text: str):
    assert _without_lower_bound(_project(f'"{text}",')) == [text]


def test_every_upper_bound_has_its_reason_in_a_comment():
    assert _upper_bounds_without_reason(PROJECT) == []


@pytest.mark.parametrize("bound", ["<3", "<=3", "!=2.1", "==2.1", "~=2.1", ">=2,<3"])
def test_an_upper_bound_without_a_reason_is_found(bound: str):
    wanted = f'"some{bound}",'
    assert _upper_bounds_without_reason(_project(wanted)) == [f"some{bound}"]
    assert _upper_bounds_without_reason(_project(wanted + "  #")) == [f"some{bound}"]
    assert _upper_bounds_without_reason(_project(wanted + "  # 3 drops a function")) == []
    assert _upper_bounds_without_reason(_project("# 3 drops a function", wanted)) == []


def test_the_lock_holds_every_run_time_dependency_at_a_version_that_is_allowed():
    assert _not_locked(PROJECT, LOCK) == []


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param("", id="missing"),
        pytest.param(f"some==1.9 \\\n    {HASH}\n", id="older"),
        pytest.param(f"some==3.0 ; python_version < '3.14' \\\n    {HASH}\n", id="newer"),
        pytest.param(f"some>=2 \\\n    {HASH}\n", id="not pinned"),
    ],
)
def test_a_dependency_that_the_lock_does_not_hold_is_found(lock: str):
    assert _not_locked(_project('"Some>=2,<3",'), lock) == ["Some>=2,<3"]


def test_every_requirement_in_the_lock_has_a_hash():
    assert _locked(LOCK)
    assert _without_hash(LOCK) == []


@pytest.mark.parametrize("options", ["", " \\\n    --hash=md5:00", " \\\n    --hash=sha256:00"])
def test_a_requirement_without_a_hash_is_found(options: str):
    assert _without_hash(f"some==2.0{options}\nother==1.0 \\\n    {HASH}\n") == ["some"]


def test_the_lock_names_no_host_and_no_folder_of_the_machine_that_made_it():
    assert _places(LOCK) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://registry.example/simple",
        "--find-links wheels",
        "some @ file:///srv/some.whl",
        "#    uv pip compile -o /srv/requirements.lock",
        "# from registry.org",
    ],
)
def test_a_host_or_a_folder_in_the_lock_is_found(line: str):
    assert _places(f"some==2.0\n{line}\n") == [line]
