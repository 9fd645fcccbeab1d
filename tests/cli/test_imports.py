"""A command loads what it needs: monitoring runs one each minute."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"mitmproxy", "numpy", "pydantic", "securesystemslib", "jinja2", "babel", "yaml", "rich", "publicsuffixlist"}
OF_POLICIES = HEAVY - {"numpy", "securesystemslib", "publicsuffixlist"}

PROGRAM = """
import sys
from stoplist.cli import main
print(main(sys.argv[1:], prog_name="stoplist", standalone_mode=False))
print(*sys.modules)
"""


def loaded(*command: str) -> tuple[str, set[str]]:
    """What a command ends with, and the modules that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command], capture_output=True, text=True, timeout=60, check=True
    )
    *_, result, modules = done.stdout.splitlines()
    return result, set(modules.split())


@pytest.mark.parametrize("command", [["--version"], ["selftest", "--help"]], ids=" ".join)
def test_what_is_asked_of_the_program_alone_loads_no_library(command: list[str]) -> None:
    result, modules = loaded(*command)
    assert result == "0"
    assert not HEAVY & modules


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_self_test_loads_no_policy_list_or_gate(format_: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        result, modules = loaded("selftest", "--proxy", proxy, "--format", format_)
    assert result == "3"
    assert "stoplist.tools.selftest.checks" in modules
    assert not HEAVY & modules


def test_a_publishers_command_loads_no_policy_and_no_gate() -> None:
    result, modules = loaded("list", "--help")
    assert result == "0"
    assert "stoplist.tools.publishing.publish" in modules
    assert not OF_POLICIES & modules


def test_the_list_of_commands_loads_no_gate() -> None:
    result, modules = loaded("--help")
    assert result == "0"
    assert "stoplist.cli.gate" in modules
    assert "mitmproxy" not in modules


def test_a_gate_loads_of_mitmproxy_what_it_uses(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = "{}:{}".format(*other.getsockname())
        program = PROGRAM.replace(
            "print(main", "import atexit\natexit.register(lambda: print(*sys.modules))\nprint(main"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "run", "--listen", address, "--state-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "cannot listen" in done.stderr
    modules = set(done.stdout.split())
    assert "mitmproxy.addons.proxyserver" in modules
    assert not {"flask", "ldap3", "mitmproxy.addons.dumper"} & modules
