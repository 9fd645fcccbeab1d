"""Trials on logs that the real programs write, and on what a real gate then counts.

Each program logs what curl, a client of DNS or a browser asks in a network of its own; a trial must count exactly that.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import pytest
import zstandard

from stoplist.core.counts import Outcome
from stoplist.tools.trial.logs.formats import LINE_FORMATS, SURICATA, ZEEK
from tests.e2e.conftest import LOAD
from tests.e2e.desk import Desk
from tests.e2e.network import (
    META_ADDRESS,
    MITMDUMP,
    ORIGIN_ADDRESS,
    SECONDS,
    STOPLIST,
    Gate,
    Network,
    Process,
    need,
    wait_until,
)

PORT = 3131
DNS_PORT = 5353
SECURE = "https://{}/"
PLAIN = "http://{}/page?query"
ASKED = [
    *[PLAIN.format("listed.test")] * 3,
    *[PLAIN.format("www.pass.test")] * 4,
    *[SECURE.format("www.listed.test")] * 2,
    *[SECURE.format("pass.test"), "http://stopped.example:8080/", "http://LISTED.test:80/a"],
    *["http://notlisted.test/", "http://check.stoplist.invalid/", f"http://{META_ADDRESS}/"],
]
"""7 requests for listed hosts, 6 for others, one for a check host, one for an address that no client may reach."""
NAMES = [*["listed.test"] * 3, *["WWW.Stopped.example."] * 2, *["pass.test"] * 4, "check.stoplist.invalid"]
STOPPED, PASSED, REFUSED = ("test", "stopped"), (None, "passed"), (None, "refused")
COUNTED = {STOPPED: 7, PASSED: 6, REFUSED: 1}
QUERIED = {STOPPED: 5, PASSED: 4}


def trial(policy: Path, *arguments: str | Path, status: int = 0, stdin: bytes | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [STOPLIST, "trial", policy, *arguments, "--exact", "--json"],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr.decode()
    return json.loads(done.stdout)


def totals(found: dict[str, Any]) -> dict[tuple[str | None, str], int]:
    return {(each["list"], each["outcome"]): each["requests"] for each in found["totals"] if each["requests"]}


def expect(found: dict[str, Any], format_name: str, counted: dict[tuple[str | None, str], int]) -> None:
    """All was understood, on one of the days of this test."""
    assert found["formats"] == [format_name]
    assert totals(found) == counted
    assert found["judged"] == sum(counted.values())
    assert found["unparsable_lines"] == 0
    today = datetime.now(UTC)
    assert {each["day"] for each in found["counts"]} <= {f"{today - timedelta(days=ago):%Y-%m-%d}" for ago in (0, 1)}


def ask(net: Network, proxy: str, urls: Sequence[str] = ASKED) -> None:
    for url in urls:
        net.curl(url, "--proxy", proxy, "--insecure", "--max-time", str(SECONDS))


def grown(log: Path, lines: int) -> Path:
    """The log, once so many lines are in it."""
    wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") >= lines, f"{lines} lines in {log.name}")
    return log


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that programs may reach, and write to, that give up their rights."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.end()


@pytest.fixture
def squid_logs(net: Network, folder: Path, started: list[Process]) -> Path:
    """Squid's logs of what was asked: `access.log` in its own format, `combined.log`."""
    need("squid")
    config = folder / "squid.conf"
    config.write_text(
        f"http_port 127.0.0.1:{PORT}\nhttp_access allow all\ncache deny all\ncache_log /dev/null\npid_filename none\n"
        f"shutdown_lifetime 0 seconds\nvisible_hostname squid.test\ndns_nameservers {ORIGIN_ADDRESS}\n"
        f"netdb_filename none\naccess_log stdio:{folder}/access.log squid\n"
        f"access_log stdio:{folder}/combined.log combined\nbuffered_logs off\ncoredump_dir none\n"
    )
    started.append(net.start("squid", "-N", "-f", str(config)))
    wait_until(lambda: net.listens(PORT), "squid")
    for log in ("access.log", "combined.log"):
        (folder / log).write_text("")
    ask(net, f"http://127.0.0.1:{PORT}")
    with net.connect(PORT) as connection:
        connection.sendall(b"rubbish\r\n\r\n")
        connection.recv(1000)
    grown(folder / "access.log", len(ASKED) + 1)
    grown(folder / "combined.log", len(ASKED) + 1)
    return folder


