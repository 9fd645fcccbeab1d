"""A site that is listed by mistake: looked up, excepted for a time, journalled, and its domain told to nobody."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from tests.e2e.desk import Desk
from tests.e2e.network import Gate, Network, wait_until

EXCEPTION = "exceptions: [{{domain: listed.test, reason: appeal 14 upheld, until: {until:%Y-%m-%d}}}]\n"


def _journal(desk: Desk, gate: Gate) -> list[dict[str, object]]:
    lines = desk.stoplist("status", "policy.yaml", "--state-dir", str(gate.state_dir), "--journal", "20", "--json")
    return [json.loads(line) for line in lines.splitlines()]


def _status(gate: Gate) -> int:
    return gate.curl("http://www.listed.test/").status


def test_an_exception_passes_for_a_time_and_is_journalled_without_its_domain(net: Network, desk: Desk, own_gate: Gate):
    without = desk.policy.read_text()
    assert "listed.test: stop, listed (test, serial" in desk.stoplist("lookup", "policy.yaml", "listed.test")
    assert _status(own_gate) == 403

    desk.policy.write_text(without + EXCEPTION.format(until=datetime.now(UTC) + timedelta(days=30)))
    assert "listed.test: pass, an exception of the policy" in desk.stoplist("lookup", "policy.yaml", "listed.test")
    wait_until(lambda: _status(own_gate) == 200, "the exception")

    desk.policy.write_text(without)
    wait_until(lambda: _status(own_gate) == 403, "the end of the exception")

    def results() -> list[object]:
        return [entry["result"] for entry in _journal(desk, own_gate)]

    wait_until(lambda: results() == ["activated", "excepted", "withdrawn"], "the journal")
    entries = _journal(desk, own_gate)
    assert str(entries[1]["why"]).startswith("appeal 14 upheld (until 20")
    assert entries[1]["why"] == entries[2]["why"]
    assert "listed.test" not in json.dumps(entries)
    assert b"listed.test" not in (own_gate.state_dir / "state.db").read_bytes()


def test_an_exception_that_has_ended_stops_nothing_from_being_stopped(net: Network, desk: Desk):
    desk.policy.write_text(desk.policy.read_text() + EXCEPTION.format(until=datetime.now(UTC) - timedelta(days=2)))
    gate = net.gate(desk.policy, desk.folder / "state")
    try:
        assert _status(gate) == 403
    finally:
        gate.process.end()
