"""What the documents say of commands and files is true."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from stoplist.cli import main

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands(group: click.Group, prefix: str = "stoplist") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= _commands(command, f"{prefix} {name}")
        else:
            found[f"{prefix} {name}"] = command
    return found


COMMANDS = _commands(main)


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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_use_reserved_names_only(path: Path):
    for name in re.findall(r"https?://([a-z0-9.-]+)", path.read_text()):
        assert name.endswith((".example", ".test", ".invalid", ".localhost", "mitmproxy.org")), name
