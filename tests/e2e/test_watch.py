"""`status --watch` in a real terminal: a gate at work, at any width, and nothing of what is asked for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import SECONDS, STOPLIST, Gate, Network, need, wait_until

METRICS = "metrics: {listen: 127.0.0.1:9464}\n"
EXCEPTIONS = """\
exceptions:
  - {domain: excepted.listed.test, reason: appeal 14 upheld, until: 2098-01-31}
  - {domain: ended.listed.test, reason: appeal 9 upheld, until: 2020-01-31}
"""
HOSTS = ("listed.test", "stopped.example", "pass.test")


@dataclass(frozen=True)
class Terminal:
    """A terminal of tmux."""

    socket: Path

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return done.stdout

    def screen(self, *options: str) -> str:
        return self.run("capture-pane", "-p", *options)

    def wait_for(self, pattern: str) -> str:
        wait_until(lambda: re.search(pattern, self.screen()) is not None, pattern)
        return self.screen()


@contextmanager
def _terminal(folder: Path, width: int, command: list[str], **environment: str) -> Iterator[Terminal]:
    need("tmux")
    terminal = Terminal(folder / f"tmux-{time.monotonic_ns()}")
    settings = [each for name, value in environment.items() for each in ("-e", f"{name}={value}")]
    program = f"{shlex.join(command)}; echo ended with $?; exec cat"
    terminal.run("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", "40", *settings, "sh", "-c", program)
    try:
        yield terminal
    finally:
        terminal.run("kill-server")


def _command(net: Network, desk: Desk, gate: Gate) -> list[str]:
    return net.enter(str(STOPLIST), "status", str(desk.policy), "--state-dir", str(gate.state_dir), "--watch")


@contextmanager
def _running(net: Network, desk: Desk, state: Path, *options: str, keys: str = METRICS + EXCEPTIONS) -> Iterator[Gate]:
    desk.policy.write_text(desk.policy.read_text() + keys)
    gate = net.gate(desk.policy, state, *options)
    try:
        yield gate
    finally:
        gate.process.end()


def _python_path() -> dict[str, str]:
    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


@pytest.mark.campaign
@pytest.mark.parametrize("width", [80, 200])
def test_a_gate_at_work_is_shown_and_nothing_of_what_is_asked_for(net: Network, desk: Desk, tmp_path: Path, width: int):
    with (
        _running(net, desk, tmp_path / "state", "--workers", "2") as gate,
        _terminal(tmp_path, width, _command(net, desk, gate), **_python_path()) as terminal,
    ):
        terminal.wait_for("2 of 2 serve")
        shown: list[str] = []

        def are_tunnels_shown() -> bool:
            for host in HOSTS:
                for scheme in ("http", "https"):
                    gate.curl(f"{scheme}://www.{host}/", trust=net.origin_ca)
            shown.append(terminal.screen())
            return len(shown) >= 4 and re.search(r"new tunnels +[0-9.]*[1-9]", shown[-1]) is not None

        wait_until(are_tunnels_shown, "new tunnels")
        screen = shown[-1]
        for expected in (
            *("Example School (policy.yaml)", " UTC", "test ", "enforced", "in force", "ready", "0 restarted"),
            *("open tunnels", "from clients", "half within", "ends next", "exceptions[2]: remove from the policy"),
        ):
            assert expected in screen
        for each in shown:
            assert not any(host in each for host in HOSTS)
            assert "stopped" not in each
        lines = screen.splitlines()
        assert max(map(len, lines)) <= width
        assert sum(bool(line.strip()) for line in lines) <= 24
        terminal.run("send-keys", "q")
        terminal.wait_for("ended with 0")


def test_colours_are_the_terminals_own_and_can_be_left_out(net: Network, desk: Desk, tmp_path: Path):
    with _running(net, desk, tmp_path / "state") as gate:
        for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            with _terminal(tmp_path, 80, _command(net, desk, gate), **_python_path(), **more) as terminal:
                terminal.wait_for("ready")
                escapes = set(re.findall(r"\x1b\[([0-9;]*)m", terminal.screen("-e")))
            codes = {int(code) for each in escapes for code in each.split(";") if code}
            assert any(30 <= code <= 37 for code in codes) is coloured
            assert codes <= {0, 1, 31, 32, 39, 49}, "no colour of a background, none that is not the terminal's own"


def test_without_metrics_it_shows_the_lists_and_says_how_to_turn_them_on(net: Network, desk: Desk, tmp_path: Path):
    with (
        _running(net, desk, tmp_path / "state", keys="") as gate,
        _terminal(tmp_path, 80, _command(net, desk, gate), **_python_path()) as terminal,
    ):
        screen = terminal.wait_for("no metrics")
        assert "add 'metrics: {listen: 127.0.0.1:9464}'" in " ".join(screen.split())
        assert "enforced" in screen
        assert f"process {gate.process.pid}, listening at 127.0.0.1:" in screen


def test_a_gate_that_goes_and_comes_back_is_seen(net: Network, desk: Desk, tmp_path: Path):
    with (
        _running(net, desk, tmp_path / "state") as gate,
        _terminal(tmp_path, 80, _command(net, desk, gate), **_python_path()) as terminal,
    ):
        terminal.wait_for("ready")
        gate.process.end()
        terminal.wait_for("no answer at port 9464")
        terminal.wait_for("no gate is running here")
        again = net.gate(desk.policy, gate.state_dir)
        terminal.wait_for(" ready")
        again.process.end()


def test_where_there_is_no_terminal_it_is_shown_once(net: Network, desk: Desk, tmp_path: Path):
    with _running(net, desk, tmp_path / "state") as gate:

        def once() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                _command(net, desk, gate),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )

        fine = once()
        assert (fine.returncode, fine.stderr) == (0, "")
        assert "\x1b" not in fine.stdout
        assert "ready" in fine.stdout
        assert f", process {gate.process.pid}\n" in fine.stdout
        assert "q ends" not in fine.stdout
        desk.list.write_bytes(b"nonsense")
        gate.process.wait_for("a list is refused")
        bad = once()
        assert bad.returncode == 1
        assert "needs a person: test: the file on disk is refused" in bad.stdout
        with suppress(FileNotFoundError):
            desk.list.unlink()
