"""A list from the signer's desk to the running gate: what is remembered, held and released."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import STOPLIST, Gate, Network, wait_until

type Start = Callable[[], Gate]


@pytest.fixture
def start(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Start]:
    """Start a gate; every one of a test has the same state directory."""
    gates: list[Gate] = []

    def start() -> Gate:
        gates.append(net.gate(desk.policy, tmp_path / "state"))
        return gates[-1]

    yield start
    for gate in gates:
        gate.process.end()


def _stoplist(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STOPLIST, *arguments], capture_output=True, text=True, timeout=60, check=False)


def _status(desk: Desk, state: Path) -> tuple[int, dict]:
    done = _stoplist("status", str(desk.policy), "--state-dir", str(state), "--json")
    of_list, of_gate, of_ca = done.stdout.splitlines()
    assert json.loads(of_gate)["needs"] == []
    assert json.loads(of_ca)["needs"] == []
    return done.returncode, json.loads(of_list)


def _comes_to(desk: Desk, state: Path, code: int) -> dict:
    """The status once it ends so: what a gate says is remembered a moment later."""
    wait_until(lambda: _status(desk, state)[0] == code, f"status {code}")
    return _status(desk, state)[1]


def _many(count: int, zone: str = "test") -> list[str]:
    return ["listed.test", *(f"d{number}.{zone}" for number in range(count))]


@pytest.mark.campaign
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda desk: desk.list.write_bytes(b"{}"), id="no list"),
        pytest.param(lambda desk: desk.list.unlink(), id="deleted"),
        pytest.param(
            lambda desk: desk.build(["x.test"], desk.list.name, signers=["authority"], serial=9), id="unsigned"
        ),
    ],
)
def test_a_gate_restarted_while_the_file_is_bad_enforces_the_last_good_list(start: Start, desk: Desk, tmp_path, harm):
    desk.publish(["listed.test", "second.test"])
    start().process.end()
    harm(desk)
    gate = start()
    assert gate.curl("http://second.test/").status == 403
    assert "a list is refused; the last good one stays in force" in gate.log()
    assert "serial 2 in force" in gate.log()
    code, status = _status(desk, tmp_path / "state")
    assert code == 1
    assert status["in_force"]["serial"] == 2
    assert status["needs"] == ["the file on disk is refused"]

    desk.serial = 20
    desk.publish(["listed.test", "third.test"])
    gate.process.wait_for("serial 21 in force")
    assert gate.curl("http://third.test/").status == 403
    _comes_to(desk, tmp_path / "state", 0)


def test_a_rollback_is_refused_across_restarts(start: Start, desk: Desk):
    desk.publish(["listed.test", "second.test"])
    start().process.end()
    desk.build(["listed.test"], desk.list.name, serial=1)
    gate = start()
    assert "serial 1 is older than 2, which was in force" in gate.log()
    assert gate.curl("http://second.test/").status == 403


def test_another_list_in_the_file_is_refused(start: Start, desk: Desk):
    gate = start()
    (desk.folder / "domains.txt").write_text("x.test")
    desk.stoplist(
        *("list", "build", "domains.txt", "--list", "other", "--serial", "9", "--expires", "2099-12-31"),
        *("--list-key", "test.listkey", "--sign-with", "authority", "--sign-with", "operator", "-o", desk.list.name),
    )
    gate.process.wait_for("this is the list 'other', but 'test' is expected in this file")
    assert gate.curl("http://listed.test/").status == 403


@pytest.mark.campaign
def test_the_guard_holds_a_list_until_a_person_releases_it(start: Start, desk: Desk, tmp_path):
    desk.policy.write_text(desk.policy.read_text() + "watch: {poll: 1h}\n")  # it is the release that is noticed
    gate = start()
    desk.publish(_many(100))
    gate.process.wait_for(
        r"a list is held; the last good one stays in force\\n.*serial 2 is held: it adds 100 domains to 2"
    )
    assert gate.curl("http://d5.test/").status == 200
    assert gate.curl("http://listed.test/").status == 403
    status = _comes_to(desk, tmp_path / "state", 1)
    assert status["held"]["serial"] == 2
    assert status["needs"] == ["serial 2 waits for release"]

    wrong = _stoplist("list", "release", str(desk.policy), "--serial", "3", "--state-dir", str(tmp_path / "state"))
    assert wrong.returncode == 1
    assert "no list with serial 3 is held; held now: test serial 2" in wrong.stderr

    seen = len(gate.process.err)
    done = _stoplist("list", "release", str(desk.policy), "--serial", "2", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert "serial 2 is released; it was held because it adds 100 domains to 2" in done.stdout
    gate.process.wait_for("serial 2 in force", after=seen)
    assert gate.curl("http://d5.test/").status == 403
    status = _comes_to(desk, tmp_path / "state", 0)
    assert status["held"] is None

    seen = len(gate.process.err)
    desk.publish(_many(20))
    gate.process.wait_for("serial 3 is held: it removes 80 domains of 101, more than 30%", after=seen)
    assert gate.curl("http://d99.test/").status == 403


def test_a_list_of_the_same_size_with_other_domains_is_held(start: Start, desk: Desk):
    desk.publish(_many(40))
    gate = start()
    desk.publish(_many(40, "example"))
    gate.process.wait_for("serial 3 is held: it adds 40 domains to 41")
    assert gate.curl("http://d1.test/").status == 403


def test_a_name_that_must_never_be_blocked_holds_a_list_even_at_the_first_start(start: Start, desk: Desk, tmp_path):
    desk.policy.write_text("never_block: [www.school.example, listed.test]\n" + desk.policy.read_text())
    run = ("run", str(desk.policy), "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"))
    refused = _stoplist(*run)
    assert refused.returncode == 1
    assert "serial 1 is held: it lists 1 of the names in 'never_block'" in refused.stderr
    assert "listed.test" not in refused.stderr
    assert "stoplist list release POLICY --serial 1" in refused.stderr

    state = str(tmp_path / "state")
    assert _stoplist("list", "release", str(desk.policy), "--serial", "1", "--state-dir", state).returncode == 0
    assert start().curl("http://listed.test/").status == 403


def test_signing_keys_are_rotated_without_a_gap(start: Start, desk: Desk):
    gate = start()
    for key in ("authority2", "operator2"):
        desk.stoplist("list", "keygen", key)
    text = desk.policy.read_text()
    both = text.replace("operator.pub]", "operator.pub, authority2.pub, operator2.pub]")
    desk.policy.write_text(both)
    desk.signers = ["authority2", "operator2"]
    desk.publish(["listed.test", "rotated.test"])
    gate.process.wait_for("serial 2 in force")
    assert gate.curl("http://rotated.test/").status == 403

    desk.policy.write_text(text.replace("[authority.pub, operator.pub]", "[authority2.pub, operator2.pub]"))
    desk.signers = ["authority", "operator"]
    desk.publish(["other.test"])
    gate.process.wait_for("signed by 0 of the trusted keys")
    assert gate.curl("http://rotated.test/").status == 403
    assert gate.curl("http://other.test/").status == 200


def test_the_list_key_is_rotated_without_a_gap(start: Start, desk: Desk):
    gate = start()
    old = desk.folder / "test.listkey"
    old.rename(desk.folder / "old.listkey")
    desk.stoplist("list", "keygen", "--list-key", "test.listkey")
    desk.policy.write_text(
        desk.policy.read_text().replace("key: {file: test.listkey}", "key: [{file: old.listkey}, {file: test.listkey}]")
    )
    assert gate.curl("http://listed.test/").status == 403
    desk.publish(["listed.test", "rotated.test"])
    gate.process.wait_for("serial 2 in force")
    assert gate.curl("http://rotated.test/").status == 403
    assert gate.curl("http://listed.test/").status == 403


def test_several_lists_each_have_their_own_mode_keys_and_fate(net: Network, start: Start, desk: Desk):
    desk.stoplist("list", "keygen", "national")
    desk.stoplist("list", "keygen", "--list-key", "national.listkey")

    def national(domains: list[str], serial: int) -> None:
        (desk.folder / "domains.txt").write_text("\n".join(domains))
        desk.stoplist(
            *("list", "build", "domains.txt", "--list", "national", "--serial", str(serial), "--expires", "2099-12-31"),
            *("--list-key", "national.listkey", "--sign-with", "national", "-o", "national.stoplist"),
        )

    national(["national.test"], 1)
    desk.policy.write_text(
        desk.policy.read_text().replace(
            "stop_page:",
            "  - {file: national.stoplist, key: {file: national.listkey}, trusted_keys: [national.pub], threshold: 1, "
            "mode: observe}\nstop_page:",
        )
    )
    gate = start()
    assert gate.curl("http://national.test/").status == 200
    assert gate.curl("http://listed.test/").status == 403
    desk.list.write_bytes(b"")
    gate.process.wait_for("the file is empty")
    national(["national.test", "more.test"], 2)
    gate.process.wait_for("list national serial 2 in force")
    desk.policy.write_text(desk.policy.read_text().replace(", mode: observe", ""))
    gate.process.wait_for(r"list national serial 2 in force \(stop\)")
    assert gate.curl("http://more.test/").status == 403
    assert gate.curl("http://listed.test/").status == 403


def test_state_is_private_and_holds_no_domain(start: Start, desk: Desk, tmp_path):
    gate = start()
    gate.curl("http://www.listed.test/")
    gate.process.end()
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {"state.db", "ca.pem"} <= {path.name for path in files}
    for path in files:
        assert b"listed.test" not in path.read_bytes()
        if path.name != "ca-cert.pem":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.campaign
def test_a_lost_state_is_rebuilt_from_the_copies_and_said(start: Start, desk: Desk, tmp_path):
    desk.publish(["listed.test", "second.test"])
    start().process.end()
    for path in (tmp_path / "state").glob("state.db*"):
        path.unlink()
    desk.build(["listed.test"], desk.list.name, serial=1)
    gate = start()
    assert "the remembered serials were lost: the gate restores them from the last good copies" in gate.log()
    assert "serial 1 is older than 2, which was in force" in gate.log()
    assert gate.curl("http://second.test/").status == 403


@pytest.mark.campaign
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b"garbage" * 1000), id="garbage"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000] + b"\xff" * 20000), id="half overwritten"),
    ],
)
def test_a_damaged_state_is_set_aside_and_said(start: Start, desk: Desk, tmp_path, damage):
    desk.publish(["listed.test", "second.test"])
    start().process.end()
    for name in ("state.db-wal", "state.db-shm"):
        (tmp_path / "state" / name).unlink(missing_ok=True)
    damage(tmp_path / "state" / "state.db")
    desk.build(["listed.test"], desk.list.name, serial=1)
    gate = start()
    assert "the state could not be read" in gate.log()
    assert "was set aside as" in gate.log()
    assert list((tmp_path / "state").glob("state.db.unreadable-*"))
    assert "serial 1 is older than 2, which was in force" in gate.log()
    assert gate.curl("http://second.test/").status == 403


def test_a_killed_gate_starts_again(start: Start, desk: Desk):
    gate = start()
    desk.publish(["listed.test", "second.test"])
    gate.process.send(signal.SIGKILL)
    gate.process.wait()
    assert start().curl("http://listed.test/").status == 403


def test_status_without_a_state_says_what_to_do(desk: Desk, tmp_path):
    done = _stoplist("status", str(desk.policy), "--state-dir", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "no state; name the gate's --state-dir" in done.stderr
    assert not (tmp_path / "none").exists()
