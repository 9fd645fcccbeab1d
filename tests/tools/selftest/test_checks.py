"""The self-test, against proxies that fail in every way it must tell apart; and against one that does not."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoplist.cli import main
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.tools.selftest import checks
from stoplist.tools.selftest.checks import Wanted
from stoplist.tools.selftest.proxy_client import MAX_BYTES, Proxy
from stoplist.tools.selftest.results import as_line
from stoplist.tools.selftest.self_test import Check, CheckName, CheckState, Result, SelfTest, as_text
from tests.e2e.network import SECONDS
from tests.examples import examples
from tests.fixed_time import NOW

CHECK_HOST = "check.stoplist.invalid"
CONTROL = "www.pass.test"
SOON = 1


def _answer(status: int = 403, body: bytes = b"", **fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


WORKS = json.dumps({"type": "tag:stoplist.invalid,2026:works", "title": "-", "status": 403, "list_age_days": 3})
STOP = {"Proxy_Status": "stoplist; error=http_request_denied", "Cache_Control": "no-store"}
STOPPED = _answer(body=WORKS.encode(), Content_Type="application/problem+json", **STOP)
STOPPED_AND_COUNTED = _answer(body=WORKS.replace(":works", ":stopped").encode(), **STOP)
STOPPED_IN_WORDS = _answer(body=b"Access to this site was stopped\n", Content_Type="text/plain", **STOP)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
SQUID = _answer(403, b"<html>", Server="squid/6.0", X_Squid_Error="ERR_ACCESS_DENIED 0", Via="1.1 cache (squid)")
WANTS_A_PASSWORD = _answer(407, Proxy_Authenticate='Basic realm="gate"')


@dataclass
class Authorities:
    """Those of the gate, of the origin, and of somebody else; `folder` has the certificate of each."""

    folder: Path
    gate: trustme.CA = field(default_factory=trustme.CA)
    origin: trustme.CA = field(default_factory=trustme.CA)
    stranger: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        for name in ("gate", "origin", "stranger"):
            getattr(self, name).cert_pem.write_to_path(str(self.file(name)))

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(tmp_path_factory.mktemp("authorities"))


@dataclass
class FakeProxy:
    """A gate as far as a self-test can tell. What is set makes it fail; `raw` is all that it does with a connection."""

    stop: bytes = STOPPED
    stop_inside: bytes = STOPPED
    connect: dict[str, bytes] = field(default_factory=dict)
    leaf_of: dict[str, trustme.LeafCert] = field(default_factory=dict)
    own_leaf: trustme.LeafCert | None = None
    password: str | None = None
    raw: Callable[[socket.socket], None] | None = None
    heard: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def serve(self, server: socket.socket) -> None:
        self.port = server.getsockname()[1]
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(SECONDS)
            if self.raw:
                self.raw(connection)
                return
            if self.own_leaf:
                with _secured(connection, self.own_leaf) as secured:
                    self._talk(secured)
            else:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        head = _head(connection)
        self.heard.append(head)
        method, target, _ = head.split(" ", 2)
        if self.password is not None:
            token = base64.b64encode(self.password.encode()).decode()
            if f"Proxy-Authorization: Basic {token}\r\n" not in head:
                connection.sendall(WANTS_A_PASSWORD)
                return
        if method == "GET":
            connection.sendall(self.stop)
            return
        host = target.partition(":")[0]
        connection.sendall(self.connect.get(host, ESTABLISHED))
        if host not in self.connect:
            with _secured(connection, self.leaf_of[host]) as inner:
                self.heard.append(_head(inner))
                inner.sendall(self.stop_inside)


def _secured(connection: socket.socket, leaf: trustme.LeafCert) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context.wrap_socket(connection, server_side=True)


def _head(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data and (byte := connection.recv(1)):
        data += byte
    if b"\r\n\r\n" not in data:
        raise ConnectionError
    return data.decode()


@pytest.fixture
def proxy(authorities: Authorities) -> Iterator[FakeProxy]:
    fake = FakeProxy(
        leaf_of={
            CHECK_HOST: authorities.gate.issue_cert(CHECK_HOST),
            CONTROL: authorities.origin.issue_cert(CONTROL),
        }
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        fake.port = server.getsockname()[1]
        thread = threading.Thread(target=fake.serve, args=(server,), daemon=True)
        thread.start()
        yield fake
        fake.ending.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)


@pytest.fixture
def wanted(proxy: FakeProxy, authorities: Authorities) -> Wanted:
    return Wanted(
        Proxy(Host.parse("127.0.0.1"), proxy.port),
        Host.parse(CONTROL),
        Host.parse(CHECK_HOST),
        ca=authorities.file("gate"),
        control_ca=authorities.file("origin"),
        seconds=SECONDS,
    )


def _results(found: SelfTest) -> dict[str, str]:
    return {check.name: check.result.value for check in found.checks}


def _named(found: SelfTest, name: str) -> Check:
    return next(check for check in found.checks if check.name == name)


def _expect(found: SelfTest, state: CheckState, name: str, words: str) -> None:
    """This state, for the reason that a check says in these words, and with a remedy."""
    check = _named(found, name)
    assert found.state is state, as_text(found)
    assert words in check.seen, as_text(found)
    assert check.remedy, as_text(found)


def test_all_is_fine(proxy: FakeProxy, wanted: Wanted):
    found = checks.run(wanted)
    assert set(_results(found).values()) == {"ok"}, as_text(found)
    assert list(_results(found)) == list(CheckName)
    assert (found.state, found.list_age) == (CheckState.OK, 3)
    first, *others = as_text(found).splitlines()
    assert re.fullmatch(
        r"STOPLIST OK - 5 checks fine \| http=\d\.\d{3}s https=\d\.\d{3}s control=\d\.\d{3}s list_age=3", first
    )
    assert len(others) == 5
    assert not any("|" in line for line in others)


def test_the_control_host_is_asked_for_nothing(proxy: FakeProxy, wanted: Wanted):
    checks.run(wanted)
    targets = [head.split(" ")[1] for head in proxy.heard]
    assert targets == [f"http://{CHECK_HOST}/", f"{CHECK_HOST}:443", "/", f"{CONTROL}:443"]
    assert proxy.heard[2].count(CHECK_HOST) == 1
    assert all("Proxy-Authorization" not in head for head in proxy.heard)


def test_nothing_but_the_proxy_is_resolved_or_contacted(
    proxy: FakeProxy, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    resolve = socket.getaddrinfo

    def note(host: str, port: int, **more: object) -> object:
        asked.append((host, port))
        return resolve(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", note)
    proxy.stop = _answer(302, Location="http://elsewhere.test/", **STOP)
    checks.run(wanted)
    assert asked == [("127.0.0.1", proxy.port)]


def test_an_older_gate_says_no_age(proxy: FakeProxy, wanted: Wanted):
    proxy.stop = proxy.stop_inside = STOPPED_IN_WORDS
    found = checks.run(wanted)
    assert (found.state, found.list_age, _results(found)["list age"]) == (CheckState.OK, None, "skipped")
    assert "4 checks fine, 1 skipped" in as_text(found)
    _expect(checks.run(replace(wanted, max_age=7)), CheckState.UNKNOWN, "list age", "does not say how old")


@pytest.mark.parametrize(
    "age", ["-1", "true", '"3"', "1e3", "9" * 5000, "100001", "null", "[]", "[" * 9000], ids=lambda age: age[:6]
)
def test_an_age_that_is_none_is_no_age(proxy: FakeProxy, wanted: Wanted, age: str):
    proxy.stop = proxy.stop_inside = _answer(body=b'{"list_age_days": %b}' % age.encode(), **STOP)
    assert _results(checks.run(wanted))["list age"] == "skipped"


@pytest.mark.parametrize(("max_age", "state"), [(2, CheckState.WARNING), (3, CheckState.OK), (4, CheckState.OK)])
def test_an_old_list_is_a_warning_where_that_is_asked_for(wanted: Wanted, max_age: int, state: CheckState):
    found = checks.run(replace(wanted, max_age=max_age))
    assert found.state is state
    assert f" list_age=3;{max_age}" in as_text(found)
    if state is CheckState.WARNING:
        _expect(found, state, "list age", f"3 days old, more than {max_age}")


def test_without_the_ca_trust_is_not_tested_and_that_is_said(proxy: FakeProxy, wanted: Wanted):
    found = checks.run(replace(wanted, ca=None))
    assert found.state is CheckState.OK
    assert "--ca" in _named(found, "https").seen


# The proxy cannot be asked: all is unknown


def _only_unknown(found: SelfTest, words: str) -> None:
    assert _results(found) == {
        "http": "unknown",
        **dict.fromkeys(("https", "control", "untouched", "list age"), "skipped"),
    }
    _expect(found, CheckState.UNKNOWN, "http", words)


def test_no_proxy(wanted: Wanted):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    _only_unknown(checks.run(replace(wanted, proxy=Proxy(Host.parse("127.0.0.1"), port))), "cannot be reached")


def test_a_name_that_does_not_resolve(wanted: Wanted, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    found = checks.run(replace(wanted, proxy=Proxy(Host.parse("gone.invalid"), 1)))
    _only_unknown(found, "the name of the proxy cannot be resolved: Name or service not known")


def test_a_resolver_that_hangs(proxy: FakeProxy, wanted: Wanted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: proxy.ending.wait() and [])
    found = checks.run(replace(wanted, proxy=Proxy(Host.parse("slow.invalid"), 1), seconds=SOON))
    _only_unknown(found, "no answer in time")


def test_a_name_longer_than_dns_allows(wanted: Wanted):
    found = checks.run(replace(wanted, proxy=Proxy(Host.parse(f"{'a' * 70}.invalid"), 1)))
    _only_unknown(found, "cannot be resolved")


def test_a_proxy_that_hangs_up(proxy: FakeProxy, wanted: Wanted):
    proxy.raw = lambda connection: None
    _only_unknown(checks.run(wanted), "does not answer")


def _hang(proxy: FakeProxy) -> Callable[[socket.socket], None]:
    return lambda _: proxy.ending.wait() and None


def _drip(proxy: FakeProxy) -> Callable[[socket.socket], None]:
    def drip(connection: socket.socket) -> None:
        while not proxy.ending.wait(0.05):
            connection.sendall(b"HTTP/1.1 403 Said\r\n"[:1])

    return drip


@pytest.mark.parametrize("way", [_hang, _drip])
def test_a_proxy_that_hangs(proxy: FakeProxy, wanted: Wanted, way: Callable[[FakeProxy], Callable]):
    proxy.raw = way(proxy)
    _only_unknown(checks.run(replace(wanted, seconds=SOON)), "the answer was not complete in time")
    assert not proxy.ending.is_set(), "it waited for the end of the proxy"


def test_a_password(proxy: FakeProxy, wanted: Wanted):
    proxy.password = "anna:sésame:öffne"
    _only_unknown(checks.run(wanted), "asks for a name and a password")
    wrong = replace(wanted.proxy, credentials="anna:nonsense")
    _only_unknown(checks.run(replace(wanted, proxy=wrong)), "refuses this name and password")
    found = checks.run(replace(wanted, proxy=replace(wanted.proxy, credentials=proxy.password)))
    assert found.state is CheckState.OK
    inside = [head for head in proxy.heard if head.startswith("GET / ")]
    assert inside
    assert not any("Authorization" in head for head in inside)


def test_a_proxy_that_clients_speak_tls_to(proxy: FakeProxy, wanted: Wanted, authorities: Authorities):
    secure = replace(wanted.proxy, is_secure=True)
    _only_unknown(checks.run(replace(wanted, proxy=secure, seconds=SOON)), "TLS to the proxy fails")
    proxy.own_leaf = authorities.stranger.issue_cert("127.0.0.1")
    found = checks.run(replace(wanted, proxy=secure, proxy_ca=authorities.file("origin")))
    _only_unknown(found, "TLS to the proxy fails: unable to get local issuer certificate")
    assert "--proxy-ca" in _named(found, "http").remedy
    assert proxy.heard == []
    found = checks.run(replace(wanted, proxy=secure, proxy_ca=authorities.file("stranger")))
    assert _results(found)["http"] == "ok"


# What is no stop


NO_STOPS = [
    pytest.param(_answer(200, b"a page"), "is not stopped: status 200", id="passed"),
    pytest.param(_answer(404, b"<html>"), "did not stop it: status 404", id="not found"),
    pytest.param(
        _answer(302, Location="http://login.test/"), "a login page or a redirect answers", id="captive portal"
    ),
    pytest.param(_answer(511), "a login page or a redirect answers", id="captive portal, RFC 6585"),
    pytest.param(SQUID, "did not stop it: status 403 (Server: squid/6.0, Via: 1.1 cache (squid))", id="squid"),
    pytest.param(
        _answer(503, Proxy_Status="stoplist; error=proxy_internal_error"),
        "status 503 (Proxy-Status: stoplist; error=proxy_internal_error)",
        id="a fault of the gate",
    ),
    pytest.param(
        _answer(403, Proxy_Status="stoplist; error=destination_ip_prohibited", Cache_Control="no-store"),
        "did not stop it",
        id="another refusal of the gate",
    ),
    pytest.param(
        _answer(403, Proxy_Status="other; error=http_request_denied", Cache_Control="no-store"),
        "did not stop it",
        id="another proxy's refusal",
    ),
    pytest.param(
        _answer(403, Proxy_Status=STOP["Proxy_Status"]), "lacks 'Cache-Control: no-store'", id="may be cached"
    ),
    pytest.param(_answer(403, Set_Cookie="a=b", **STOP), "set-cookie", id="a cookie"),
    pytest.param(STOPPED_AND_COUNTED, "and the gate counted it", id="a listed host"),
    pytest.param(b"SSH-2.0-server\r\n", "the answer is not HTTP", id="garbage"),
    pytest.param(b"\0" * 100, "the answer is not HTTP", id="zeros"),
    pytest.param(b"HTTP/1.1 4O3 Said\r\n\r\n", "the answer is not HTTP", id="no number"),
    pytest.param(b"HTTP/1.1 403 Said\r\n" + b"A: b\r\n" * 200 + b"\r\n", "the answer is not HTTP", id="200 fields"),
    pytest.param(b"HTTP/1.1 403 Said\r\nA: " + b"b" * MAX_BYTES * 2, "more than 64 KB", id="a huge field"),
    pytest.param(_answer(403, b"x" * MAX_BYTES, **STOP), "more than 64 KB", id="a huge body"),
    pytest.param(
        b"HTTP/1.1 403 Said\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "the answer is not HTTP", id="a chunk below 0"
    ),
]


@pytest.mark.parametrize(("answer", "words"), NO_STOPS)
def test_an_answer_over_http_that_is_no_stop(proxy: FakeProxy, wanted: Wanted, answer: bytes, words: str):
    proxy.stop = answer
    found = checks.run(wanted)
    _expect(found, CheckState.CRITICAL, "http", words)
    assert _results(found)["https"] == "ok"


@pytest.mark.parametrize(("answer", "words"), NO_STOPS)
def test_an_answer_over_https_that_is_no_stop(proxy: FakeProxy, wanted: Wanted, answer: bytes, words: str):
    proxy.stop_inside = answer
    found = checks.run(wanted)
    _expect(found, CheckState.CRITICAL, "https", words)
    assert _results(found)["http"] == "ok"


def test_a_length_that_no_memory_holds(proxy: FakeProxy, wanted: Wanted):
    proxy.stop = _answer(**STOP).replace(b"Content-Length: 0", b"Content-Length: %d" % 10**30)
    assert checks.run(wanted).state is CheckState.OK


def test_a_status_for_legal_reasons(proxy: FakeProxy, wanted: Wanted):
    proxy.stop = proxy.stop_inside = STOPPED.replace(b" 403 ", b" 451 ")
    found = checks.run(wanted)
    assert found.state is CheckState.OK
    assert "(451)" in _named(found, "http").seen


def test_a_front_proxy_may_add_its_own_status(proxy: FakeProxy, wanted: Wanted):
    proxy.stop = STOPPED.replace(b"http_request_denied", b"http_request_denied, front.example; fwd=miss")
    assert checks.run(wanted).state is CheckState.OK


def test_what_an_answer_says_is_shown_short_and_printable(proxy: FakeProxy, wanted: Wanted):
    proxy.stop = _answer(403, Server="\x1b]0;a title\x07|x=1 " + "s" * 500)
    found = checks.run(wanted)
    for line in as_text(found).splitlines():
        assert line.isprintable()
        assert len(line) < 400
    assert as_text(found).count("|") == 1


# HTTPS


def test_a_connect_that_is_refused_is_a_stop_without_a_page(proxy: FakeProxy, wanted: Wanted):
    proxy.connect[CHECK_HOST] = STOPPED_IN_WORDS
    found = checks.run(wanted)
    assert found.state is CheckState.OK
    assert "CONNECT is refused (403)" in _named(found, "https").seen
    assert found.list_age == 3


def test_a_connect_that_something_else_refuses(proxy: FakeProxy, wanted: Wanted):
    proxy.connect[CHECK_HOST] = SQUID
    _expect(checks.run(wanted), CheckState.CRITICAL, "https", "did not stop it")


@pytest.mark.parametrize("ca", ["stranger", "origin"])
def test_another_ca_than_the_gates(wanted: Wanted, authorities: Authorities, ca: str):
    found = checks.run(replace(wanted, ca=authorities.file(ca)))
    _expect(found, CheckState.CRITICAL, "https", "that does not verify: unable to get local issuer certificate")
    assert "--ca" in _named(found, "https").remedy


def test_a_certificate_for_another_name(proxy: FakeProxy, wanted: Wanted, authorities: Authorities):
    proxy.leaf_of[CHECK_HOST] = authorities.gate.issue_cert("other.stoplist.invalid")
    _expect(checks.run(wanted), CheckState.CRITICAL, "https", "Hostname mismatch")


@pytest.mark.parametrize("name", ["https", "control"])
@pytest.mark.parametrize("junk", [b"no TLS at all\r\n", b"\x16\x03\x03\xff\xff", b""], ids=["words", "half", "closed"])
def test_a_tunnel_without_tls(proxy: FakeProxy, wanted: Wanted, name: str, junk: bytes):
    proxy.connect[CHECK_HOST if name == "https" else CONTROL] = ESTABLISHED + junk
    _expect(checks.run(wanted), CheckState.CRITICAL, name, "TLS fails")


# The control host


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(_answer(502, Proxy_Status="stoplist; error=destination_unavailable"), "status 502", id="down"),
        pytest.param(STOPPED_IN_WORDS, "status 403 (Proxy-Status: stoplist", id="listed"),
        pytest.param(SQUID, "status 403 (Server: squid", id="a parent proxy"),
    ],
)
def test_a_control_host_that_does_not_pass(proxy: FakeProxy, wanted: Wanted, answer: bytes, words: str):
    proxy.connect[CONTROL] = answer
    found = checks.run(wanted)
    _expect(found, CheckState.CRITICAL, "control", words)
    assert _results(found)["untouched"] == "skipped"


def test_a_control_host_that_hangs(proxy: FakeProxy, wanted: Wanted):
    proxy.connect[CONTROL] = b""
    for seconds in (SOON, 5 * SOON, 25 * SOON):  # on a slow machine what comes before does not answer so soon
        results = _results(checks.run(replace(wanted, seconds=seconds)))
        if results["https"] == "ok":
            break
    assert results["control"] == "failed"


@pytest.mark.parametrize("has_ca", [True, False])
@pytest.mark.parametrize("is_trusted", [True, False], ids=["trusted here", "not trusted here"])
def test_a_control_host_that_the_gate_decrypts(
    proxy: FakeProxy, wanted: Wanted, authorities: Authorities, has_ca: bool, is_trusted: bool
):
    """Told also where the gate's CA is among the roots of this machine, or is not named."""
    proxy.leaf_of[CONTROL] = authorities.gate.issue_cert(CONTROL)
    found = checks.run(
        replace(
            wanted,
            ca=wanted.ca if has_ca else None,
            control_ca=authorities.file("gate" if is_trusted else "origin"),
        )
    )
    _expect(found, CheckState.CRITICAL, "untouched", "decrypted by the gate")
    assert "tls: intercept" in _named(found, "untouched").remedy
    assert _results(found)["control"] == "ok"


