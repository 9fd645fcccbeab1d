"""What the system refuses is an error like any other: place, value and remedy, and no traceback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.network import SECONDS, STOPLIST, need

POLICY = str(Path(__file__).parent.parent.parent / "policies" / "demo.yaml")
NOBODY = 65534


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that this account may not enter, once it has no capabilities."""
    folder = tmp_path / "closed"
    folder.mkdir()
    if os.geteuid() == 0:
        folder.chmod(0o700)
        os.chown(folder, NOBODY, NOBODY)
    else:
        folder.chmod(0)
    return folder


def run(*arguments: str, home: Path, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    plain: Sequence[str] = ()
    if os.geteuid() == 0:
        need("setpriv")
        plain = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    command = [*plain, "env", f"HOME={home}", str(STOPLIST), *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False)


COMMANDS = {
    "run": ("run", POLICY, "--listen", "127.0.0.1:0", "--state-dir", "{closed}/state"),
    "run in a home that is closed": ("run", POLICY, "--listen", "127.0.0.1:0"),
    "run with workers": ("run", POLICY, "--listen", "127.0.0.1:0", "--workers", "1", "--state-dir", "{closed}/state"),
    "run a policy": ("run", "{closed}/policy.yaml"),
    "check": ("check", "{closed}/policy.yaml"),
    "lookup": ("lookup", "{closed}/policy.yaml", "listed.example"),
    "init": ("init", "{closed}/new"),
    "page": ("page", POLICY, "-o", "{closed}/page.html"),
    "status": ("status", POLICY, "--state-dir", "{closed}/state"),
    "status --watch": ("status", POLICY, "--watch", "--state-dir", "{closed}/state"),
    "status --journal": ("status", POLICY, "--journal", "3", "--state-dir", "{closed}/state"),
    "ca": ("ca", POLICY, "--state-dir", "{closed}/state"),
    "ca --create": ("ca", POLICY, "--create", "--state-dir", "{closed}/state"),
    "ca --export": ("ca", POLICY, "--export", "pem", "--state-dir", "{closed}/state"),
    "report": ("report", POLICY, "--state-dir", "{closed}/state"),
    "rollout": ("rollout", POLICY, "--state-dir", "{closed}/state"),
    "trial": ("trial", POLICY, "{closed}/access.log"),
    "trial --known": ("trial", POLICY, POLICY, "--known", "{closed}/sites.txt"),
    "list show": ("list", "show", "{closed}/demo.stoplist"),
    "list keygen": ("list", "keygen", "{closed}/key"),
    "list release": ("list", "release", POLICY, "--serial", "1", "--state-dir", "{closed}/state"),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_folder_that_one_may_not_enter_is_named_with_a_remedy(closed: Path, arguments: tuple[str, ...]):
    done = run(*(each.format(closed=closed) for each in arguments), home=closed)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    of_it = [line for line in done.stderr.splitlines() if str(closed) in line]
    assert len(of_it) == 1, done.stderr
    assert "ermission denied); " in of_it[0]
    assert "fault" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("status", "--help"),
        ("schema",),
        ("lookup", POLICY, "a.example"),
        ("page", POLICY),
        ("check", POLICY),
    ],
    ids=" ".join,
)
def test_a_full_stdout_is_said_once(tmp_path: Path, arguments: tuple[str, ...]):
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, home=tmp_path, stdout=full.fileno())
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert said == [
        "stdout: cannot be written (no space left on device); free some space on the disk, or redirect the output"
    ]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)
    done = run("schema", home=tmp_path, stdout=writer)
    os.close(writer)
    assert "Traceback" not in done.stderr
