"""The program as it is packaged: its manual page, and what its wheel carries besides the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = ROOT / "docs" / "stoplist.1"


def test_the_manual_page_says_what_the_help_says():
    """Make it new with: stoplist man > docs/stoplist.1"""
    command = [sys.executable, "-m", "stoplist", "man"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == PAGE.read_text()


def test_the_manual_page_is_one_for_man():
    for line in PAGE.read_text().splitlines():
        assert not line.startswith((".", "'")) or re.match(r"\.(TH|SH|SS|TP|B|PP|nf|fi)\b", line), line


def test_what_the_wheel_carries_is_there():
    carried = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert all((ROOT / name).exists() for name in carried)
    assert {"addon/load.py", "deploy/grafana", "docs/stoplist.1"} <= carried.keys()


def test_a_registry_is_shown_no_link_that_leads_nowhere():
    text = (ROOT / "README.md").read_text()
    for each in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
    assert "docs/operations.md" in text