def test_a_control_host_that_the_gate_decrypts_where_it_shows_no_page(
    proxy: FakeProxy, wanted: Wanted, authorities: Authorities
):
    proxy.connect[CHECK_HOST] = STOPPED_IN_WORDS
    proxy.leaf_of[CONTROL] = authorities.gate.issue_cert(CONTROL)
    found = checks.run(replace(wanted, control_ca=authorities.file("gate")))
    _expect(found, CheckState.CRITICAL, "untouched", "decrypted by the gate")


def test_a_ca_that_signs_for_the_control_host_too_decrypts_nothing(
    proxy: FakeProxy, wanted: Wanted, authorities: Authorities
):
    """The company's root, above the gate's CA and above that of its own sites."""
    under_it = authorities.origin.create_child_ca()
    proxy.leaf_of[CHECK_HOST] = under_it.issue_cert(CHECK_HOST)
    found = checks.run(replace(wanted, ca=authorities.file("origin")))
    assert found.state is CheckState.OK, as_text(found)
    proxy.leaf_of[CONTROL] = under_it.issue_cert(CONTROL)
    _expect(checks.run(replace(wanted, ca=authorities.file("origin"))), CheckState.CRITICAL, "untouched", "by the gate")


def test_the_ca_may_be_named_without_the_root_above_it(proxy: FakeProxy, wanted: Wanted, authorities: Authorities):
    under_it = authorities.origin.create_child_ca()
    proxy.leaf_of[CHECK_HOST] = under_it.issue_cert(CHECK_HOST)
    under_it.cert_pem.write_to_path(str(authorities.file("intermediate")))
    assert checks.run(replace(wanted, ca=authorities.file("intermediate"))).state is CheckState.OK


