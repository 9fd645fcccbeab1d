"""The screen of `status --watch` at any width: the name of a list is always there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from stoplist.state_directory import Holder
from stoplist.state_records import RememberedList
from stoplist.tools.status.lists import ListStatus
from stoplist.tools.status.running_gate import RunningGate
from stoplist.tools.status.watch import Look, WatchedList
from stoplist.tools.status.watch_screen import draw
from tests.fixed_time import NOW
from tests.rulesets import signed


def _screen(width: int) -> list[str]:
    listed = signed("listed.example")
    in_force = RememberedList(listed.header, (), "2026-11-20T12:00:00Z", listed.payload_digest)
    status = ListStatus(Path("worst-of.stoplist"), in_force, None, None, True, NOW)
    running = RunningGate(Holder(17, ("127.0.0.1:8080",)), ())
    look = Look(
        NOW, "policy.yaml", "Example School", (WatchedList(status, True),), (), (), (), running, None, "no metrics"
    )
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(look, None, width, is_live=False))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 75, 76, 80, 120])
def test_the_name_of_a_list_has_its_column(width: int) -> None:
    lines = _screen(width)
    (row,) = [line for line in lines if "enforced" in line]
    assert row.split()[0] == "worst-of"
    assert row.split()[-2:] == ["in", "force"]
    assert max(map(len, lines)) <= width
    assert any("process 17, listening at 127.0.0.1:8080" in line for line in lines)


def test_a_narrow_screen_leaves_out_what_is_least_urgent() -> None:
    assert "domains" in " ".join(_screen(80))
    assert "domains" not in " ".join(_screen(60))
