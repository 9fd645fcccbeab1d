"""What commands leave on a disk: the file that they are asked for, and nothing else."""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from stoplist.core.counts import Count, Period, cells_of
from stoplist.state import State
from tests.e2e import clocks

WORD = "q4711anna"
"""Of the names that a log, or whoever asks, tells of."""
LINE = "1795219207.1 1 192.0.2.7 TCP_TUNNEL/200 1 CONNECT {host}:443 - HIER_DIRECT/192.0.2.2 -\n"
NAMES = (f"{WORD}.listed.example", f"www.{WORD}.test")


type Run = Callable[..., str]


@pytest.fixture(scope="session")
def run(programs: Path) -> Run:
    return functools.partial(_run, programs / "stoplist")


def _run(stoplist: Path, folder: Path, *arguments: str, statuses: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [stoplist, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder / "tmp"), **clocks.of_this_process()}
        | {name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
        input="\n".join(NAMES),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in statuses, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def first_folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gate's set, and a CA."""
    folder = tmp_path_factory.mktemp("first")
    run(folder, "init", "gate")
    run(folder, "ca", "gate/policy.yaml", "--state-dir", "state", "--create")
    return folder


@pytest.fixture
def folder(first_folder: Path, tmp_path: Path) -> Path:
    """A gate's set, a state of it with a CA and counts, and a log."""
    shutil.copytree(first_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tmp").mkdir()
    now = datetime.now(UTC)
    state = State.open(tmp_path / "state", now)
    cells = cells_of({("demo", 1): True})
    state.count([Count(Period.at((now - timedelta(days=1)).timestamp(), "day"), cell, 40, 60, 0) for cell in cells])
    state.change(tmp_path / "gate" / "policy.yaml", ["mode"], now)
    state.close()
    (tmp_path / "access.log").write_text("".join(LINE.format(host=host) * 20 for host in NAMES))
    return tmp_path


def files_in(folder: Path) -> Mapping[str, tuple[bytes, int]]:
    """The bytes of each file, and its mode."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


STATE = ("--state-dir", "state")
ASKING = {
    "check": ("check", "gate/policy.yaml", "--diff", "gate/policy.yaml"),
    "lookup": ("lookup", "gate/policy.yaml", *NAMES, "-", "--explain"),
    "schema": ("schema",),
    "status": ("status", "gate/policy.yaml", *STATE),
    "status --journal": ("status", "gate/policy.yaml", *STATE, "--journal", "9"),
    "status --watch": ("status", "gate/policy.yaml", *STATE, "--watch"),
    "ca": ("ca", "gate/policy.yaml", *STATE),
    "ca --export": ("ca", "gate/policy.yaml", *STATE, "--export", "pem"),
    "report": ("report", "gate/policy.yaml", *STATE),
    "report --format html": ("report", "gate/policy.yaml", *STATE, "--format", "html"),
    "rollout": ("rollout", "gate/policy.yaml", *STATE),
    "trial": ("trial", "gate/policy.yaml", "access.log", "-", "--log-format", "hosts"),
    "trial --exact": ("trial", "gate/policy.yaml", "access.log", "--exact", "--format", "html"),
    "page": ("page", "gate/policy.yaml", "--lang", "fr"),
    "list show": ("list", "show", "gate/demo.stoplist"),
    "selftest": ("selftest", "--proxy", f"http://anna:{WORD}@127.0.0.1:9", "--timeout", "1"),
}


@pytest.mark.parametrize("command", ASKING)
def test_a_command_that_only_says_something_leaves_no_file(run: Run, folder: Path, command: str):
    before = files_in(folder)
    said = run(folder, *ASKING[command], statuses=(0, 1, 3))
    after = files_in(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"state/state.db-wal", "state/state.db-shm"}, "SQLite's, of who reads"
    assert after.get("state/state.db-wal", (b"",))[0] == b""
    assert said
    assert (WORD in said) == (command == "lookup"), "which says what it was asked for"


@pytest.mark.parametrize(
    ("options", "mode", "names"),
    [
        pytest.param((), 0o644, False, id="numbers that may be shown"),
        pytest.param(("--exact",), 0o600, False, id="exact numbers"),
        pytest.param(("--reveal",), 0o600, True, id="hosts"),
    ],
)
@pytest.mark.parametrize("output", ["table", "json", "html"])
def test_what_a_trial_writes_is_private_where_it_tells_of_people(
    run: Run, folder: Path, options: tuple[str, ...], mode: int, names: bool, output: str
):
    before = files_in(folder)
    said = run(folder, "trial", "gate/policy.yaml", "access.log", "--format", output, "-o", "result", *options)
    data, written_with = files_in(folder)["result"]
    assert {name: files_in(folder)[name] for name in before} == before
    assert set(files_in(folder)) - set(before) == {"result"}
    assert written_with == mode
    assert (NAMES[0].encode() in data) is names
    assert NAMES[1].encode() not in data, "what would pass is never told"
    assert ("keep them to yourself" in said) == bool(options)
    assert WORD not in said


@pytest.mark.parametrize("wanted", ["pem", "der", "mobileconfig", "reg"])
def test_what_is_exported_for_clients_holds_no_key_and_nobodys_name(run: Run, folder: Path, wanted: str):
    before = files_in(folder)
    run(folder, "ca", "gate/policy.yaml", *STATE, "--export", wanted, "-o", "result")
    data, _ = files_in(folder)["result"]
    assert set(files_in(folder)) - set(before) == {"result"}
    key = b"".join(before["state/ca.pem"][0].partition(b"-----END PRIVATE KEY-----")[0].split(b"\n")[1:])
    assert b"PRIVATE KEY" not in data
    assert key[:40] not in data.replace(b"\n", b"")
    certificate = x509.load_pem_x509_certificate(before["state/ca-cert.pem"][0])
    assert wanted != "der" or data == certificate.public_bytes(Encoding.DER)
    names = f"{certificate.subject} {certificate.issuer} {[each.value for each in certificate.extensions]}"
    encoding = {"der": None, "reg": "utf-16"}.get(wanted, "utf-8")
    text = data.decode(encoding) if encoding else ""
    # As a word of its own: a short name is somewhere in each base64, by chance.
    assert os.uname().nodename not in re.findall(r"[\w.+/=-]+", f"{names} {text}".replace("Stoplist gate", ""))