def test_a_root_of_the_old_style_is_trusted(proxy: FakeProxy, wanted: Wanted, tmp_path: Path):
    """Without a key identifier, as browsers take it and Python by itself would not."""
    key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Old root")])

    def certificate(of: ec.EllipticCurvePrivateKey, subject: x509.Name, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.now(UTC)  # machine's clock: OpenSSL judges certificates by it
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(of.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)

    root = tmp_path / "root.pem"
    root.write_bytes(certificate(key, name, x509.BasicConstraints(ca=True, path_length=None)))
    names = x509.SubjectAlternativeName([x509.DNSName(CONTROL)])
    proxy.leaf_of[CONTROL] = trustme.LeafCert(
        leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate(leaf_key, x509.Name([]), names),
        [],
    )
    assert _results(checks.run(replace(wanted, control_ca=root)))["untouched"] == "ok"


def test_a_ca_of_the_same_name_is_another_one(proxy: FakeProxy, wanted: Wanted, tmp_path: Path):
    gate, other = (trustme.CA(organization_unit_name="One name") for _ in range(2))
    roots = tmp_path / "roots.pem"
    roots.write_bytes(gate.cert_pem.bytes() + other.cert_pem.bytes())
    proxy.leaf_of = {CHECK_HOST: gate.issue_cert(CHECK_HOST), CONTROL: other.issue_cert(CONTROL)}
    assert _results(checks.run(replace(wanted, ca=None, control_ca=roots)))["untouched"] == "ok"
    proxy.connect[CHECK_HOST] = STOPPED_IN_WORDS
    gate.cert_pem.write_to_path(str(tmp_path / "gate.pem"))
    found = checks.run(replace(wanted, ca=tmp_path / "gate.pem", control_ca=roots))
    assert _results(found)["untouched"] == "ok"


def test_a_check_host_that_passes_says_nothing_about_the_gates_ca(
    proxy: FakeProxy, wanted: Wanted, authorities: Authorities
):
    proxy.stop_inside = _answer(200)
    proxy.leaf_of[CHECK_HOST] = authorities.origin.issue_cert(CHECK_HOST)
    assert _results(checks.run(replace(wanted, ca=None)))["untouched"] == "ok"


def test_a_control_host_that_somebody_else_decrypts(proxy: FakeProxy, wanted: Wanted, authorities: Authorities):
    proxy.leaf_of[CONTROL] = authorities.stranger.issue_cert(CONTROL)
    found = checks.run(wanted)
    _expect(found, CheckState.CRITICAL, "untouched", "not trusted (unable to get local issuer certificate)")
    assert "Testing CA" in _named(found, "untouched").seen  # who issued it


def test_a_control_host_under_another_name(proxy: FakeProxy, wanted: Wanted, authorities: Authorities):
    proxy.leaf_of[CONTROL] = authorities.origin.issue_cert("other.pass.test")
    _expect(checks.run(wanted), CheckState.CRITICAL, "untouched", "Hostname mismatch")


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(answers=st.lists(st.binary(max_size=300) | st.just(STOPPED) | st.just(ESTABLISHED), min_size=1, max_size=3))
def test_any_bytes_give_a_report(proxy: FakeProxy, wanted: Wanted, answers: list[bytes]):
    proxy.raw = lambda connection: connection.sendall(b"".join(answers))
    found = checks.run(replace(wanted, seconds=1))
    assert all(line.isprintable() for line in as_text(found).splitlines())
    line = as_line(found, NOW)
    assert line.isprintable()
    assert json.loads(line)["exit_code"] == found.state.value


# The URL of a proxy


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://gate.example:8080", Proxy(Host("gate.example"), 8080)),
        ("HTTP://GATE.example.:8080/", Proxy(Host("gate.example"), 8080)),
        ("gate.example:8080", Proxy(Host("gate.example"), 8080)),
        ("127.0.0.1:8080", Proxy(Host("127.0.0.1", True), 8080)),
        ("https://[2001:db8::1]:3128", Proxy(Host("[2001:db8::1]", True), 3128, True)),
        ("http://anna:p%40ss%3A@gate.example:80", Proxy(Host("gate.example"), 80, False, "anna:p@ss:")),
        ("anna@gate.example:80", Proxy(Host("gate.example"), 80, False, "anna:")),
    ],
)
def test_a_url_of_a_proxy(text: str, proxy: Proxy):
    assert Proxy.parse(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        *("", "http://", "gate.example", "http://gate.example", "http://gate.example:0", "http://gate.example:99999"),
        *("socks5://secret@gate.example:1080", "http://a:secret@gate.example:8080/path", "http://a:se/cret@gate:1"),
        *("http://a:secret@[::1:8080", "http://a:secret@gate example:1", "http://gate.example:8080?secret"),
        *("http://a:secret@\u2100.example:1", "http://gate.example:secret"),
    ],
)
def test_what_is_no_url_of_a_proxy_is_not_quoted(text: str):
    with pytest.raises(StoplistError) as caught:
        Proxy.parse(text)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown():
    assert "secret" not in repr(Proxy.parse("http://anna:secret@gate.example:80"))


