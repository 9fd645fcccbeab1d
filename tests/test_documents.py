"""What the documents say of commands and files is true."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from stoplist.cli import main

ROOT = Path(__file__).parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", CHANGELOG),
    *sorted((ROOT / "docs").rglob("*.md")),
]
DECISIONS = ROOT / "docs" / "decisions"


def _commands(group: click.Group, context: click.Context) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, parent=context, info_name=name)
        found |= _commands(command, below) if isinstance(command, click.Group) else {below.command_path: command}
    return found


COMMANDS = _commands(main, click.Context(main, info_name="stoplist"))

WITH_EVIDENCE = {name: (ROOT / "docs" / name).read_text() for name in ("threat-model.md", "privacy.md")}
CITED = sorted(
    words
    for words in set(re.findall(r"`([^`\n]*)`", "".join(WITH_EVIDENCE.values())))
    if "::" in words or words.startswith("tests/")
)


@functools.cache
def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@dataclass(frozen=True)
class Table:
    """One of a document, under its last heading."""

    heading: str
    head: list[str]
    rows: list[list[str]]

    @property
    def says_what_shows_it(self) -> bool:
        return self.head[-1] == "shown by"


def _tables(text: str) -> list[Table]:
    tables, heading, is_open = list[Table](), "", False
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            is_open = False
            continue
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if not is_open:
            tables.append(Table(heading, cells, []))
        elif set(cells[0]) != {"-"}:
            tables[-1].rows.append(cells)
        is_open = True
    return tables


TABLES = {name: _tables(text) for name, text in WITH_EVIDENCE.items()}
OUTSIDE = "outside the gate"
"""What shows what happens where the program does nothing: the record says so in one table only."""
OF_THE_OPERATOR = "What would change this"


def _rows(name: str) -> list[object]:
    return [
        pytest.param(table, cells, id=cells[0])
        for table in TABLES[name]
        if table.says_what_shows_it
        for cells in table.rows
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_in_an_example_of_that_command(name: str):
    assert re.search(rf"Example:\n  {name} \S", COMMANDS[name].epilog or "")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists(path: Path):
    for words in re.findall(
        r"stoplist ((?:list )?[a-z]+)\b(?= [A-Z-]|`| [a-z./-]+\.(?:yaml|txt|stoplist))", path.read_text()
    ):
        assert f"stoplist {words}" in COMMANDS, words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_exists(path: Path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", [each for each in DOCUMENTS if each != CHANGELOG], ids=lambda path: path.name)
def test_every_module_that_a_document_names_exists(path: Path):
    named = set(re.findall(r"(?<![\w/.])((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|html))\b", path.read_text()))
    folders = (ROOT, ROOT / "addon" / "stoplist", ROOT / "addon" / "stoplist" / "proxy" / "mitm" / "layers")
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)] == []


def test_the_index_of_decisions_is_complete():
    index = (DECISIONS / "README.md").read_text()
    titles = {each.name: each.read_text().splitlines()[0].lstrip("# 0123456789.:") for each in DECISIONS.glob("0*.md")}
    assert dict(re.findall(r"\[(.*)\]\((\d.*\.md)\)", index)) == {title: name for name, title in titles.items()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_use_reserved_names_only(path: Path):
    for name in re.findall(r"https?://([a-z0-9.-]+)", path.read_text()):
        assert name.endswith((".example", ".test", ".invalid", ".localhost", "mitmproxy.org")), name


@pytest.mark.parametrize("cited", CITED)
def test_every_test_that_a_document_cites_exists(cited: str):
    match = re.fullmatch(r"(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)", cited)
    assert match, "not 'tests/FILE.py::NAME'"
    assert match[2] in _tests_in(ROOT / match[1])


@pytest.mark.parametrize("name", WITH_EVIDENCE)
def test_tests_are_cited_in_one_form(name: str):
    text = WITH_EVIDENCE[name]
    assert text.count("::") == len(re.findall(r"`tests/[^`\s]*::[^`\s]*`", text))


@pytest.mark.parametrize(("table", "cells"), _rows("threat-model.md"))
def test_every_row_of_the_threat_model_cites_a_test_or_says_that_there_is_none(table: Table, cells: list[str]):
    assert "::" in cells[-1] or re.fullmatch(r"by design.*, not tested(: .*)?", cells[-1])


@pytest.mark.parametrize(("table", "cells"), _rows("privacy.md"))
def test_every_row_of_the_record_cites_a_test_or_lies_outside_the_gate(table: Table, cells: list[str]):
    assert len(cells) == len(table.head)
    if table.heading == OF_THE_OPERATOR and cells[-1] == OUTSIDE:
        return
    assert re.fullmatch(r"`tests/[^`]*::[^`]*`(, `tests/[^`]*::[^`]*`)*", cells[-1])


def test_every_table_of_the_record_but_its_summary_says_what_shows_it():
    headings = [table.heading for table in TABLES["privacy.md"] if not table.says_what_shows_it]
    assert headings == ["In short"]
    assert OF_THE_OPERATOR in {table.heading for table in TABLES["privacy.md"]}


def test_only_one_table_says_that_something_lies_outside_the_gate():
    said = [
        (name, table.heading)
        for name, tables in TABLES.items()
        for table in tables
        for cells in table.rows
        if any(OUTSIDE in cell for cell in cells)
    ]
    assert set(said) == {("privacy.md", OF_THE_OPERATOR)}
    assert len(said) == 3, "swap, records beside the gate, changed code"
