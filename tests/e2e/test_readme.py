"""The README's commands do what it says, from a bare clone in a folder whose path has a space."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.network import Network, Process

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROXY = "http://127.0.0.1:8080"


def _command(end: str) -> str:
    (command,) = re.findall(rf"^python3 -m venv .*{re.escape(end)}$", README, re.MULTILINE)
    return command


def test_the_two_commands_are_there():
    assert _command(".venv/bin/stoplist run").count("&&") == 2
    assert _command(".venv/bin/pytest").count("&&") == 2


@pytest.fixture
def running(net: Network, tmp_path: Path) -> Iterator[Path]:
    """The run command in a fresh clone, its last part in a network of its own; the folder of its state."""
    if not os.environ.get("CI") and not os.environ.get("STOPLIST_TEST_CLONE"):
        pytest.skip("installs a clone from the package registry: in CI, or with STOPLIST_TEST_CLONE=1")
    clone, state = tmp_path / "a bare clone", tmp_path / "state home"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    install, _, run = _command(".venv/bin/stoplist run").rpartition(" && ")
    subprocess.run(["bash", "-c", install], cwd=clone, timeout=1000, check=True)
    process = net.start("env", f"XDG_STATE_HOME={state}", "bash", "-c", f"cd '{clone}' && exec {run}")
    process.wait_for(r"listening on 127\.0\.0\.1:8080")
    yield state / "stoplist"
    process.send(signal.SIGTERM)
    assert process.wait() == 0


def _blocks() -> list[list[str]]:
    """The shell blocks of the README, as commands: continued lines joined, comments removed."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    joined = [block.replace("\\\n", " ") for block in blocks]
    return [[line.partition("  #")[0].strip() for line in block.splitlines() if line.strip()] for block in joined]


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """The processes that a test starts: none outlives it."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.end()


@pytest.mark.campaign
def test_the_tour_goes_as_it_says(net: Network, tmp_path: Path, started: list[Process]):
    """Every command of the tour, in order, in a network of its own; only the clone is this checkout."""
    _, _, demo, own, edit = _blocks()
    assert [len(demo), len(own), len(edit)] == [4, 6, 7]
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))

    def command(line: str, folder: Path) -> list[str]:
        path = f"PATH={tmp_path}/.venv/bin:{os.environ['PATH']}"
        return net.enter("env", f"HOME={tmp_path}", path, "bash", "-c", f"cd '{folder}' && {line}")

    def run(line: str, folder: Path) -> str:
        done = subprocess.run(command(line, folder), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    def start(line: str, folder: Path, port: int) -> Process:
        process = Process(command(f"exec {line}", folder))
        started.append(process)
        process.wait_for(rf"listening on 127\.0\.0\.1:{port}")
        return process

    stopped = "Access to this site was stopped"
    gate = start(_command(".venv/bin/stoplist run").rpartition("&& ")[2], tmp_path, 8080)
    assert stopped in run(demo[0], tmp_path)
    assert stopped in run(demo[1], tmp_path)
    assert "ANY-OTHER-SITE" in demo[2]
    control = f" --control www.pass.test --control-ca '{net.origin_ca}'"
    assert run(demo[3] + control, tmp_path).startswith("STOPLIST OK")
    gate.end()

    assert own[0] == 'export PATH="$PWD/.venv/bin:$PATH"'
    run(own[1], tmp_path)
    assert own[2] == "cd ~/my-gate"
    folder = tmp_path / "my-gate"
    assert "fine" in run(own[3], folder)
    assert "www.listed.example: stop, listed" in run(own[4], folder)
    policy = folder / "policy.yaml"
    policy.write_text("watch: {poll: 1h}\n" + policy.read_text())  # what is in force at once is so by an event
    gate = start(own[5], folder, 8081)
    run(edit[0], folder)
    assert "4 domains" in run(edit[1], folder)
    gate.wait_for("serial 2 in force")
    assert stopped in run(edit[2], folder)
    run(edit[3], folder)
    gate.wait_for(r"a list is refused; the last good one stays in force\\n.*ask the publisher")
    assert stopped in run(edit[4], folder)
    run(edit[5], folder)
    gate.wait_for("serial 3 in force")
    assert "serial 3" in run(edit[6], folder)
    policy.write_text(policy.read_text().replace("mode: enforce", "mode: observe", 1))
    gate.wait_for("test 2 fails: www.listed.example is 'observe' .listed., expected 'stop'")
    policy.write_text(
        policy.read_text().replace("www.listed.example, expect: stop", "www.listed.example, expect: observe")
    )
    gate.wait_for(r"serial 3 in force \(observe\)")
    gate.end()


@pytest.mark.campaign
def test_run_command_serves_from_a_bare_clone(net: Network, running: Path):
    with net.nothing_reaches_the_origin():
        for url in (
            "http://listed.example/",
            "http://www.listed.example/",
            "https://listed.example/",
            "https://a.listed.test/",
        ):
            answer = net.curl(url, "-x", PROXY, "--cacert", str(running / "ca-cert.pem"), "-H", "Accept: text/html")
            assert "Access to this site was stopped" in answer.body
            assert answer.status == 403

    shown = subprocess.run(
        net.enter(
            *("openssl", "s_client", "-proxy", "127.0.0.1:8080", "-connect", "www.pass.test:443"),
            *("-servername", "www.pass.test"),
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.DOTALL)[0]
    assert ssl.PEM_cert_to_DER_cert(pem) == ssl.PEM_cert_to_DER_cert(net.certificate.decode())
