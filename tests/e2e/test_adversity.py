"""What breaks around a gate - power, disk, clock - never ends enforcement, and never lets an older list in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from stoplist.core.counts import Outcome
from stoplist.state import State
from tests.e2e.clocks import clock, hours
from tests.e2e.desk import Desk
from tests.e2e.network import EVER, SECONDS, STOPLIST, Gate, Network, wait_until

ROOT = Path(__file__).parent.parent.parent
KILLS, LISTS = 200, 50


@pytest.mark.campaign
def test_a_kill_at_any_moment_leaves_a_whole_list_and_never_an_older_one(tmp_path: Path):
    seed = int.from_bytes(os.urandom(4))
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.crash", str(tmp_path), str(KILLS), str(LISTS), str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    report = json.loads(done.stdout)
    assert report["kills"] >= KILLS
    assert report["lists"] >= LISTS, "too few lists came into force between the kills"


@pytest.fixture
def small_disk(net: Network, tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB in the namespace, for a state directory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    _in(net, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    yield disk
    _in(net, "umount", "-l", str(disk))


def _in(net: Network, *command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(net.enter(*command), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return done


def _fill(net: Network, disk: Path) -> None:
    _in(net, "sh", "-c", f"dd if=/dev/zero of='{disk}/filler' bs=4k 2>/dev/null; test -s '{disk}/filler'")


type Start = Callable[..., Gate]


@pytest.fixture
def start(net: Network, desk: Desk) -> Iterator[Start]:
    gates: list[Gate] = []

    def start(state: Path, *before: str) -> Gate:
        process = net.start(
            *(*before, str(STOPLIST), "run", str(desk.policy), "--listen", "127.0.0.1:0", "--state-dir", str(state))
        )
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        gates.append(Gate(net, process, port, state))
        return gates[-1]

    yield start
    for gate in gates:
        gate.process.end()


def _has_written_its_counts(net: Network, state_dir: Path) -> bool:
    """Whether a gate that listens is done with its state: the first beat empties the log that has the activation."""
    return not Path(f"/proc/{net.gateway.pid}/root{state_dir}/state.db-wal").stat().st_size


@pytest.mark.campaign
def test_a_full_disk_stops_no_list_from_being_enforced(net: Network, desk: Desk, small_disk: Path, start: Start):
    gate = start(small_disk / "state")
    wait_until(lambda: _has_written_its_counts(net, gate.state_dir), "what the first beat writes")
    _fill(net, small_disk)
    desk.publish(["listed.test", "second.test"])
    gate.process.wait_for("serial 2 in force")
    gate.process.wait_for(r"the gate cannot save its state for a restart\\n.*check the (folder|disk)")
    assert gate.curl("http://second.test/").status == 403
    gate.process.end()
    assert '"event": "counts not written"' in gate.log()

    again = start(small_disk / "state")
    assert again.curl("http://second.test/").status == 403
    _in(net, "rm", f"{small_disk}/filler")
    desk.publish(["listed.test", "third.test"])
    again.process.wait_for("serial 3 in force")
    again.process.end()
    desk.list.unlink()
    assert start(small_disk / "state").curl("http://third.test/").status == 403


def test_without_room_for_a_ca_it_does_not_start(net: Network, desk: Desk, small_disk: Path):
    _fill(net, small_disk)
    run = ("run", str(desk.policy), "--listen", "127.0.0.1:0", "--state-dir", f"{small_disk}/state")
    done = _in(net, str(STOPLIST), *run, status=1)
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stderr


def test_a_read_only_state_is_read_and_said(net: Network, desk: Desk, small_disk: Path, start: Start):
    start(small_disk / "state").process.end()
    _in(net, "mount", "-o", "remount,ro", str(small_disk))
    gate = start(small_disk / "state")
    assert "the state cannot be written" in gate.log()
    assert gate.curl("http://listed.test/").status == 403
    assert gate.curl("https://listed.test/").status == 403
    desk.publish(["listed.test", "second.test"])
    gate.process.wait_for("serial 2 in force")
    gate.process.wait_for("the gate cannot save its state for a restart")
    assert gate.curl("http://second.test/").status == 403
    gate.process.end()

    desk.list.write_bytes(b"")
    again = start(small_disk / "state")
    assert "serial 1 in force" in again.log()
    assert again.curl("http://listed.test/").status == 403


def test_a_period_is_written_when_it_closes_and_the_next_begins_at_none(desk: Desk, tmp_path: Path, start: Start):
    """The log says it, once, and the state has both periods; no other number is in the log."""
    desk.policy.write_text(desk.policy.read_text() + "counts: {period: hour, hide_below: 10, round_to: 5}\n")
    for hour in hours():
        gate = start(tmp_path / f"state{hour.seconds}", *hour.clock)
        for _ in range(20):
            assert gate.curl("http://listed.test/").status == 403
        if hour.is_ahead:
            break
    close = hour.begins
    gate.process.wait_for(r'"event": "counts".*"outcome": "passed"', seconds=hour.seconds + SECONDS)
    for _ in range(30):
        assert gate.curl("http://listed.test/").status == 403
    assert gate.process.end() == 0, gate.log()
    before, after = (f"{moment:%Y-%m-%dT%HZ}" for moment in (close - timedelta(hours=1), close))
    said = [json.loads(line) for line in gate.process.err if '"event": "counts"' in line]
    assert [(row["period"], row.get("list"), row["outcome"], row["requests"]) for row in said] == [
        (before, "test", "stopped", 20),
        (before, "test", "page not shown", None),
        (before, None, "refused", None),
        (before, None, "passed", None),
    ]
    state = State.open_read_only(gate.state_dir)
    kept = {each.period.name: each.requests for each in state.counts(0, EVER) if each.cell.outcome is Outcome.STOPPED}
    state.close()
    assert kept == {before: 20, after: 30}


@pytest.mark.campaign
def test_a_clock_set_back_a_year_keeps_the_last_good_list(desk: Desk, tmp_path: Path, start: Start):
    start(tmp_path / "state").process.end()
    gate = start(tmp_path / "state", *clock(-timedelta(days=365)))
    assert gate.curl("http://listed.test/").status == 403
    desk.publish(["listed.test", "second.test"])
    gate.process.wait_for("issued in the future: .*; check the clock of this machine")
    assert gate.curl("http://listed.test/").status == 403
    assert gate.curl("http://second.test/").status == 200
    gate.process.end()
    again = start(tmp_path / "state", *clock(-timedelta(days=365)))
    assert "serial 1 in force" in again.log()
    assert again.curl("http://listed.test/").status == 403
    again.process.end()
    assert start(tmp_path / "state").curl("http://second.test/").status == 403


def _expire_in_a_month(desk: Desk) -> None:
    desk.serial += 1
    (desk.folder / "domains.txt").write_text("listed.test")
    soon = subprocess.run(["date", "-d", "+30 days", "+%F"], capture_output=True, text=True, check=True).stdout.strip()
    desk.stoplist(
        *("list", "build", "domains.txt", "--list", "test", "--serial", str(desk.serial), "--expires", soon),
        *("--list-key", "test.listkey", "--sign-with", "authority", "--sign-with", "operator", "-o", desk.list.name),
    )


@pytest.mark.campaign
def test_a_clock_set_ahead_a_year_keeps_an_expired_list_and_raises_the_alarm(
    net: Network, desk: Desk, tmp_path: Path, start: Start
):
    _expire_in_a_month(desk)
    desk.stoplist(
        "ca", str(desk.policy), "--state-dir", str(tmp_path / "state"), "--create"
    )  # one made then would begin then
    gate = start(tmp_path / "state", *clock(timedelta(days=365)))
    assert "the list expired on" in gate.log()
    assert "it stays in force; fetch a fresh list" in gate.log()
    assert gate.curl("http://listed.test/").status == 403
    assert gate.curl("http://pass.test/").status == 200
    command = (str(STOPLIST), "status", str(desk.policy), "--state-dir", str(tmp_path / "state"))
    done = _in(net, *clock(timedelta(days=365)), *command, status=1)
    assert "needs a person: the list has expired" in done.stdout
    assert "fine" in _in(net, *command).stdout


def test_where_the_policy_says_so_an_expired_list_refuses_everything(desk: Desk, tmp_path: Path, start: Start):
    _expire_in_a_month(desk)
    desk.policy.write_text(
        desk.policy.read_text().replace("threshold: 2", "threshold: 2\n    when_expired: refuse-all")
    )
    gate = start(tmp_path / "state", *clock(timedelta(days=365)))
    assert "every request is refused" in gate.log()
    answer = gate.curl("http://pass.test/")
    assert answer.status == 503
    assert "its list has expired" in answer.body
    assert gate.curl("https://www.pass.test/").proxy_status == 503
    assert gate.curl("http://check.stoplist.invalid/").status == 403
    gate.process.end()
    assert start(tmp_path / "state").curl("http://pass.test/").status == 200
