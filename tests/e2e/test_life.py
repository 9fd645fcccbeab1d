"""How a gate starts and ends."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess

import pytest

from stoplist.core.counts import Outcome
from tests.e2e.conftest import EITHER_WAY
from tests.e2e.desk import Desk
from tests.e2e.network import SECONDS, STOPLIST, Gate, Network, need, wait_until
from tests.e2e.traces import METRICS, left_by


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda desk: desk.list.unlink(), "no such file", id="no list"),
        pytest.param(lambda desk: desk.list.write_bytes(b"{}"), "not an envelope", id="no list in the file"),
        pytest.param(lambda desk: (desk.folder / "operator.pub").unlink(), "operator.pub", id="no key"),
        pytest.param(lambda desk: desk.policy.write_text("version: 1\n"), "'lists' is missing", id="bad policy"),
        pytest.param(lambda desk: desk.policy.unlink(), "no such file", id="no policy"),
    ],
)
def test_without_a_valid_list_it_does_not_listen(desk: Desk, spoil, message: str):
    spoil(desk)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = desk.run("--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "listening" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"])
def test_where_keys_of_tls_would_be_written_it_does_not_start(
    desk: Desk, tmp_path, monkeypatch: pytest.MonkeyPatch, variable: str
):
    monkeypatch.setenv(variable, str(tmp_path / "keys"))
    done = desk.run("--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert f"{variable} is set, so TLS keys would be written to a file; unset it" in done.stderr
    assert "listening" not in done.stderr
    assert not (tmp_path / "keys").exists()


def test_an_address_in_use_is_a_clear_error(desk: Desk):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = desk.run("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "--listen HOST:PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
def test_two_gates_do_not_share_a_state_directory(net: Network, desk: Desk, tmp_path, workers: tuple[str, ...]):
    gate = net.gate(desk.policy, tmp_path / "state", *workers)
    for more in ((), ("--workers", "1")):
        done = desk.run("--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"), *more)
        assert done.returncode == 1
        told = f"another gate uses this state directory: process {gate.process.pid}, listening at "
        assert told in done.stderr
        assert f":{gate.port}; end that gate, or give this one its own" in done.stderr
        assert '"listening"' not in done.stderr
    assert gate.curl("http://listed.test/").status == 403
    gate.process.end()
    assert net.gate(desk.policy, tmp_path / "state", *workers).curl("http://listed.test/").status == 403


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_all_that_was_counted(net: Network, desk: Desk, tmp_path, number: int):
    gate = net.gate(desk.policy, tmp_path / "state")
    for _ in range(12):
        assert gate.curl("http://listed.test/").status == 403
    for _ in range(3):
        assert gate.curl("http://pass.test/").status == 200
    gate.curl("http://check.stoplist.invalid/")
    gate.process.send(number)
    assert gate.process.wait() == 0
    assert +gate.counts() == {("test", Outcome.STOPPED): 12, (None, Outcome.PASSED): 3}
    assert not gate.process.out


def test_what_is_counted_goes_on_after_a_restart_and_nothing_is_said_of_it_meanwhile(
    net: Network, desk: Desk, tmp_path
):
    for times in (3, 6):
        gate = net.gate(desk.policy, tmp_path / "state")
        for _ in range(3):
            assert gate.curl("http://listed.test/").status == 403
        gate.process.end()
        assert gate.counts()["test", Outcome.STOPPED] == times
        assert not gate.told_of_counts_early


@pytest.mark.parametrize(
    ("log", "line"),
    [
        pytest.param("human", r"^stoplist: listening on 127\.0\.0\.1:\d+ \(regular", id="human"),
        pytest.param("json", r'^\{"time": .*"event": "listening", "address": "127\.0\.0\.1:\d+"', id="json"),
        pytest.param("syslog", r"^<6>stoplist: listening on 127\.0\.0\.1:\d+ \(regular", id="syslog"),
        pytest.param("auto", r'^\{"time": .*"event": "listening"', id="auto, for a pipe"),
    ],
)
def test_its_log_is_written_as_it_is_asked_to(net: Network, desk: Desk, tmp_path, log: str, line: str):
    gate = net.gate(desk.policy, tmp_path / "state", "--log", log)
    assert re.search(line, gate.log(), re.MULTILINE)
    gate.process.end()


def test_the_ca_is_private_and_stays(net: Network, desk: Desk, tmp_path):
    state = tmp_path / "state"
    gate = net.gate(desk.policy, state)
    first = gate.ca.read_bytes()
    gate.process.end()
    assert stat.S_IMODE((state / "ca.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    again = net.gate(desk.policy, state)
    assert again.ca.read_bytes() == first
    assert again.curl("https://listed.test/").status == 403
    again.process.end()


@pytest.mark.parametrize("workers", EITHER_WAY)
def test_whatever_it_writes_is_private_but_for_the_cas_certificate(
    net: Network, desk: Desk, tmp_path, workers: tuple[str, ...]
):
    """Also what mitmproxy writes by itself, in a folder that others may look into, as systemd makes it."""
    state, was = tmp_path / "state", os.umask(0o022)
    try:
        state.mkdir(mode=0o755)
        modes = ("--mode", "regular", "--mode", "wireguard@127.0.0.1:51820")
        gate = net.gate(desk.policy, state, *workers, *modes)
    finally:
        os.umask(was)
    try:
        gate.process.wait_for(r"listening on 127\.0\.0\.1:51820")
        found = {path: stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_file()}
    finally:
        gate.process.end()
    assert {"ca.pem", "state.db", "wireguard.conf"} <= {path.name for path in found}
    assert {path.name for path, mode in found.items() if mode != 0o600} == {"ca-cert.pem"}
    assert stat.S_IMODE((state / "lists").stat().st_mode) == 0o700


def test_a_ca_that_others_can_read_is_refused(net: Network, desk: Desk, tmp_path):
    state = tmp_path / "state"
    net.gate(desk.policy, state).process.end()
    (state / "ca.pem").chmod(0o644)
    done = desk.run("--state-dir", str(state))
    assert done.returncode == 1
    assert "chmod 600" in done.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("workers", EITHER_WAY)
def test_by_itself_it_contacts_nobody(net: Network, desk: Desk, tmp_path, workers: tuple[str, ...]):
    """Neither when it starts nor when a list comes, is refused, or is reported on; not even a resolver."""
    desk.policy.write_text(desk.policy.read_text() + METRICS)
    with net.nothing_reaches_the_origin():
        gate = net.gate(desk.policy, tmp_path / "state", *workers)
        assert gate.curl("https://listed.test/").status == 403
        desk.publish(["listed.test", "other.test"])
        gate.process.wait_for("list test serial 2 in force")
        desk.list.write_bytes(b"junk")
        gate.process.wait_for("a list is refused")
        desk.publish(["listed.test", "other.test", "third.test"])
        gate.process.wait_for("list test serial 3 in force")
        left_by(gate, desk, tmp_path / "state")


@pytest.mark.campaign
def test_it_listens_whenever_it_is_started(net: Network, desk: Desk, tmp_path):
    """How soon is measured by tests.bench: no test depends on the machine's speed."""
    for attempt in range(3):
        gate = net.gate(desk.policy, tmp_path / f"state{attempt}")
        assert gate.curl("http://listed.test/").status == 403
        gate.process.end()


