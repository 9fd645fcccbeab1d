"""A policy file with what it includes: whose word stands, where paths lead, and which places faults have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stoplist import files, loading
from stoplist.core.policy.models import Policy
from stoplist.core.policy.text import _sections, names_file
from stoplist.errors import Problems
from stoplist.policyfile import MAX_DEPTH, read_policy
from tests.fixed_time import NOW
from tests.keys import LIST_KEY, make_list, new_ed25519, public_pem

BASE = """\
version: 1
lists:
  - file: lists/a.stoplist
    key: {file: a.listkey}
    trusted_keys: [a.pub]
    threshold: 1
never_block: [base.example]
stop_page:
  operator: {en: Base, fr: Socle}
  contact: it@base.example
  complaints: mailto:complaints@base.example
  legislation: {name: Example Act, link: "https://law.example/act"}
  help:
    - {topic: report, name: Example hotline, link: "https://hotline.example/"}
    - {topic: worry, name: Example helpline, link: "tel:0000"}
    - {topic: thoughts, name: Example advice, link: "https://advice.example/"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base in a folder of its own, beside that of a school."""
    for name in ("shared", "school"):
        (tmp_path / name).mkdir()
    (tmp_path / "shared" / "base.yaml").write_text(BASE)
    return tmp_path


def school(folder: Path, text: str = "", include: str = "../shared/base.yaml") -> Path:
    path = folder / "school" / "school.yaml"
    path.write_text(f"include: {include}\n{text}")
    return path


def told(path: Path) -> list[str]:
    with pytest.raises(Problems) as caught:
        read_policy(path)
    assert all(problem.hint for problem in caught.value.problems)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def test_a_base_says_what_a_policy_leaves_out(folder: Path) -> None:
    text = read_policy(school(folder, "mode: observe\n"))
    assert (text.policy.mode, text.policy.listen.port) == ("observe", 8080)
    assert text.policy.stop_page.contact.in_language("en") == "it@base.example"
    assert str(text.place("mode")) == f"{folder}/school/school.yaml:2:7"
    assert str(text.place("stop_page", "contact")) == f"{folder}/school/../shared/base.yaml:10:12"


def test_sections_are_merged_key_by_key_and_lists_are_replaced(folder: Path) -> None:
    own = "never_block: [own.example]\nstop_page:\n  operator: {en: Own}\n  contact: it@own.example\n"
    policy = read_policy(school(folder, own)).policy
    assert [host.name for host in policy.never_block] == ["own.example"]
    page = policy.stop_page
    assert [page.operator.in_language(tag) for tag in ("en", "fr")] == ["Own", "Socle"]
    assert page.contact.in_language("en") == "it@own.example"
    assert len(page.help) == 3


def test_paths_are_taken_from_the_folder_of_the_file_in_which_they_stand(folder: Path) -> None:
    signer = new_ed25519()
    (folder / "shared" / "lists").mkdir()
    (folder / "shared" / "lists" / "a.stoplist").write_bytes(make_list(["listed.example"], signer))
    (folder / "shared" / "a.pub").write_bytes(public_pem(signer))
    files.write(folder / "shared" / "a.listkey", LIST_KEY.to_text(), mode=files.PRIVATE, replace=False)
    loaded = loading.load(school(folder), now=NOW)
    assert loaded.ruleset.policy.lists[0].file == "../shared/lists/a.stoplist"
    assert loaded.ruleset.lists[0].header.count == 1


def test_an_absolute_path_in_a_base_stays_what_it_is(folder: Path) -> None:
    (folder / "shared" / "base.yaml").write_text(BASE.replace("lists/a.stoplist", "/srv/a.stoplist"))
    assert read_policy(school(folder)).policy.lists[0].file == "/srv/a.stoplist"


def fields(section: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of a policy that has no section below it, with its path."""
    for name, field in section.model_fields.items():
        inner = list(_sections(field.annotation))
        if inner:
            yield from fields(inner[0], (*path, name))
        else:
            yield (*path, name), field


@pytest.mark.parametrize(("path", "field"), [pytest.param(*each, id=".".join(each[0])) for each in fields(Policy)])
def test_every_key_that_names_a_file_is_known_to_name_one(path: tuple[str, ...], field: FieldInfo) -> None:
    """A new key of the type Text whose example looks like a file or folder wants the type FileName or FolderName."""
    looks_so = r"\.(pem|pub|key|listkey|stoplist|po|html|htpasswd|password|yaml|crt)\]?$|^/"
    assert names_file(path) == bool(re.search(looks_so, str(field.examples[0])))


def test_an_address_is_no_path(folder: Path) -> None:
    assert read_policy(school(folder)).policy.stop_page.help[1].link == "tel:0000"


def test_of_several_bases_a_later_one_stands_above_an_earlier_one(folder: Path) -> None:
    (folder / "shared" / "more.yaml").write_text("mode: observe\nlisten: 127.0.0.1:1\nnever_block: [more.example]\n")
    policy = read_policy(school(folder, "listen: 127.0.0.1:2\n", "[../shared/base.yaml, ../shared/more.yaml]")).policy
    assert (policy.mode, policy.listen.port, policy.never_block[0].name) == ("observe", 2, "more.example")


def test_a_base_has_a_base(folder: Path) -> None:
    (folder / "shared" / "deep").mkdir()
    (folder / "shared" / "deep" / "base.yaml").write_text(BASE)
    (folder / "shared" / "base.yaml").write_text("include: deep/base.yaml\nmode: observe\n")
    policy = read_policy(school(folder)).policy
    assert (policy.mode, policy.lists[0].file) == ("observe", "../shared/deep/lists/a.stoplist")
    assert policy.include == ("../shared/base.yaml",)


def test_the_reader_has_seen_what_is_included(folder: Path) -> None:
    reader = files.Reader()
    read_policy(school(folder), reader)
    (folder / "shared" / "base.yaml").write_text(BASE.replace("Base", "Other"))
    assert not reader.is_current(1 << 20)


def test_a_fault_of_a_base_is_told_where_it_stands_after_those_of_the_policy(folder: Path) -> None:
    (folder / "shared" / "base.yaml").write_text(BASE.replace("threshold: 1", "threshold: 9") + "mod: x\nlisten: y\n")
    assert [fault.partition(": ")[0] for fault in told(school(folder, "tls: x\nlisten: 127.0.0.1:1\n"))] == [
        "school.yaml:2:6",
        "../shared/base.yaml:6:16",
        "../shared/base.yaml:17:1",
    ]


@pytest.mark.parametrize(
    ("include", "fault"),
    [
        pytest.param("gone.yaml", "school.yaml:1:10: gone.yaml: no such file; put it there", id="missing"),
        pytest.param("school.yaml", "school.yaml:1:10: school.yaml: includes itself; remove", id="itself"),
        pytest.param(
            "[a.yaml, ../school/./school.yaml]", "school.yaml:1:19: ../school/./school.yaml: includes", id="again"
        ),
        pytest.param("..", "school.yaml:1:10: ..: not a file", id="a folder"),
        pytest.param('"a\\0b"', "school.yaml:1:10: a\0b: no file can have this name", id="no name"),
        pytest.param("5", "school.yaml:1:10: include: '5' is not a text", id="a number"),
        pytest.param("", "school.yaml:1:9: include: '' is not a text", id="nothing"),
        pytest.param("bad.yaml", "bad.yaml:1:7: a character that no value can begin with", id="no YAML"),
    ],
)
def test_what_cannot_be_included_is_told_and_nothing_that_it_would_have_said_is_missed(
    folder: Path, include: str, fault: str
) -> None:
    (folder / "school" / "a.yaml").write_text("mode: observe\n")
    (folder / "school" / "bad.yaml").write_text("mode: @\n")
    problems = told(school(folder, include=include))
    assert any(problem.startswith(fault) for problem in problems)
    assert len(problems) == 1 or include in ("5", "")


def test_a_circle_is_told(folder: Path) -> None:
    (folder / "shared" / "base.yaml").write_text("include: ../school/school.yaml\n" + BASE)
    assert told(school(folder)) == [
        "../shared/base.yaml:1:10: ../school/school.yaml: includes itself; remove one of the 'include' lines"
    ]


def test_a_row_of_bases_has_an_end(folder: Path) -> None:
    for number in range(MAX_DEPTH + 1):
        (folder / "school" / f"{number}.yaml").write_text(f"include: {number + 1}.yaml\n")
    (folder / "school" / f"{MAX_DEPTH - 1}.yaml").write_text(BASE)
    read_policy(school(folder, include="0.yaml"))
    (folder / "school" / f"{MAX_DEPTH - 1}.yaml").write_text(f"include: {MAX_DEPTH}.yaml\n")
    (folder / "school" / f"{MAX_DEPTH}.yaml").write_text(BASE)
    (problem,) = told(school(folder, include="0.yaml"))
    assert re.match(
        rf"{MAX_DEPTH - 1}.yaml:1:10: {MAX_DEPTH}.yaml: it is included below {MAX_DEPTH} other files, the limit; ",
        problem,
    )
