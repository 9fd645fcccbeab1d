"""The add-on inside mitmdump: the same judgement, and warnings of what would break a promise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stoplist.core.counts import Outcome
from tests.e2e.conftest import LOAD
from tests.e2e.desk import Desk
from tests.e2e.network import MITMDUMP, ORIGIN_ADDRESS, Gate, Network, wait_until
from tests.e2e.ways import read_head

type Start = Callable[..., Gate]


@pytest.fixture
def start(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Start]:
    """Start mitmdump with a script and options; its listening port is found in its log."""
    processes = []

    def start(*options: str, script: Path = LOAD, environment: tuple[str, ...] = ()) -> Gate:
        process = net.start(
            *("env", f"HOME={tmp_path}", *environment),
            *(str(MITMDUMP), "-s", str(script), "--listen-host", "127.0.0.1", "--listen-port", "0"),
            *("--set", f"stoplist_policy={desk.policy}", "--set", f"stoplist_state_dir={tmp_path / 'state'}", *options),
        )
        processes.append(process)
        port = int(process.wait_for(r"proxy listening at 127\.0\.0\.1:(\d+)")[1])
        process.wait_for("list test serial 1 in force")
        return Gate(net, process, port, tmp_path / "state")

    yield start
    for process in processes:
        process.end()


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("options", "promises"), [(("--set", "flow_detail=0"), True), ((), False)], ids=["as recommended", "flow logging"]
)
def test_the_page_says_that_nothing_is_kept_only_where_that_is_so(
    start: Start, options: tuple[str, ...], promises: bool
):
    page = start(*options).curl("http://listed.test/", "-H", "Accept: text/html").body
    assert ("kept no personal data" in page) is promises
    assert "You are not accused of anything." in page


@pytest.mark.parametrize("strategy", ["lazy", "eager"])
def test_it_stops_and_passes_like_the_gate(net: Network, start: Start, strategy: str):
    gate = start("--set", f"connection_strategy={strategy}", "--set", "flow_detail=0")
    with net.nothing_reaches_the_origin():
        for url in ("http://listed.test/", "https://www.listed.test/", "https://stopped.example/"):
            answer = gate.curl(url, "-H", "Accept: text/html")
            assert answer.status == 403, answer.error
            assert "Access to this site was stopped" in answer.body
    assert gate.curl("http://pass.test/").status == 200
    assert gate.curl("https://www.pass.test/", trust=net.origin_ca).status == 200


@pytest.mark.campaign
def test_the_next_ca_is_taken_up_without_a_restart(start: Start, desk: Desk, tmp_path: Path):
    desk.policy.write_text(desk.policy.read_text() + "watch: {poll: 1s}\n")
    gate = start("--set", "flow_detail=0")
    both = tmp_path / "both.pem"
    command = ("ca", str(desk.policy), "--state-dir", str(gate.state_dir))
    desk.stoplist(*command, "--renew")
    desk.stoplist(*command, "--export", "pem", "-o", str(both))
    assert gate.curl("https://listed.test/", trust=both).status == 403
    desk.stoplist(*command, "--switch")
    gate.process.wait_for("the CA CN=Stoplist gate .* G2,O=Stoplist is in force")
    assert gate.curl("https://listed.test/").status == 403


def test_listed_sni_in_a_tunnel_to_an_unlisted_host_is_stopped_before_tls_to_it(net: Network, start: Start):
    gate = start("--set", "connection_strategy=eager", "--set", "flow_detail=0")
    before = net.requests()
    answer = gate.curl("https://listed.test/", "--connect-to", "listed.test:443:pass.test:443")
    assert answer.status == 403
    assert net.requests() == before


def test_nothing_is_logged_in_the_recommended_configuration(net: Network, start: Start):
    gate = start("--set", "flow_detail=0")
    gate.curl("https://www.listed.test/secret-path")
    gate.curl("https://www.listed.test/", trust=net.origin_ca)
    gate.curl("https://www.pass.test/", trust=net.origin_ca)
    gate.curl("https://down.pass.test:4444/")
    gate.curl("http://down.pass.test:4444/")
    gate.process.end()
    written = "".join(gate.process.out) + gate.log()
    for word in ("listed.test", "pass.test", "secret-path", ORIGIN_ADDRESS):
        assert word not in written
    assert not re.search(r"\b4444\b", written), "as a word: the gate's own port may hold it"
    assert "mitmproxy's option" not in written
    assert "mitmproxy's add-on" not in written
    assert "fault" not in written
    assert +gate.counts() == {("test", Outcome.STOPPED): 1, ("test", Outcome.NOT_SHOWN): 1, (None, Outcome.PASSED): 3}


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("options", "warning"),
    [
        pytest.param((), "flow_detail prints every request", id="flow logging"),
        pytest.param(("-w", "flows"), "save_stream_file saves every request", id="saved flows"),
        pytest.param(("--set", "hardump=flows.har"), "hardump saves every request", id="saved HAR"),
        pytest.param(("--set", "stickyauth=.*"), "stickyauth keeps passwords", id="kept passwords"),
        pytest.param(("--set", "stickycookie=.*"), "stickycookie keeps cookies", id="kept cookies"),
        pytest.param(
            ("--ignore-hosts", "pass"),
            "ignore_hosts lets some hosts pass without a look at the lists",
            id="ignored hosts",
        ),
        pytest.param(
            ("--allow-hosts", "pass"),
            "allow_hosts lets some hosts pass without a look at the lists",
            id="allowed hosts",
        ),
    ],
)
def test_options_that_would_break_a_promise_are_warned_of(start: Start, options: tuple[str, ...], warning: str):
    start(*options).process.wait_for(f"mitmproxy's option {warning}")


@pytest.mark.campaign
@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"])
def test_a_variable_that_has_keys_written_is_warned_of_and_no_page_promises_otherwise(
    start: Start, tmp_path: Path, variable: str
):
    gate = start("--set", "flow_detail=0", environment=(f"{variable}={tmp_path / 'keys'}",))
    gate.process.wait_for(f"mitmproxy's variable {variable} writes TLS keys to a file; unset it")
    page = gate.curl("http://listed.test/", "-H", "Accept: text/html").body
    assert "You are not accused of anything." in page
    assert "kept no personal data" not in page


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("script", "name"),
    [
        pytest.param(
            "class Recorder:\n    def request(self, flow): ...\naddons = [Recorder()]\n", "recorder", id="a class"
        ),
        pytest.param("def request(flow): ...\n", "others.py", id="a module"),
        pytest.param(
            "class Inner:\n    def request(self, flow): ...\nclass Out:\n    addons = [Inner()]\naddons = [Out()]\n",
            "inner",
            id="one within another",
        ),
    ],
)
def test_other_add_ons_are_warned_of(start: Start, tmp_path: Path, script: str, name: str):
    (tmp_path / "others.py").write_text(script)
    gate = start("--set", "flow_detail=0", "-s", str(tmp_path / "others.py"))
    gate.process.wait_for(rf"mitmproxy's add-on \S*{name} can see and record every request; remove it")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        pytest.param(
            "", "no policy is in force, so every request is refused; use --set stoplist_policy=FILE", id="none"
        ),
        pytest.param("gone.yaml", "gone.yaml: no such file", id="missing"),
    ],
)
def test_without_a_policy_mitmdump_does_not_run(net: Network, tmp_path: Path, policy: str, message: str):
    process = net.start(
        *("env", f"HOME={tmp_path}", str(MITMDUMP), "-s", str(LOAD), "--listen-port", "0"),
        *("--set", f"stoplist_policy={policy}", "--set", f"stoplist_state_dir={tmp_path / 'state'}"),
    )
    assert process.wait() == 1
    assert message in "".join(process.out + process.err)


@pytest.fixture
def own_script(tmp_path: Path) -> Path:
    """A script of one's own to break; mitmdump looks at it every second."""
    script = tmp_path / "gate.py"
    script.write_text(LOAD.read_text())
    return script