@pytest.mark.parametrize(("log", "name"), [("access.log", "squid"), ("combined.log", "combined")])
def test_squid(squid_logs: Path, desk: Desk, log: str, name: str):
    """What is no request at all is a line without one."""
    found = trial(desk.policy, squid_logs / log)
    expect(found, name, COUNTED)
    assert found["requests"] == len(ASKED)
    assert found["ignored_lines"] >= 1


def test_a_gate_counts_what_a_trial_of_the_same_requests_says(
    net: Network, squid_logs: Path, desk: Desk, own_gate: Gate
):
    """Page not shown is a stop as well: a log does not say what the page was served to."""
    ask(net, own_gate.url)
    own_gate.process.end()
    counts = +own_gate.counts()
    counts["test", Outcome.STOPPED] += counts.pop(("test", Outcome.NOT_SHOWN), 0)
    found = trial(desk.policy, squid_logs / "access.log")
    assert {(name, outcome.value): number for (name, outcome), number in counts.items()} == totals(found)


@pytest.mark.campaign
def test_several_logs_compressed_in_each_way_and_one_from_stdin(squid_logs: Path, desk: Desk, tmp_path: Path):
    data = (squid_logs / "access.log").read_bytes()
    (tmp_path / "one.gz").write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]))
    (tmp_path / "two.zst").write_bytes(zstandard.compress(data[:500]) + zstandard.compress(data[500:]))
    (tmp_path / "broken.gz").write_bytes(gzip.compress(data)[:-20])
    found = trial(desk.policy, tmp_path / "one.gz", tmp_path / "two.zst", "-", stdin=gzip.compress(data))
    assert totals(found) == {cell: 3 * number for cell, number in COUNTED.items()}
    trial(desk.policy, tmp_path / "one.gz", tmp_path / "broken.gz", status=1)


def test_nginx(net: Network, folder: Path, desk: Desk, started: list[Process]):
    need("nginx")
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1; events {{}}\n"
        f"http {{ access_log {folder}/access.log; server {{ listen 127.0.0.1:{PORT}; return 200; }} }}\n"
    )
    started.append(net.start("nginx", "-c", str(config), "-p", str(folder)))
    wait_until(lambda: net.listens(PORT), "nginx")
    ask(net, f"http://127.0.0.1:{PORT}")
    expect(trial(desk.policy, grown(folder / "access.log", len(ASKED))), "combined", COUNTED)


@pytest.mark.parametrize(
    ("log", "name"), [("combined.log", "combined"), ("vhosts.log", "vhost-combined"), ("common.log", "combined")]
)
def test_apache(net: Network, folder: Path, desk: Desk, started: list[Process], log: str, name: str):
    """The formats of Debian's apache2.conf. As a proxy, it logs what was asked for; else, for which of its hosts."""
    need("apache2")
    modules = "\n".join(
        f"LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so"
        for module in ("mpm_event", "authz_core", "proxy", "proxy_http", "proxy_connect")
    )
    hosts = {url.split("/")[2].partition(":")[0].lower() for url in ASKED}
    own_hosts = "".join(
        f"<VirtualHost 127.0.0.1:{PORT}>\nServerName {host}\n</VirtualHost>\n" for host in sorted(hosts)
    )
    config = folder / "apache.conf"
    config.write_text(
        f"{modules}\nServerName server.test\nServerRoot {folder}\nPidFile {folder}/apache.pid\n"
        f"DefaultRuntimeDir {folder}\nListen 127.0.0.1:{PORT}\nErrorLog {folder}/error.log\n"
        "User www-data\nGroup www-data\n"
        'LogFormat "%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\"" vhosts\n'
        'LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined\n'
        'LogFormat "%h %l %u %t \\"%r\\" %>s %O" common\n'
        f"CustomLog {folder}/{log} {log.partition('.')[0]}\n"
        f"{own_hosts if log == 'vhosts.log' else 'ProxyRequests On'}\nAllowCONNECT 443\n"
    )
    started.append(net.start("apache2", "-X", "-d", str(folder), "-f", str(config)))
    wait_until(lambda: net.listens(PORT), "apache2")
    if log == "vhosts.log":
        for url in ASKED:
            host = url.split("/")[2].partition(":")[0]
            net.curl(f"http://127.0.0.1:{PORT}/path", "-H", f"Host: {host}")
    else:
        ask(net, f"http://127.0.0.1:{PORT}")
    expect(trial(desk.policy, grown(folder / log, len(ASKED))), name, COUNTED)


