"""`stoplist selftest` against real gates, as a client beside them, and as a monitor would run it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from tests.e2e.clocks import clock
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, STOPLIST, Gate, Network, need

CONTROL = "www.pass.test"
CHECK_HOST = "check.stoplist.invalid"


@dataclass
class Said:
    exit_code: int
    out: str
    err: str

    @property
    def results(self) -> dict[str, str]:
        return {check["name"]: check["result"] for check in json.loads(self.out)["checks"]}

    def seen(self, name: str) -> str:
        return next(check["seen"] for check in json.loads(self.out)["checks"] if check["name"] == name)


FINE = dict.fromkeys(("http", "https", "control", "untouched", "list age"), "ok")


def _selftest(gate: Gate, *options: str, proxy: str | None = None, trust: tuple[str, ...] | None = None) -> Said:
    """What the command says in the client's namespace; the proxy comes from the environment."""
    net = gate.network
    trust = ("--ca", str(gate.ca)) if trust is None else trust
    done = subprocess.run(
        net.client.enter(
            *("env", f"STOPLIST_PROXY={proxy or gate.url}", str(STOPLIST), "selftest", *trust),
            *("--control", CONTROL, "--control-ca", str(net.origin_ca), "--format", "json", *options),
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def _fine(said: Said) -> bool:
    return said.exit_code == 0 and said.results == FINE


@contextmanager
def _gate(net: Network, desk: Desk, state_dir: Path, more: str = "") -> Iterator[Gate]:
    with desk.policy.open("a") as policy:
        policy.write(more)
    gate = net.gate(desk.policy, state_dir, address=GATEWAY_ADDRESS)
    try:
        yield gate
    finally:
        gate.process.end()
    assert "fault" not in gate.log()


def test_all_is_fine_and_nothing_is_counted(net: Network, desk: Desk, tmp_path: Path):
    before = net.journal()
    with _gate(net, desk, tmp_path / "state") as gate:
        with_ca, without = _selftest(gate), _selftest(gate, trust=())
        assert gate.curl("http://listed.test/", space=net.client).status == 403
    assert _fine(with_ca), with_ca
    assert _fine(without), without
    assert "under a certificate of its CA" in with_ca.seen("https")
    assert "--ca" in without.seen("https")
    # The one stop is curl's; both handshakes with the control host have passed.
    assert {(list_, str(outcome)): times for (list_, outcome), times in gate.counts().items() if times} == {
        ("test", "stopped"): 1,
        (None, "passed"): 2,
    }
    arrived = net.journal()[len(before) :]
    assert [line for line in arrived if line.startswith("request")] == []
    assert sum(line.startswith("connection 443") for line in arrived) == 2
    assert CONTROL not in gate.log()
    assert CHECK_HOST not in gate.log()


def test_only_the_gate_asks_the_network(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        queries = len(net.queries())
        assert _fine(_selftest(gate))
        asked = {re.match(r"query\[\w+\] (\S+) from (\S+)", line).groups() for line in net.queries()[queries:]}
    assert {name for name, _ in asked} == {CONTROL}


def test_first_line_for_a_monitor(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        said = _selftest(gate, "--format", "text")
        assert re.match(r"STOPLIST OK - 5 checks fine \| http=\S+s https=\S+s control=\S+s", said.out)
        assert _selftest(gate, "--quiet").out == ""


def test_the_check_host_is_stopped_while_all_else_is_observed(net: Network, desk: Desk, tmp_path: Path):
    desk.policy.write_text("mode: observe\n" + desk.policy.read_text())
    with _gate(net, desk, tmp_path / "state") as gate:
        said = _selftest(gate)
    assert _fine(said), said


def test_a_network_without_the_ca_is_fine(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state", "https: refuse\n") as gate:
        said = _selftest(gate, trust=())
    assert _fine(said), said
    assert "without a page: CONNECT is refused (403)" in said.seen("https")


def test_a_list_that_is_too_old_is_warned_of(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        assert _fine(_selftest(gate, "--max-age", "1"))
    later = (*clock(timedelta(days=40)), str(STOPLIST))
    gate = net.gate(desk.policy, tmp_path / "later", address=GATEWAY_ADDRESS, program=later)
    try:
        said = _selftest(gate, "--max-age", "30", trust=())
    finally:
        gate.process.end()
    assert said.results["list age"] == "warning"
    assert "the list is 40 days old, more than 30" in said.seen("list age")


def test_a_gate_that_decrypts_is_told(net: Network, desk: Desk, tmp_path: Path):
    more = f"tls: intercept\nupstream: {{ca: {net.origin_ca}}}\n"
    with _gate(net, desk, tmp_path / "state", more) as gate:
        # Also where this machine trusts the gate's CA for every site, as it must there.
        for options in ((), ("--control-ca", str(gate.ca))):
            said = _selftest(gate, *options)
            assert said.exit_code == 2
            assert said.results.items() >= (FINE | {"untouched": "failed"}).items()
            assert "decrypted by the gate" in said.seen("untouched")


def test_a_listed_control_host_is_told(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        said = _selftest(gate, "--control", "www.listed.test")
    assert said.exit_code == 2
    assert "the gate's own CA" in said.seen("untouched")


def test_a_control_host_that_is_down_is_told(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        said = _selftest(gate, "--control", "down.test:4444")
    assert said.exit_code == 2
    assert "down.test:4444 does not pass: CONNECT is answered with status 502" in said.seen("control")


def test_another_ca_is_told(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        said = _selftest(gate, trust=("--ca", str(net.origin_ca)))
    assert said.exit_code == 2
    assert said.results.items() >= (FINE | {"https": "failed"}).items()


def test_a_host_that_is_not_stopped_is_told(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        said = _selftest(gate, "--check-host", CONTROL)
    assert said.exit_code == 2
    assert said.results == FINE | {"http": "failed", "https": "failed", "list age": "skipped"}
    assert "is not stopped: status 200" in said.seen("http")


def test_a_gate_that_is_stopped_leaves_all_unknown(net: Network, desk: Desk, tmp_path: Path):
    with _gate(net, desk, tmp_path / "state") as gate:
        pass
    said = _selftest(gate)
    assert said.exit_code == 3
    assert "cannot be reached: Connection refused" in said.seen("http")


@pytest.mark.campaign
def test_a_report_says_how_many_passed_and_no_host(net: Network, desk: Desk, tmp_path: Path):
    """Each result is appended to a file, as cron does it: one of a gate that is fine, one of a gate that is stopped."""
    results, state_dir = tmp_path / "selftests.jsonl", tmp_path / "state"
    with results.open("w") as file:
        with _gate(net, desk, state_dir) as gate:
            file.write(_selftest(gate).out)
        file.write(_selftest(gate).out)
    assert CONTROL in results.read_text()
    assert [json.loads(line)["exit_code"] for line in results.read_text().splitlines()] == [0, 3]

    given = ("--state-dir", str(state_dir), "--selftests", str(results))
    reports = {
        wanted: desk.stoplist("report", str(desk.policy), *given, "--format", wanted)
        for wanted in ("table", "csv", "json", "html")
    }
    found = json.loads(reports["json"])["self_tests"]
    assert (found["tests"], found["passed"]) == (2, 1)
    (stretch,) = found["not_passed"]
    assert (stretch["tests"], stretch["state"], stretch["checks"]) == (1, "unknown", ["http"])
    assert "\nSelf-tests:   1 of 2 passed" in reports["table"]
    for text in reports.values():
        for words in (CONTROL, CHECK_HOST, GATEWAY_ADDRESS, f":{gate.port}", "Connection refused"):
            assert words not in text


def test_names_and_passwords(net: Network, desk: Desk, tmp_path: Path):
    need("htpasswd")
    subprocess.run(["htpasswd", "-cbB", str(desk.folder / "users.htpasswd"), "anna", "open sesame"], check=True)
    with _gate(net, desk, tmp_path / "state", "proxy_auth: {htpasswd: users.htpasswd}\n") as gate:
        place = f"{GATEWAY_ADDRESS}:{gate.port}"
        said = _selftest(gate, proxy=f"http://anna:open%20sesame@{place}")
        assert _fine(said), said
        assert "sesame" not in said.out + said.err
        for proxy in (f"http://anna:wrong@{place}", f"http://{place}"):
            said = _selftest(gate, proxy=proxy)
            assert said.exit_code == 3
            assert "name and" in said.seen("http")


def test_tls_to_the_gate(net: Network, desk: Desk, tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "proxy-ca.pem"))
    authority.issue_cert(GATEWAY_ADDRESS).private_key_and_cert_chain_pem.write_to_path(str(desk.folder / "own.pem"))
    with _gate(net, desk, tmp_path / "state", "certificate: {cert: own.pem, key: own.pem}\n") as gate:
        proxy = f"https://{GATEWAY_ADDRESS}:{gate.port}"
        said = _selftest(gate, "--proxy-ca", str(tmp_path / "proxy-ca.pem"), proxy=proxy)
        assert _fine(said), said
        said = _selftest(gate, proxy=proxy)
        assert said.exit_code == 3
        assert "TLS to the proxy fails" in said.seen("http")
        assert _fine(_selftest(gate))  # the port takes both