# The command


def _run_command(*arguments: str, proxy: str | None = None) -> tuple[int, str, str]:
    environment = {"STOPLIST_PROXY": proxy} if proxy else {}
    done = CliRunner().invoke(main, ["selftest", *arguments], env=environment)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def options(wanted: Wanted) -> list[str]:
    control = ("--control", CONTROL, "--control-ca", str(wanted.control_ca))
    return ["--ca", str(wanted.ca), *control, "--timeout", str(SECONDS)]


def test_the_command_as_text_and_as_json(proxy: FakeProxy, options: list[str]):
    url = f"http://127.0.0.1:{proxy.port}"
    code, out, err = _run_command("--proxy", url, *options)
    assert (code, err) == (0, "")
    assert out.startswith("STOPLIST OK - 5 checks fine | ")
    before = datetime.now(UTC).replace(microsecond=0)  # machine's clock: the command reads it
    code, out, err = _run_command("--proxy", url, *options, "--format", "json")
    said = json.loads(out)
    assert (code, said["state"], said["exit_code"], said["list_age_days"]) == (0, "ok", 0, 3)
    assert [check["result"] for check in said["checks"]] == ["ok"] * 5
    assert before <= datetime.fromisoformat(said["time"])
    assert out.endswith("}\n")
    assert out.count("\n") == 1


