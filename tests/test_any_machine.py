"""Tests may run on a slow machine, and be started in any way: the outcome does not depend on it."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
IGNORING = 'trap "" HUP INT QUIT TERM USR1 USR2; exec '
"""Begins a command of a shell as nohup(1) and a shell without job control do, and worse."""


def _ignored_by_a_child(*before: str) -> set[int]:
    command = [*before, "grep", "^SigIgn:", "/proc/self/status"]
    mask = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def test_a_shell_can_have_its_children_ignore_signals():
    """Or the tests below would show nothing."""
    ignored = _ignored_by_a_child("sh", "-c", IGNORING + '"$@"', "sh")
    assert {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM} <= ignored


def test_a_process_of_a_test_ignores_no_signal():
    assert _ignored_by_a_child() == set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nor_does_it_where_pytest_was_started_with_signals_ignored():
    this = f"{__file__}::{test_a_process_of_a_test_ignores_no_signal.__name__}"
    for processes in ("0", "1"):  # in this process, and in a worker of pytest-xdist
        command = shlex.join([sys.executable, "-m", "pytest", "-q", "-n", processes, "-p", "no:cacheprovider", this])
        done = subprocess.run(["sh", "-c", IGNORING + command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_property_has_a_deadline():
    assert settings().deadline is None


def test_no_property_has_to_make_its_data_in_time():
    """Settings of one test replace those for all."""
    assert HealthCheck.too_slow in settings().suppress_health_check
    for module in sorted((ROOT / "tests").rglob("*.py")):
        for suppressed in re.findall(r"suppress_health_check=\[([^]]*)\]", module.read_text()):
            assert "HealthCheck.too_slow" in suppressed, module
