"""The command line, as transcripts: each ``*.txt`` here is a session in an empty folder.

A line ``$ command`` runs in a shell. The lines after it are what it prints: stdout as it is, stderr
behind ``! ``, and ``[status]`` where that is not 0. ``...`` stands for any text within a line. A line
``# needs PROGRAM...`` names programs without which the session is skipped, or in CI fails. A gate is run by
``run-until`` (see `run_until`): until it has said what the session waits for, however long that takes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import clocks
from tests.e2e.network import SECONDS, need

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


def _steps(text: str) -> list[tuple[str, list[str]]]:
    steps: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append((line.removeprefix("$ "), []))
        elif line and not line.startswith("# "):
            steps[-1][1].append(line)
    return steps


def _run(command: str, folder: Path, programs: Path) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "COLUMNS": "120",
            **clocks.of_this_process(),
        },
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
        check=False,
    )
    status = [f"[{done.returncode}]"] if done.returncode else []
    printed = [line for line in done.stdout.splitlines() if line]
    return [*printed, *(f"! {line}" for line in done.stderr.splitlines() if line), *status]


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(transcript: Path, tmp_path: Path, programs: Path):
    text = transcript.read_text()
    need(*re.findall(r"\S+", " ".join(re.findall(r"^# needs (.+)$", text, re.MULTILINE))))
    for command, expected in _steps(text):
        printed = _run(command, tmp_path, programs)
        pattern = "\n".join(".*".join(map(re.escape, line.split("..."))) for line in expected)
        assert re.fullmatch(pattern, "\n".join(printed)), f"$ {command}\n" + "\n".join(printed)


def test_what_is_waited_for_in_vain_is_shown(tmp_path: Path, programs: Path):
    said = _run("run-until 'never' -- sh -c 'echo something >&2'", tmp_path, programs)
    assert said[0] == "run-until: 'never' was not said within 60 s, or before the end (status 0):"
    assert said[1:] == ["something", "! something", "[1]"]


def test_there_are_transcripts():
    assert len(TRANSCRIPTS) >= 4