def query(net: Network, names: Sequence[str] = NAMES) -> None:
    """Ask the DNS server on the gateway, over UDP."""
    for name in names:
        message = dns.message.make_query(name, "A")
        net.gateway.call(partial(dns.query.udp, message, "127.0.0.1", 10, DNS_PORT))


def answers(net: Network) -> bool:
    try:
        net.gateway.call(partial(dns.query.udp, dns.message.make_query("up.test", "A"), "127.0.0.1", 0.2, DNS_PORT))
    except (OSError, dns.exception.Timeout):
        return False
    return True


@pytest.mark.parametrize("log_option", ["--log-queries", "--log-queries=extra"])
def test_dnsmasq(net: Network, folder: Path, desk: Desk, started: list[Process], log_option: str):
    log = folder / "dnsmasq.log"
    started.append(
        net.start(
            *("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root"),
            *(f"--port={DNS_PORT}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", log_option),
            *(f"--log-facility={log}", "--address=/#/192.0.2.2"),
        )
    )
    wait_until(lambda: answers(net), "dnsmasq")
    before = log.read_bytes().count(b"query[A] up.test")
    query(net)
    wait_until(lambda: log.read_bytes().count(b"query[A]") >= before + len(NAMES), "all queries in the log")
    expect(trial(desk.policy, log), "dnsmasq", {**QUERIED, PASSED: QUERIED[PASSED] + before})


def test_dnsmasq_without_times(net: Network, folder: Path, desk: Desk):
    """As the DNS server of these tests writes it, to stderr."""
    for _ in range(3):
        net.curl("http://www.listed.test/")
    log = folder / "queries"
    log.write_text("".join(f"dnsmasq: {line}\n" for line in net.queries()))
    found = trial(desk.policy, log)
    assert found["formats"] == ["dnsmasq"]
    assert totals(found)[STOPPED] >= 3
    assert {each["day"] for each in found["counts"]} == {None}


@pytest.mark.parametrize("ascii_time", ["yes", "no"])
def test_unbound(net: Network, folder: Path, desk: Desk, started: list[Process], ascii_time: str):
    need("unbound")
    log, config = folder / "unbound.log", folder / "unbound.conf"
    config.write_text(
        "server:\n  do-daemonize: no\n  chroot: ''\n  username: ''\n  pidfile: ''\n  use-syslog: no\n"
        f"  directory: '{folder}'\n  logfile: '{log}'\n  log-queries: yes\n  log-time-ascii: {ascii_time}\n"
        f"  interface: 127.0.0.1@{DNS_PORT}\n  verbosity: 1\n  module-config: 'iterator'\n"
        "  local-zone: 'test' redirect\n  local-data: 'test A 192.0.2.2'\n"
        "  local-zone: 'example' redirect\n  local-data: 'example A 192.0.2.2'\n"
    )
    started.append(net.start("unbound", "-d", "-c", str(config)))
    wait_until(lambda: answers(net), "unbound")
    before = log.read_bytes().count(b" up.test. A IN")
    query(net)
    wait_until(lambda: log.read_bytes().count(b" A IN\n") >= before + len(NAMES), "all queries in the log")
    found = trial(desk.policy, log)
    expect(found, "unbound", {**QUERIED, PASSED: QUERIED[PASSED] + before})
    assert found["ignored_lines"] > 0