def _stops(gate: Gate) -> bool:
    return gate.curl("http://pass.test/", "--max-time", "10").status == 0


@pytest.mark.campaign
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda script: script.unlink(), id="gone"),
        pytest.param(lambda script: script.write_text("def broken(:\n"), id="a syntax error"),
        pytest.param(lambda script: script.write_text("raise RuntimeError\n"), id="an exception"),
        pytest.param(lambda script: script.write_text(""), id="empty"),
        pytest.param(lambda script: script.write_text("addons = []\n"), id="without the add-on"),
        pytest.param(lambda script: script.write_text("import nothing_of_the_kind\n"), id="a missing module"),
    ],
)
def test_traffic_stops_when_the_script_is_broken_or_gone(
    net: Network, start: Start, own_script: Path, damage: Callable[[Path], object]
):
    gate = start("--set", "flow_detail=0", script=own_script)
    assert gate.curl("http://pass.test/").status == 200
    with gate.connect() as tunnel:
        tunnel.sendall(b"CONNECT www.pass.test:22 HTTP/1.1\r\n\r\n")
        assert b"SSH-2.0-origin" in read_head(tunnel) + tunnel.recv(100)
        damage(own_script)
        wait_until(lambda: _stops(gate), "the end of all traffic")
        with suppress(ConnectionError):
            assert tunnel.recv(100) == b""
    with net.nothing_reaches_the_origin():
        for url in ("http://pass.test/", "https://www.pass.test/", "http://listed.test/", "https://listed.test/"):
            assert gate.curl(url, "--max-time", "10").status == 0


def test_traffic_flows_again_when_the_script_is_mended(net: Network, start: Start, own_script: Path):
    gate = start("--set", "flow_detail=0", script=own_script)
    own_script.write_text("def broken(:\n")
    wait_until(lambda: _stops(gate), "the end of all traffic")
    own_script.write_text(LOAD.read_text())
    wait_until(lambda: not _stops(gate), "traffic")
    with net.nothing_reaches_the_origin():
        assert gate.curl("http://listed.test/").status == 403
    assert gate.curl("https://www.pass.test/", trust=net.origin_ca).status == 200


def test_passwords_that_cannot_be_checked_end_it(net: Network, desk: Desk, tmp_path: Path):
    """The add-on of mitmproxy that asks for passwords logs that its directory does not answer, and would ask nobody."""
    process = net.start(
        *(
            "env",
            f"HOME={tmp_path}",
            str(MITMDUMP),
            "-s",
            str(LOAD),
            "--listen-host",
            "127.0.0.1",
            "--listen-port",
            "0",
        ),
        *("--set", f"stoplist_policy={desk.policy}", "--set", f"stoplist_state_dir={tmp_path / 'state'}"),
        *("--set", "proxyauth=ldap:127.0.0.1:3891:cn=gate:binding:dc=directory"),
    )
    assert process.wait() == 1