def test_the_command_keeps_quiet_while_all_is_fine(proxy: FakeProxy, options: list[str]):
    options += ["--proxy", f"127.0.0.1:{proxy.port}", "--quiet"]
    assert _run_command(*options) == (0, "", "")
    code, out, _ = _run_command(*options, "--max-age", "1")
    assert (code, out.partition(" - ")[0]) == (1, "STOPLIST WARNING")
    proxy.stop = _answer(200)
    code, out, _ = _run_command(*options)
    assert (code, out.partition(" - ")[0]) == (2, "STOPLIST CRITICAL")


def test_the_proxy_with_its_password_comes_from_the_environment(proxy: FakeProxy, options: list[str]):
    proxy.password = "anna:secret"
    assert _run_command(*options, proxy=f"http://anna:secret@127.0.0.1:{proxy.port}")[0] == 0
    code, out, err = _run_command(*options, proxy=f"http://anna:secrets@127.0.0.1:{proxy.port}")
    assert code == 3
    assert "secret" not in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no proxy"),
        pytest.param(["--proxy", "http://anna:secret@gate.example"], id="no port"),
        pytest.param(["--proxy", "gate.example:1", "--control", "a b"], id="no control host"),
        pytest.param(["--proxy", "gate.example:1", "--check-host", "a:1"], id="no check host"),
        pytest.param(["--proxy", "gate.example:1", "--timeout", "0"], id="no time"),
        pytest.param(["--proxy", "gate.example:1", "--frobnicate"], id="unknown option"),
        pytest.param(["--proxy", "gate.example:1", "--ca", "gone.pem"], id="no file"),
        pytest.param(["--proxy", "gate.example:1", "--control-ca", "/dev/null"], id="no certificates"),
    ],
)
def test_wrong_usage_leaves_all_unknown(arguments: list[str]):
    code, out, err = _run_command(*arguments)
    assert (code, out) == (3, "")
    assert err
    assert "secret" not in err


def test_a_failure_is_worse_than_what_is_not_known():
    def state(*results: Result) -> CheckState:
        return SelfTest(tuple(Check("-", result, "-") for result in results)).state

    assert state(Result.UNKNOWN, Result.FAILED, Result.WARNING) is CheckState.CRITICAL
    assert state(Result.UNKNOWN, Result.WARNING, Result.OK) is CheckState.UNKNOWN
    assert state(Result.OK, Result.WARNING, Result.SKIPPED) is CheckState.WARNING
    assert state(Result.OK, Result.SKIPPED) is CheckState.OK