@pytest.mark.parametrize("print_time", ["yes", "iso8601-utc", "no"])
def test_bind(net: Network, folder: Path, desk: Desk, started: list[Process], print_time: str):
    need("named")
    log, config = folder / "queries.log", folder / "named.conf"
    config.write_text(
        f'options {{ directory "{folder}"; pid-file none; session-keyfile none; recursion no; querylog yes; '
        f"listen-on port {DNS_PORT} {{ 127.0.0.1; }}; "
        "listen-on-v6 { none; }; };\ncontrols { };\n"
        f'logging {{ channel log {{ file "{log}"; print-time {print_time}; print-category yes; print-severity yes; }};'
        " category queries { log; }; category general { log; }; };\n"
    )
    started.append(net.start("named", "-f", "-c", str(config), "-u", "root"))
    wait_until(lambda: answers(net), "named")
    before = log.read_bytes().count(b"query: up.test")
    query(net)
    wait_until(lambda: log.read_bytes().count(b": query: ") >= before + len(NAMES), "all queries in the log")
    found = trial(desk.policy, log)
    counted = {**QUERIED, PASSED: QUERIED[PASSED] + before}
    assert totals(found) == counted
    assert found["unparsable_lines"] == 0
    assert ({each["day"] for each in found["counts"]} == {None}) is (print_time == "no")


@pytest.mark.campaign
def test_a_flow_file_of_mitmdump(net: Network, desk: Desk, tmp_path: Path, started: list[Process]):
    """What mitmproxy saves is what was asked in plain HTTP, and what it stopped."""
    flows = tmp_path / "flows"
    process = net.start(
        *("env", f"HOME={tmp_path}", str(MITMDUMP), "-s", str(LOAD), "--set", "flow_detail=0", "-w", str(flows)),
        *("--listen-host", "127.0.0.1", "--listen-port", str(PORT), "--set", f"stoplist_policy={desk.policy}"),
        *("--set", f"stoplist_state_dir={tmp_path / 'state'}"),
    )
    started.append(process)
    process.wait_for("in force")
    wait_until(lambda: net.listens(PORT), "mitmdump")
    plain = [url for url in ASKED if url.startswith("http:")]
    ask(net, f"http://127.0.0.1:{PORT}", plain)
    process.end()
    found = trial(desk.policy, flows)
    expect(found, "flows", {STOPPED: 5, PASSED: 5, REFUSED: 1})
    assert found["requests"] == len(plain)


BROWSE = f"""
import sys
from playwright.sync_api import sync_playwright

har, program, *urls = sys.argv[1:]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=program,
        args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"],
    )
    context = browser.new_context(record_har_path=har, ignore_https_errors=True)
    context.set_default_timeout({1000 * SECONDS})
    page = context.new_page()
    for url in urls:
        page.goto(url)
    context.close()
    browser.close()
"""


def test_a_har_of_chromium(net: Network, desk: Desk, tmp_path: Path):
    """A browser saves what its pages ask for, and not what it asks for itself."""
    need("chromium")
    har = tmp_path / "visits.har"
    urls = [*["http://listed.test/"] * 2, "http://www.pass.test/a", "http://pass.test/", "https://pass.test/"]
    net.gateway.run(sys.executable, "-c", BROWSE, str(har), "/usr/bin/chromium", *urls)
    expect(trial(desk.policy, har), "har", {STOPPED: 2, PASSED: 3})


def test_every_format_of_lines_is_read_from_a_sample():
    """Zeek and Suricata by their documentation, in tests/tools/test_logs.py: neither is in Debian 12."""
    assert {each.name for each in LINE_FORMATS} - {ZEEK.name, SURICATA.name} == {
        *("squid", "combined", "vhost-combined", "dnsmasq", "unbound", "bind", "hosts")
    }
