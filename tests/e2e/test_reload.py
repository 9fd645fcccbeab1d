"""Promise 3: a new list is enforced when its file changes; what does not verify changes nothing.

The gates poll by the hour: what they take up they do by an event.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from stoplist.core.counts import Outcome
from stoplist.state import State
from tests.e2e.desk import Desk
from tests.e2e.network import SECONDS, Gate, Network, need, wait_until


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.policy.write_text("watch: {poll: 1h}\n" + desk.policy.read_text())
    return desk


def _becomes(gate: Gate, url: str, status: int) -> None:
    wait_until(lambda: gate.curl(url).status == status, f"status {status} of {url}")


def test_new_list_is_enforced_both_ways_under_load(net: Network, desk: Desk, own_gate: Gate):
    need("hey")
    new = desk.build(["stopped.example", "added.test"], "next.stoplist", serial=2)
    load = subprocess.Popen(
        net.enter("hey", "-z", "1h", "-c", "20", "-t", str(SECONDS), "-x", own_gate.url, "http://pass.test/"),
        stdout=subprocess.PIPE,
        text=True,
    )
    before = len(net.requests())
    wait_until(lambda: len(net.requests()) > before + 500, "the load")
    assert own_gate.curl("http://listed.test/").status == 403
    assert own_gate.curl("http://added.test/").status == 200

    new.replace(desk.list)

    _becomes(own_gate, "http://added.test/", 403)
    _becomes(own_gate, "http://listed.test/", 200)
    assert own_gate.curl("https://stopped.example/").status == 403
    before = len(net.requests())
    wait_until(lambda: len(net.requests()) > before + 500, "more of the load")
    load.send_signal(signal.SIGINT)  # it ends, and reports
    report = load.communicate(timeout=SECONDS)[0]
    statuses = re.findall(r"\[(\d+)\]\s+(\d+) responses", report)
    assert [status for status, _ in statuses] == ["200"], report
    assert "Error distribution" not in report


def test_a_changed_policy_is_taken_up(desk: Desk, own_gate: Gate):
    text = desk.policy.read_text()
    desk.policy.write_text(text + 'exceptions: [{domain: listed.test, reason: "appeal", until: 2099-12-31}]\n')
    _becomes(own_gate, "http://listed.test/", 200)
    assert own_gate.curl("http://stopped.example/").status == 403


def test_a_changed_base_is_taken_up(desk: Desk, own_gate: Gate):
    base = desk.folder / "bases" / "base.yaml"
    base.parent.mkdir()
    text = desk.policy.read_text().replace(": test.", ": ../test.").replace("[authority", "[../authority")
    base.write_text(text.replace(" operator.pub", " ../operator.pub"))
    desk.policy.write_text("include: bases/base.yaml\nmode: observe\n")
    _becomes(own_gate, "http://listed.test/", 200)
    desk.policy.write_text("include: bases/base.yaml\n")
    _becomes(own_gate, "http://listed.test/", 403)
    with base.open("a") as file:
        file.write('exceptions: [{domain: listed.test, reason: "appeal", until: 2099-12-31}]\n')
    _becomes(own_gate, "http://listed.test/", 200)
    assert own_gate.curl("http://stopped.example/").status == 403


def test_observed_requests_pass_and_are_counted(net: Network, desk: Desk, own_gate: Gate):
    desk.policy.write_text("mode: observe\n" + desk.policy.read_text())
    _becomes(own_gate, "http://listed.test/", 200)
    for _ in range(5):
        assert own_gate.curl("https://www.pass.test/", trust=net.origin_ca).status == 200
        assert own_gate.curl("https://listed.test/", "-k").status == 200
        assert own_gate.curl("http://www.listed.test/").status == 200
        assert own_gate.curl("http://www.listed.test/", "-p").status == 200
    assert own_gate.curl("http://check.stoplist.invalid/").status == 403
    own_gate.process.end()
    # 1 of the wait, and 5 each: a tunnel and what it carries are one request.
    assert own_gate.counts()["test", Outcome.OBSERVED] == 16
    assert own_gate.counts()[None, Outcome.PASSED] == 5


def test_a_policy_that_fails_its_own_tests_is_not_taken_up(desk: Desk, own_gate: Gate):
    seen = len(own_gate.process.err)
    desk.policy.write_text(desk.policy.read_text() + "  - {host: pass.test, expect: stop}\n")
    own_gate.process.wait_for(r"policy\.yaml:\d+:\d+: test 2 fails", after=seen)
    assert own_gate.curl("http://pass.test/").status == 200


def _flip_a_byte(desk: Desk) -> None:
    data = bytearray(desk.list.read_bytes())
    data[len(data) // 3] ^= 1
    desk.list.write_bytes(data)


def _truncate(desk: Desk) -> None:
    desk.list.write_bytes(desk.list.read_bytes()[:-100])


def _unsign(desk: Desk) -> None:
    new = desk.build(["added.test"], "next.stoplist", serial=9)
    envelope = json.loads(new.read_bytes())
    envelope["signatures"] = []
    desk.list.write_text(json.dumps(envelope))


def _sign_by_one_key_under_two_ids(desk: Desk) -> None:
    new = desk.build(["added.test"], "next.stoplist", signers=["authority"], serial=9)
    envelope = json.loads(new.read_bytes())
    (signature,) = envelope["signatures"]
    other = json.loads(desk.list.read_bytes())["signatures"][1]["keyid"]
    envelope["signatures"].append({"keyid": other, "sig": signature["sig"]})
    desk.list.write_text(json.dumps(envelope))


def _sign_by_one_key_only(desk: Desk) -> None:
    desk.build(["added.test"], "next.stoplist", signers=["authority"], serial=9).replace(desk.list)


def _sign_by_a_stranger(desk: Desk) -> None:
    desk.stoplist("list", "keygen", "stranger")
    desk.build(["added.test"], "next.stoplist", signers=["authority", "stranger"], serial=9).replace(desk.list)


def _older_serial(desk: Desk) -> None:
    desk.publish(["listed.test", "stopped.example"])
    state = State.open_read_only(desk.folder.parent / "state")
    wait_until(lambda: state.in_force(desk.list).header.serial == 2, "serial 2")
    state.close()
    desk.build(["added.test"], "next.stoplist", serial=1).replace(desk.list)


def _same_serial(desk: Desk) -> None:
    desk.build(["added.test"], "next.stoplist", serial=desk.serial).replace(desk.list)


def _more_than_was_signed(desk: Desk) -> None:
    envelope = json.loads(desk.list.read_bytes())
    payload = base64.b64decode(envelope["payload"]) + b"\xff" * 16
    desk.list.write_text(json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}))


@pytest.mark.parametrize(
    ("harm", "remedy"),
    [
        pytest.param(_flip_a_byte, r"signed by 0 of the trusted keys, 2 needed; get it signed", id="flipped byte"),
        pytest.param(_truncate, r"it is cut off, or something else; ask the publisher", id="truncated"),
        pytest.param(_unsign, r"signed by 0 of the trusted keys, 2 needed; get it signed", id="unsigned"),
        pytest.param(_sign_by_one_key_under_two_ids, r"signed by 1 of the trusted keys", id="one key under two ids"),
        pytest.param(_sign_by_one_key_only, r"signed by 1 of the trusted keys, 2 needed", id="one signature"),
        pytest.param(_sign_by_a_stranger, r"signed by 1 of the trusted keys, 2 needed", id="a stranger's signature"),
        pytest.param(lambda desk: desk.list.write_bytes(b""), r"the file is empty; ask the publisher", id="empty"),
        pytest.param(lambda desk: desk.list.unlink(), r"no such file; put it there", id="deleted"),
        pytest.param(
            lambda desk: desk.list.write_text("<html>404</html>"),
            r"it is cut off, or something else; ask",
            id="an error page",
        ),
        pytest.param(_older_serial, r"serial 1 is older than 2, .*; fetch the newest list", id="older serial"),
        pytest.param(
            _same_serial,
            r"another list with the same serial 1 was in force; the publisher must build",
            id="same serial",
        ),
        pytest.param(_more_than_was_signed, r"signed by 0 of the trusted keys", id="longer than signed"),
    ],
)
def test_a_bad_file_leaves_the_old_list_enforced_and_says_what_to_do(
    desk: Desk, own_gate: Gate, harm: Callable[[Desk], object], remedy: str
):
    harm(desk)
    own_gate.process.wait_for(rf"a list is refused; the last good one stays in force\\n.*{remedy}")
    assert own_gate.curl("http://listed.test/").status == 403
    assert own_gate.curl("https://www.stopped.example/").status == 403
    assert own_gate.curl("http://added.test/").status == 200

    desk.serial = 10
    desk.publish(["repaired.test"])
    _becomes(own_gate, "http://repaired.test/", 403)
