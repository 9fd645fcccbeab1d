"""At a terminal: a question before signing, a PIN that is not shown, bars that nobody else sees, no page of HTML."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stoplist.tools.publishing import publish
from tests.e2e import clocks
from tests.e2e.network import SECONDS
from tests.keys import new_ecdsa, public_pem

STOPLIST = str(Path(sys.executable).parent / "stoplist")
BUILD = [
    *["--list", "demo", "--serial", "1", "--expires", "2099-12-31"],
    *["--list-key", "listkey", "--sign-with", "authority", "-o", "demo.stoplist", "--force"],
]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A publisher's folder: keys, domains, and a list that one person signed."""
    for name in ("authority", "operator"):
        publish.make_signing_key(tmp_path / name, force=False)
    publish.make_list_key(tmp_path / "listkey", force=False)
    (tmp_path / "domains.txt").write_text("".join(f"listed{number}.example\n" for number in range(5000)))
    subprocess.run([STOPLIST, "list", "build", "domains.txt", *BUILD], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def at_terminal(
    folder: Path, *arguments: str, prompt: str = "", answer: str = "", stdout: int | None = subprocess.PIPE, **env: str
) -> tuple[int, str, str]:
    """Run a command whose stdin and stderr are a terminal: its status, stdout, and what the terminal showed; without
    its colours, unless `env` names a kind of terminal.

    With `stdout` None that is the terminal as well.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [STOPLIST, *arguments],
        cwd=folder,
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm", **clocks.of_this_process(), **env},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 4096):
            seen += piece
            if answer and prompt.encode() in seen:
                os.write(ours, f"{answer}\n".encode())
                answer = ""
    except OSError:  # the terminal of a process that has ended
        pass
    finally:
        os.close(ours)
    out, _ = process.communicate(timeout=SECONDS)
    shown = seen.decode()
    return process.returncode, (out or b"").decode(), shown if "TERM" in env else re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.parametrize("answer", ["n", "\x04"], ids=["no", "end of input"])
def test_who_does_not_say_yes_does_not_sign(desk: Path, answer: str) -> None:
    before = (desk / "demo.stoplist").read_bytes()
    status, out, seen = at_terminal(
        desk,
        *["list", "sign", "demo.stoplist", "--sign-with", "operator", "--diff", "demo.stoplist"],
        prompt="[y/N]",
        answer=answer,
    )
    assert (status, out) == (1, "")
    assert seen.index("count: 5000") < seen.index("0 added, 0 removed") < seen.index("Sign this list? [y/N]")
    assert ("demo.stoplist: not signed" in seen) == (answer == "n")
    assert (desk / "demo.stoplist").read_bytes() == before


def test_who_says_yes_signs(desk: Path) -> None:
    status, out, _ = at_terminal(
        desk, "list", "sign", "demo.stoplist", "--sign-with", "operator", prompt="[y/N]", answer="y"
    )
    assert (status, out) == (0, "demo.stoplist: signed list demo, serial 1, 5000 domains\n")
    assert len(publish.read_envelope(desk / "demo.stoplist").signatures) == 2


def test_nobody_is_asked_who_has_said_yes_before(desk: Path) -> None:
    status, _, seen = at_terminal(desk, "list", "sign", "demo.stoplist", "--sign-with", "operator", "--yes")
    assert status == 0
    assert "[y/N]" not in seen


def test_a_pin_is_asked_for_and_not_shown(desk: Path) -> None:
    (desk / "ec.pub").write_bytes(public_pem(new_ecdsa()))
    status, out, seen = at_terminal(
        desk,
        *["list", "sign", "demo.stoplist", "--yes", "--sign-with", "hsm:2", "--public-key", "ec.pub"],
        prompt="The PIN: ",
        answer="24680",
        PYKCS11LIB=str(desk / "gone.so"),
    )
    assert (status, out) == (1, "")
    assert "The PIN: " in seen
    assert "hsm:2: cannot sign (" in seen
    assert "24680" not in seen


def test_a_terminal_shows_how_far_it_is(desk: Path) -> None:
    status, out, seen = at_terminal(desk, "list", "build", "domains.txt", *BUILD)
    assert status == 0
    assert out.startswith("demo.stoplist: 5000 domains")
    assert "reading    [####################################]  100%" in seen
    assert "digesting  [####################################]  100%" in seen


def test_nobody_else_sees_a_bar(desk: Path) -> None:
    done = subprocess.run(
        [STOPLIST, "list", "build", "domains.txt", *BUILD], cwd=desk, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "[" not in done.stdout


def test_a_terminal_shows_where_a_fault_is_in_bold_and_red_unless_it_may_not(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("mod: enforce\n")
    shown = at_terminal(tmp_path, "check", "policy.yaml", TERM="xterm")[2].replace("\r", "")
    assert "\x1b[1mpolicy.yaml:1:1\x1b[0m: unknown key 'mod'; did you mean 'mode'?\n    1 | mod: enforce\n" in shown
    assert "\n      | \x1b[31m\x1b[1m^^^\x1b[0m\n" in shown
    plain = at_terminal(tmp_path, "check", "policy.yaml", NO_COLOR="1")[2].replace("\r", "")
    assert plain == re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_a_line_is_cut_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(f"contact: {'x' * 100}\n")
    shown = at_terminal(tmp_path, "check", "policy.yaml", NO_COLOR="1", COLUMNS="60")[2]
    assert "…" in shown
    assert max(len(line) for line in shown.splitlines() if " | " in line) <= 60


def test_a_page_of_html_is_not_for_a_terminal(tmp_path: Path) -> None:
    report = ("report", "policy.yaml", "--format", "html")
    status, _, seen = at_terminal(tmp_path, *report, stdout=None)
    assert status == 2
    assert "HTML is not printed to a terminal; name a file: -o FILE.html" in seen
    assert "<html" not in seen
    status, _, seen = at_terminal(tmp_path, *report)
    assert (status, "policy.yaml: no such file" in seen) == (1, True)


def test_hosts_are_revealed_on_a_terminal_with_a_warning_and_a_bar(desk: Path) -> None:
    subprocess.run([STOPLIST, "init", "gate"], cwd=desk, check=True, capture_output=True)
    (desk / "hosts.txt").write_text("www.listed.example\n" * 100_000)
    trial = ["trial", "gate/policy.yaml", "hosts.txt"]
    status, _, seen = at_terminal(desk, *trial, "--reveal", stdout=None)
    assert status == 0
    assert "  www.listed.example  demo  stopped   100,000  no           no" in seen
    assert "warning: hosts and exact numbers can tell who asked for what" in seen
    assert "reading" in seen
    assert "100%" in seen
    status, out, seen = at_terminal(desk, *trial)
    assert (status, "www.listed.example" in out + seen) == (0, False)


def test_a_page_of_a_trial_is_not_for_a_terminal(desk: Path) -> None:
    status, _, seen = at_terminal(desk, "trial", "gate/policy.yaml", "hosts.txt", "--format", "html", stdout=None)
    assert status == 2
    assert "HTML is not printed to a terminal; name a file: -o FILE.html" in seen


def test_who_interrupts_a_command_sees_nothing_and_gets_130(desk: Path) -> None:
    policy = str(init(desk))
    with subprocess.Popen(
        [STOPLIST, "lookup", policy, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"pass.example\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"pass.example: pass, not listed\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_what_a_terminal_cannot_show_is_escaped(desk: Path) -> None:
    done = subprocess.run(
        [STOPLIST, "lookup", str(init(desk)), "пример.example", "größe.example"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0].startswith(rb"\u043f\u0440\u0438\u043c\u0435\u0440.example: pass")
    assert done.stdout.splitlines()[1].startswith("größe.example: pass".encode("latin-1"))


def init(folder: Path) -> Path:
    """A policy of a set that `init` made."""
    subprocess.run([STOPLIST, "init", "gate"], cwd=folder, check=True, capture_output=True)
    return folder / "gate" / "policy.yaml"
