"""State directory: which one it is, and who uses it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoplist.core.policy.models import Policy
from stoplist.errors import StoplistError
from stoplist.state_directory import Holder, StateLock, holder, of_policy
from tests.rulesets import ruleset, signed

HELD = """
import sys, time
from pathlib import Path
from stoplist.state_directory import StateLock
lock = StateLock.take(Path(sys.argv[1]))
lock.say(["127.0.0.1:8080", "[::1]:8080"])
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HELD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_gate_is_told_who_holds_it(folder: Path, other: subprocess.Popen[str]):
    with pytest.raises(StoplistError) as raised:
        StateLock.take(folder)
    assert str(raised.value).startswith(
        f"{folder}: another gate uses this state directory: process {other.pid}, "
        "listening at 127.0.0.1:8080, [::1]:8080; end that gate"
    )
    assert holder(folder) == Holder(other.pid, ("127.0.0.1:8080", "[::1]:8080"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_gate_that_has_ended_holds_it_no_more(folder: Path, other: subprocess.Popen[str], number: signal.Signals):
    other.send_signal(number)
    other.wait()
    assert holder(folder) is None
    StateLock.take(folder).release()


def test_one_that_was_released_can_be_taken_again(folder: Path):
    StateLock.take(folder).release()
    again = StateLock.take(folder)
    assert holder(folder) == Holder(os.getpid(), ())
    again.release()
    again.release()
    assert holder(folder) is None


def test_who_asks_in_the_same_moment_keeps_nobody_out(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """`holder` takes the lock for a moment, and a gate that starts then tries again."""
    StateLock.take(folder).release()
    asking = os.open(folder / "lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr("stoplist.state_directory.time.sleep", lambda _: os.close(asking))
    lock = StateLock.take(folder)
    assert holder(folder) == Holder(os.getpid(), ())
    lock.release()


def test_it_is_kept_when_the_process_executes_another_program(folder: Path):
    """A supervisor that renews itself."""
    program = f"""
import os, sys
from pathlib import Path
from stoplist.state_directory import StateLock, holder
folder = Path({str(folder)!r})
if len(sys.argv) == 1:
    kept = StateLock.take(folder).keep()
    os.execv(sys.executable, [sys.executable, __file__, str(kept)])
lock = StateLock.take(folder, int(sys.argv[1]))
print(holder(folder).pid == os.getpid(), os.get_inheritable(int(sys.argv[1])))
lock.release()
print(holder(folder))
"""
    (folder.parent / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, str(folder.parent / "program.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\nNone\n"


def test_the_file_is_private_and_holds_no_more_than_the_last_words(folder: Path):
    lock = StateLock.take(folder)
    lock.say(["192.0.2.1:3128"] * 10)
    lock.say(["192.0.2.1:3128"])
    assert holder(folder) == Holder(os.getpid(), ("192.0.2.1:3128",))
    assert (folder / "lock").stat().st_mode & 0o777 == 0o600
    lock.release()


@pytest.mark.parametrize("said", [b"", b"{}", b"no JSON", b'{"pid": "x", "listening": []}', b'{"pid": 1}'])
def test_a_holder_that_has_not_said_who_it_is_is_unknown(folder: Path, other: subprocess.Popen[str], said: bytes):
    (folder / "lock").write_bytes(said)
    assert holder(folder) == Holder()
    assert str(Holder()) == "an unknown process"


def test_where_nothing_can_be_written_nothing_is_locked(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    lock = StateLock.take(tmp_path / "file" / "state")
    lock.say(["127.0.0.1:8080"])
    assert lock.keep() is None
    lock.release()


def test_nobody_knows_what_cannot_be_read(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoplistError, match=r"cannot be read .*as the gate's account"):
        holder(tmp_path / "file" / "state")


def policy(**given: str) -> Policy:
    return ruleset(signed("listed.example")).policy.model_copy(update=given)


def test_the_policy_names_it_or_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "policy.yaml"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/gate/state")
    assert of_policy(path, policy(state_dir="/var/lib/gate")) == Path("/var/lib/gate")
    assert of_policy(path, policy(state_dir="state")) == tmp_path / "state"
    assert of_policy(path, policy()) == Path("/var/lib/one")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert of_policy(path, policy()) == Path("/home/gate/state/stoplist")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/gate")
    assert of_policy(path, policy()) == Path("/home/gate/.local/state/stoplist")