@pytest.mark.parametrize("nohup", [(), ("nohup",)], ids=["without nohup", "under nohup"])
def test_a_terminal_that_is_closed_ends_what_was_started_in_it_but_not_under_nohup(
    net: Network, desk: Desk, tmp_path, nohup: tuple[str, ...]
):
    need("setsid", "nohup")
    ours, theirs = pty.openpty()
    in_folder = ("setsid", "--ctty", "sh", "-c", 'cd "$0" && exec "$@"', str(tmp_path))
    command = (*nohup, str(STOPLIST), "run", str(desk.policy), "--listen", "127.0.0.1:0", "--state-dir", "state")
    process = subprocess.Popen(net.enter(*in_folder, *command), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = ""

    def says(pattern: str) -> re.Match[str] | None:
        nonlocal said
        if nohup:
            said = (tmp_path / "nohup.out").read_text() if (tmp_path / "nohup.out").exists() else ""
        elif select.select([ours], [], [], 0)[0]:
            said += os.read(ours, 65536).decode()
        return re.search(pattern, said)

    try:
        wait_until(lambda: says(r"listening on 127\.0\.0\.1:\d+") is not None, "listening")
        proxy = f"http://127.0.0.1:{says(r'listening on 127\.0\.0\.1:(\d+)')[1]}"
        os.close(ours)
        if nohup:
            wait_until(lambda: says("SIGHUP loads new code only with --workers") is not None, "the answer to SIGHUP")
            assert net.curl("http://listed.test/", "--proxy", proxy).status == 403
            process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.campaign
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("workers", EITHER_WAY)
def test_started_with_signals_ignored_it_heeds_them(
    net: Network, desk: Desk, tmp_path, workers: tuple[str, ...], number: signal.Signals
):
    """As nohup(1) ignores SIGHUP, and a shell without job control SIGINT and SIGQUIT for what it starts with `&`."""
    ignoring = ("sh", "-c", 'trap "" HUP INT QUIT TERM; exec "$@"', "sh", str(STOPLIST))
    gate = net.gate(desk.policy, tmp_path / "state", *workers, program=ignoring)
    seen = len(gate.process.err)
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for(
        r"listening on .* workers\)" if workers else "SIGHUP loads new code only with --workers", after=seen
    )
    assert gate.curl("http://listed.test/").status == 403
    gate.process.send(number)
    assert gate.process.wait() == 0
    assert gate.counts()["test", Outcome.STOPPED] == 1


def test_a_client_without_the_ca_is_stopped_and_counted(net: Network, own_gate: Gate):
    for _ in range(10):
        assert own_gate.curl("https://listed.test/", trust=net.origin_ca).exit_code == 60
    own_gate.process.end()
    assert +own_gate.counts() == {("test", Outcome.NOT_SHOWN): 10}
