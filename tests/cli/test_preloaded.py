"""The program that transcripts run does what the real one does."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.preloaded import REAL


def _outcome(program: Path, folder: Path, arguments: list[str], **environment: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        input=b"www.listed.example\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["--version"], 0, id="stdout"),
        pytest.param(["lookup", "gate/policy.yaml", "-"], 0, id="stdin"),
        pytest.param(["check", "gone.yaml"], 1, id="stderr, and it is refused"),
        pytest.param(["chek"], 2, id="wrong usage"),
    ],
)
def test_a_command_ends_as_the_real_one_does(programs: Path, tmp_path: Path, arguments: list[str], status: int):
    assert _outcome(REAL, tmp_path, ["init", "gate"])[0] == 0
    real = _outcome(REAL, tmp_path, arguments, COLUMNS="60")
    assert real[0] == status
    assert _outcome(programs / "stoplist", tmp_path, arguments, COLUMNS="60") == real


def test_a_signal_comes_to_the_command(programs: Path, tmp_path: Path):
    assert _outcome(programs / "stoplist", tmp_path, ["init", "gate"])[0] == 0
    gate = subprocess.Popen(
        [programs / "stoplist", "run", "gate/policy.yaml", "--listen", "127.0.0.1:0", "--state-dir", "state"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert gate.stderr is not None
    while "listening on" not in gate.stderr.readline():
        assert gate.poll() is None
    gate.send_signal(signal.SIGTERM)
    gate.communicate(timeout=60)
    assert gate.returncode == 0


def test_where_python_is_to_import_something_else_it_is_the_real_one(programs: Path, tmp_path: Path):
    (tmp_path / "click.py").write_text("print('another click')\n")
    status, said, _ = _outcome(programs / "stoplist", tmp_path, ["--version"], PYTHONPATH=str(tmp_path))
    assert (status, said) == (1, b"another click\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_what_is_closed_is_closed_for_the_command(programs: Path, tmp_path: Path, closed: str):
    assert _outcome(REAL, tmp_path, ["init", "gate"])[0] == 0
    command = f'program="$1"; cd "$2" && exec "$program" lookup gate/policy.yaml - {closed}'
    real, preloaded = (
        _outcome(Path("/bin/sh"), tmp_path, ["-c", command, "sh", str(program), str(tmp_path)])
        for program in (REAL, programs / "stoplist")
    )
    assert preloaded == real
