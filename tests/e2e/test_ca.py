"""The CA of a real gate: trusted by real clients as it was exported, replaced without a gap, or not there at all."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from stoplist import clock
from stoplist.core.counts import Outcome
from tests import pki
from tests.e2e.conftest import EITHER_WAY, REDIRECTED
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, SECONDS, STOPLIST, Gate, Network, need, wait_until
from tests.e2e.ways import PAGE, Door, View, ask, ask_inside_tls, get, read_head, seen

HTML = ("-H", "Accept: text/html")

type Start = Callable[..., Gate]


@pytest.fixture
def start(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Start]:
    """Starts a gate that looks at its files each second; `keys` are added to its policy."""
    gates: list[Gate] = []

    def start(*options: str, keys: str = "", **more: object) -> Gate:
        desk.policy.write_text(f"{desk.policy.read_text()}watch: {{poll: 1s}}\n{keys}")
        gates.append(net.gate(desk.policy, tmp_path / "state", *options, **more))
        return gates[-1]

    yield start
    for gate in gates:
        gate.process.end()


@pytest.fixture
def run(desk: Desk, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command that takes the policy and the gate's state directory."""

    def run(command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [STOPLIST, command, str(desk.policy), *options, "--state-dir", str(tmp_path / "state")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def _done(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# What is exported is trusted


def test_what_was_exported_before_the_gate_ran_shows_the_page(net: Network, start: Start, run, tmp_path: Path):
    need("openssl")
    _done(run("ca", "--create"))
    _done(run("ca", "--export", "pem", "-o", str(tmp_path / "ca.pem")))
    _done(run("ca", "--export", "der", "-o", str(tmp_path / "ca.der")))
    net.gateway.run(
        *("openssl", "x509", "-inform", "der", "-in", str(tmp_path / "ca.der"), "-out", str(tmp_path / "from-der.pem"))
    )
    gate = start()
    with net.nothing_reaches_the_origin():
        for trust in ("ca.pem", "from-der.pem"):
            answer = gate.curl("https://www.listed.test/", *HTML, trust=tmp_path / trust)
            assert answer.status == 403, answer.error
            assert PAGE.decode() in answer.body


def _openssl(gate: Gate, root: Path) -> str:
    """What OpenSSL's own client makes of the certificates, with nothing but the root."""
    ran = subprocess.run(
        gate.network.gateway.enter(
            *("openssl", "s_client", "-proxy", f"{gate.address}:{gate.port}", "-connect", "www.listed.test:443"),
            *("-servername", "www.listed.test", "-verify_hostname", "www.listed.test", "-no-CApath", "-no-CAstore"),
            *("-CAfile", str(root), "-verify_return_error", "-x509_strict", "-showcerts"),
        ),
        input="",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048"])
def test_an_operators_intermediate_is_sent_and_verifies_up_to_the_root(
    net: Network, start: Start, desk: Desk, tmp_path: Path, kind: str
):
    need("openssl")
    root = pki.new(now=clock.now())
    middle = pki.new("Example Middle", root, kind=kind, now=clock.now())
    pki.new("Example Gate CA", middle, kind=kind, path_length=0, now=clock.now()).write(desk.folder, middle, root)
    (tmp_path / "root.pem").write_bytes(root.pem)
    gate = start(keys=pki.IN_POLICY)
    with net.nothing_reaches_the_origin():
        printed = _openssl(gate, tmp_path / "root.pem")
        answer = gate.curl("https://www.listed.test/", *HTML, trust=tmp_path / "root.pem")
    assert "Verify return code: 0 (ok)" in printed
    subjects = re.findall(r"^ *\d s:(.*)$", printed, re.MULTILINE)
    assert subjects == ["O = Stoplist, CN = Stop page", "CN = Example Gate CA", "CN = Example Middle"]
    assert answer.status == 403, answer.error
    assert PAGE.decode() in answer.body
    assert {path.name for path in gate.state_dir.glob("*.pem")} == set()


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param(lambda folder: (folder / "intermediate.key").chmod(0o640), "chmod 600", id="readable"),
        pytest.param(lambda folder: (folder / "intermediate.key").unlink(), "no such file", id="no key"),
        pytest.param(
            lambda folder: pki.new(ca=False, now=clock.now()).write(folder), "is not a CA certificate", id="no CA"
        ),
    ],
)
def test_with_an_intermediate_that_cannot_be_used_it_does_not_start(desk: Desk, harm, message: str):
    pki.new(now=clock.now()).write(desk.folder)
    harm(desk.folder)
    desk.policy.write_text(desk.policy.read_text() + pki.IN_POLICY)
    for done in (
        desk.run("--listen", "127.0.0.1:0"),
        desk.run("--listen", "127.0.0.1:0", "--workers", "2"),
        subprocess.run([STOPLIST, "check", desk.policy], capture_output=True, text=True, timeout=SECONDS, check=False),
    ):
        assert done.returncode == 1
        assert message in done.stderr
        assert str(desk.folder / "intermediate.") in done.stderr
        assert "Traceback" not in done.stderr


# Rotation


@dataclass
class Visits:
    """Clients that make one connection after the other to a listed host: who signed what they saw, or what failed."""

    issuers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def _visits(gate: Gate, trust: Path, clients: int = 2) -> Iterator[Visits]:
    visits, over, lock = Visits(), threading.Event(), threading.Lock()
    context = ssl.create_default_context(cafile=trust)

    def visit() -> str:
        with gate.connect() as raw:
            raw.sendall(b"CONNECT www.listed.test:443 HTTP/1.1\r\n\r\n")
            assert b" 200 " in read_head(raw)
            with context.wrap_socket(raw, server_hostname="www.listed.test") as tunnel:
                assert PAGE in ask(tunnel, get(b"www.listed.test"))
                return dict(name for (name,) in tunnel.getpeercert()["issuer"])["commonName"]

    def go_on() -> None:
        while not over.is_set():
            try:
                issuer = visit()
            except (OSError, AssertionError) as error:
                with lock:
                    visits.failures.append(repr(error))
            else:
                with lock:
                    visits.issuers.append(issuer)
            over.wait(0.02)

    threads = [threading.Thread(target=go_on) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield visits
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _settled(visits: Visits, count: int = 30) -> str | None:
    """The one issuer of all of the last visits, if there is one."""
    last = set(visits.issuers[-count:])
    return last.pop() if len(visits.issuers) >= count and len(last) == 1 else None


@pytest.mark.campaign
@pytest.mark.parametrize("options", EITHER_WAY)
def test_clients_that_trust_both_see_no_gap_when_the_next_ca_is_put_in_force(
    start: Start, run, tmp_path: Path, options: tuple[str, ...]
):
    gate = start(*options)
    _done(run("ca", "--renew"))
    both = tmp_path / "both.pem"
    _done(run("ca", "--export", "pem", "-o", str(both)))
    first, following = (
        each.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        for each in x509.load_pem_x509_certificates(both.read_bytes())
    )
    with _visits(gate, both) as visits:
        wait_until(lambda: len(visits.issuers) > 50, "some visits")
        assert set(visits.issuers) == {first}  # the next one waits until it is put in force
        _done(run("ca", "--switch"))
        gate.process.wait_for(rf"the CA CN={following},O=Stoplist is in force")
        wait_until(lambda: _settled(visits) == following, "the next CA")
    assert not visits.failures
    assert set(visits.issuers) == {first, following}
    assert gate.log().count("is in force until") == 1
    assert "fault" not in gate.log()
    gate.process.end()
    assert +gate.counts() == {("test", Outcome.STOPPED): len(visits.issuers)}


def test_an_operators_ca_is_replaced_without_a_gap(start: Start, desk: Desk, tmp_path: Path):
    root = pki.new(now=clock.now())
    first, second = (pki.new(f"Example Gate CA {number}", root, path_length=0, now=clock.now()) for number in (1, 2))
    first.write(desk.folder)
    (tmp_path / "root.pem").write_bytes(root.pem)
    gate = start(keys=pki.IN_POLICY)
    with _visits(gate, tmp_path / "root.pem") as visits:
        wait_until(lambda: len(visits.issuers) > 50, "some visits")
        (desk.folder / "intermediate.key").write_bytes(second.key_pem())
        gate.process.wait_for("the CA on disk is refused; the last good one stays in force")
        gate.process.wait_for("not the key of the first certificate")
        (desk.folder / "intermediate.pem").write_bytes(second.pem)
        wait_until(lambda: _settled(visits) == "Example Gate CA 2", "the second CA")
    assert not visits.failures
    assert gate.log().count("is refused") == 1


def test_a_ca_file_that_is_spoilt_or_gone_changes_nothing_until_the_restart(start: Start, desk: Desk, run):
    gate = start()
    known = gate.ca.read_bytes()
    for harm in (lambda path: path.write_bytes(b"garbage"), lambda path: path.unlink()):
        before = len(gate.process.err)
        harm(gate.state_dir / "ca.pem")
        gate.process.wait_for("the CA on disk is refused; the last good one stays in force", after=before)
        assert gate.curl("https://listed.test/").status == 403
        assert gate.ca.read_bytes() == known
    assert not (gate.state_dir / "ca.pem").exists()


def test_a_person_is_told_60_days_before_the_end(start: Start, desk: Desk, run):
    root = pki.new("Example Root", lasts=timedelta(days=30), now=clock.now())
    pki.new("Example Gate CA", root, lasts=timedelta(days=900), now=clock.now()).write(desk.folder, root)
    gate = start(keys=f"{pki.IN_POLICY}metrics: {{listen: 127.0.0.1:0}}\n")
    said = gate.process.wait_for(r'"event": "ca needs a person", "need": "(the CA ends on [^"]*)"')[1]
    assert re.fullmatch(r"the CA ends on \S+, in 29 days: have a new certificate issued, and replace its files", said)
    status = run("status", "--json")
    assert status.returncode == 1
    of_list, of_gate, of_ca = map(json.loads, status.stdout.splitlines())
    assert of_list["needs"] == of_gate["needs"] == []
    assert of_gate["gate"] == {"pid": gate.process.pid, "listening": [f"127.0.0.1:{gate.port}"]}
    assert of_ca["needs"] == [said]
    assert of_ca["ca"]["name"] == "CN=Example Gate CA"
    assert f"needs a person: {said}" in run("status").stdout
    time.sleep(2.5)
    assert gate.log().count("ca needs a person") == 1
    port = int(gate.process.wait_for(r"metrics at http://127.0.0.1:(\d+)/")[1])
    ends = re.search(
        r"\nstoplist_ca_expires_timestamp_seconds (\S+)", gate.network.curl(f"http://127.0.0.1:{port}/metrics").body
    )
    assert abs(float(ends[1]) - time.time() - 30 * 86400) < 600


# Without it

PORTS = {"regular": 8480, "socks5": 1480, "transparent": 8481}
MODES = tuple(option for mode, port in PORTS.items() for option in ("--mode", f"{mode}@{GATEWAY_ADDRESS}:{port}"))


@pytest.mark.parametrize("options", EITHER_WAY)
def test_where_https_is_refused_there_is_no_ca_and_each_way_in_is_stopped_and_counted(
    net: Network, start: Start, run, options: tuple[str, ...]
):
    gate = start(*options, *MODES, keys="https: refuse\nmetrics: {listen: 127.0.0.1:0}\n", address=GATEWAY_ADDRESS)
    doors = {mode: Door(net, mode, port, gate.ca, net.origin_ca) for mode, port in PORTS.items()}
    with net.redirect(REDIRECTED, PORTS["transparent"]):
        with net.nothing_reaches_the_origin():
            refused = doors["regular"].curl("https://www.listed.test/", *HTML)
            assert (refused.proxy_status, refused.exit_code) == (403, 56)
            for mode in ("socks5", "transparent"):
                assert doors[mode].curl("https://www.listed.test/").exit_code == 35, mode  # an alert, in place of TLS
            for door in doors.values():
                shown = door.curl("http://www.listed.test/", *HTML)
                assert (shown.status, PAGE.decode() in shown.body) == (403, True)
        for door in doors.values():
            assert door.curl("https://www.pass.test/").body == "origin www.pass.test\n"
            front = seen(lambda door=door: _behind_a_front(door))
            assert front is View.REFUSED
    port = int(gate.process.wait_for(r"metrics at http://127.0.0.1:(\d+)/")[1])
    metrics = net.curl(f"http://127.0.0.1:{port}/metrics").body
    assert "stoplist_ready 1.0" in metrics
    assert not re.search("^stoplist_ca_expires_timestamp_seconds", metrics, re.MULTILINE)
    assert _done(run("ca")) == "this policy uses no CA ('https: refuse'), so clients need none\n"
    assert json.loads(_done(run("status", "--json")).splitlines()[-1]) == {"ca": None, "needs": []}
    assert not list(gate.state_dir.glob("*.pem"))
    gate.process.end()
    assert "fault" not in gate.log()
    assert gate.counts()["test", Outcome.NOT_SHOWN] == 6
    assert gate.counts()["test", Outcome.STOPPED] == 3


def _behind_a_front(door: Door) -> bytes:
    """TLS for a listed name in a tunnel to an unlisted one."""
    with door.enter(b"www.pass.test", 443) as tunnel:
        return ask_inside_tls(tunnel, "listed.test", door.outer, get(b"listed.test"))


@pytest.mark.parametrize("status", [403, 451])
def test_a_refused_connect_says_why_in_plain_text(net: Network, start: Start, desk: Desk, status: int):
    desk.policy.write_text(desk.policy.read_text().replace("stop_page:\n", f"stop_page:\n  status: {status}\n"))
    gate = start(keys="https: refuse\n")
    with net.nothing_reaches_the_origin():
        answer = gate.send(b"CONNECT www.listed.test:443 HTTP/1.1\r\nHost: www.listed.test:443\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: text/plain" in head
    assert PAGE in body
    assert b"listed.test" not in answer


@pytest.mark.parametrize("options", EITHER_WAY)
def test_pages_can_be_had_later_without_a_restart(start: Start, desk: Desk, options: tuple[str, ...]):
    gate = start(*options, keys="https: refuse\n")
    assert gate.curl("https://listed.test/", trust=desk.policy).proxy_status == 403
    desk.policy.write_text(desk.policy.read_text().replace("https: refuse", "https: page"))
    gate.process.wait_for("the CA CN=Stoplist gate .* is in force")
    wait_until(lambda: all(gate.curl("https://listed.test/").status == 403 for _ in range(8)), "the page")
    desk.policy.write_text(desk.policy.read_text().replace("https: page", "https: refuse"))
    wait_until(lambda: all(gate.curl("https://listed.test/").proxy_status == 403 for _ in range(8)), "the refusal")
    assert "fault" not in gate.log()


def test_with_interception_listed_hosts_are_refused_and_others_decrypted(net: Network, start: Start):
    gate = start(keys=f"https: refuse\ntls: intercept\nupstream: {{ca: {net.origin_ca}}}\n")
    assert gate.curl("https://www.pass.test/").body == "origin www.pass.test\n"
    with net.nothing_reaches_the_origin():
        assert gate.curl("https://listed.test/").proxy_status == 403
    hidden = gate.curl("https://www.pass.test/", "-H", "Host: listed.test", *HTML)
    assert (hidden.status, PAGE.decode() in hidden.body) == (403, True)
    gate.process.end()
    assert gate.counts()["test", Outcome.NOT_SHOWN] == 1
    assert gate.counts()["test", Outcome.STOPPED] == 1
