"""Promise 2: what is not listed passes, and its TLS is never decrypted."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stoplist.core.hosts import Host
from tests.e2e.conftest import LISTED, MODES
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, Gate, Network, need, wait_until
from tests.e2e.origin import pattern
from tests.e2e.ways import (
    PAGE,
    Door,
    View,
    ask,
    ask_inside_tls,
    browsers_hello,
    client_hello,
    get,
    in_small_records,
    read_all,
    secure,
    send_in_pieces,
    view,
)

ALL_MODES = list(MODES)
TUNNELLING = ["regular", "secure", "socks5", "upstream"]
"""Modes in which the client chooses any port."""
HALF_CLOSING = ["regular", "socks5"]
"""Modes in which one side of a tunnel can end before the other: TLS to the gate cannot, Squid does not."""
MIRROR = "https://www.pass.test:8443/"


def _der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)


def test_unlisted_https_shows_the_origins_own_certificate(net: Network, gate: Gate):
    shown = subprocess.run(
        net.enter(
            *("openssl", "s_client", "-proxy", f"127.0.0.1:{gate.port}", "-connect", "www.pass.test:8443"),
            *("-servername", "www.pass.test", "-alpn", "h2"),
        ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",  # the origin's first frames may come before openssl ends
        timeout=SECONDS,
        check=False,
    ).stdout
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    assert _der(begin + shown.partition(begin)[2].partition(end)[0] + end) == _der(net.certificate.decode())
    assert "ALPN protocol: h2" in shown


@pytest.mark.parametrize("host", ["pass.test", "notlisted.test", "listed.test.pass.test"])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_origins_own_certificate_is_shown_in_every_mode(
    net: Network, doors: Callable[[str], Door], mode: str, host: str
):
    with doors(mode).enter(host.encode(), 443) as tunnel:
        secured = secure(tunnel, host, ssl.create_default_context(cafile=net.origin_ca))
        assert secured.tls.getpeercert(binary_form=True) == _der(net.certificate.decode())


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://pass.test/", id="http"),
        pytest.param("https://www.pass.test/", id="https"),
        pytest.param("https://notlisted.test/", id="listed domain as the end of a label"),
        pytest.param("https://www.pass.test/listed.test?listed.test#listed.test", id="listed name as path"),
        pytest.param("http://listed.test.pass.test/", id="listed domain as a subdomain of another"),
        pytest.param(f"http://{ORIGIN_ADDRESS}/", id="address"),
    ],
)
def test_unlisted_host_passes(net: Network, gate: Gate, url: str):
    answer = gate.curl(url, trust=net.origin_ca)
    assert answer.status == 200, answer.error
    assert answer.body.startswith("origin ")


# What TLS client and origin agree on is what they would without a gate.


@pytest.mark.parametrize(
    ("options", "agreed"),
    [
        pytest.param(("--http2",), "tls TLSv1.3 alpn h2", id="TLS 1.3, HTTP/2"),
        pytest.param(("--http1.1",), "tls TLSv1.3 alpn http/1.1", id="TLS 1.3, HTTP/1.1"),
        pytest.param(("--http2", "--tls-max", "1.2"), "tls TLSv1.2 alpn h2", id="TLS 1.2, HTTP/2"),
        pytest.param(("--http1.1", "--tls-max", "1.2"), "tls TLSv1.2 alpn http/1.1", id="TLS 1.2, HTTP/1.1"),
        pytest.param(("--no-alpn",), "tls TLSv1.3 alpn None", id="no ALPN"),
    ],
)
@pytest.mark.parametrize("mode", ALL_MODES)
def test_version_and_protocol_are_the_origins_choice(
    doors: Callable[[str], Door], mode: str, options: tuple[str, ...], agreed: str
):
    answer = doors(mode).curl(MIRROR, *options)
    assert answer.body == f"{agreed} resumed False client None sni www.pass.test\n", answer.error


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_sessions_are_resumed(net: Network, doors: Callable[[str], Door], mode: str, version: ssl.TLSVersion):
    context = ssl.create_default_context(cafile=net.origin_ca)
    context.minimum_version = context.maximum_version = version

    def resume(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession]:
        with doors(mode).enter(b"www.pass.test", 8443) as tunnel:
            secured = secure(tunnel, "www.pass.test", context, session=session)
            return ask(secured, get(b"www.pass.test")), secured.tls.session

    answer, session = resume(None)
    assert b" resumed False " in answer
    assert b" resumed True " in resume(session)[0]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("mode", TUNNELLING)
def test_client_certificates_arrive(net: Network, doors: Callable[[str], Door], mode: str, version: str):
    answer = doors(mode).curl(
        "https://www.pass.test:8444/", "--cert", str(net.client_certificate), "--tls-max", version
    )
    assert answer.body == f"tls TLSv{version} alpn h2 resumed False client client sni www.pass.test\n", answer.error


# Bytes: each protocol is relayed as it is spoken, whatever is first and whoever ends first.

HELLOS = {
    "GREASE, ECH and a large key share": browsers_hello("pass.test"),
    "12,000 bytes": client_hello("pass.test", padding=12_000),
}
CLIENT_FIRST = {
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "MQTT": b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04stop",
    "AMQP": b"AMQP\x00\x00\x09\x01",
    "PostgreSQL, asking for TLS": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    "PostgreSQL": b"\x00\x00\x00\x1a\x00\x03\x00\x00user\x00listed.test\x00\x00",
    "BitTorrent": b"\x13BitTorrent protocol" + bytes(8),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "Gopher": b"/listed.test\r\n",
    "JDWP, a word without end of line": b"JDWP-Handshake",
    "git": b"0032git-upload-pack /p\0host=listed.test\0",
    "a log of requests": b'<13>Nov 27 h x: "GET http://listed.test/ HTTP/1.1" 200\n',
    "random bytes": b"\xff" + random.Random(0).randbytes(200_000),
}
UNDECIDED = {
    "a word without end of line": b"hello",
    "a word like the start of a request": b"GE",
    "an empty line": b"\r\n",
    "a byte of a TLS record": b"\x16",
    "nothing": b"",
}
"""What could still become TLS or HTTP when the client ends."""


def _until_end(door: Door, data: bytes, size: int = 0) -> bytes:
    """What comes back when the client has ended its side."""
    with door.enter(b"pass.test", 7) as tunnel:
        send_in_pieces(tunnel, data, size)
        tunnel.shutdown(socket.SHUT_WR)
        return read_all(tunnel)


def _at_once(door: Door, data: bytes, size: int = 0) -> bytes:
    """What comes back while the client waits."""
    with door.enter(b"pass.test", 17) as tunnel:
        send_in_pieces(tunnel, data, size)
        return _read(tunnel, len(data))


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return data


@pytest.mark.parametrize("mode", TUNNELLING)
def test_a_client_hello_in_many_records_arrives_in_one(doors: Callable[[str], Door], mode: str):
    """Client and server see the same handshake; proxies before servers would read it in several ways."""
    hello = client_hello("pass.test")
    with doors(mode).enter(b"pass.test", 17) as tunnel:
        tunnel.sendall(in_small_records(hello))
        assert _read(tunnel, len(hello)) == hello


@pytest.mark.parametrize("size", [1, 7, 1400, 0], ids=lambda size: f"{size or 'all'} at a time")
@pytest.mark.parametrize("hello", HELLOS)
@pytest.mark.parametrize("mode", TUNNELLING)
def test_a_client_hello_arrives_byte_for_byte(doors: Callable[[str], Door], mode: str, hello: str, size: int):
    assert _at_once(doors(mode), HELLOS[hello], size) == HELLOS[hello]
    if mode in HALF_CLOSING:
        assert _until_end(doors(mode), HELLOS[hello], size) == HELLOS[hello]


def test_the_browsers_hello_is_longer_than_a_segment():
    assert len(browsers_hello("pass.test")) > 1800


@pytest.mark.parametrize("protocol", CLIENT_FIRST)
@pytest.mark.parametrize("mode", TUNNELLING)
def test_a_protocol_whose_client_speaks_first_arrives(doors: Callable[[str], Door], mode: str, protocol: str):
    data = CLIENT_FIRST[protocol]
    assert _at_once(doors(mode), data) == data
    assert _at_once(doors(mode), data[:300], 1) == data[:300]


@pytest.mark.parametrize("protocol", CLIENT_FIRST | UNDECIDED)
@pytest.mark.parametrize("mode", HALF_CLOSING)
def test_what_a_client_sends_before_it_ends_arrives(doors: Callable[[str], Door], mode: str, protocol: str):
    data = (CLIENT_FIRST | UNDECIDED)[protocol]
    assert _until_end(doors(mode), data) == data
    assert _until_end(doors(mode), data[:300], 1) == data[:300]


@pytest.mark.parametrize(
    ("port", "banner", "line", "echo"),
    [
        pytest.param(22, b"SSH-2.0-origin\r\n", b"SSH-2.0-client\r\n\x00\x16\x03", None, id="SSH"),
        pytest.param(25, b"220 origin ESMTP\r\n", b"ehlo listed.test\r\n", b"EHLO LISTED.TEST\r\n", id="SMTP"),
    ],
)
@pytest.mark.parametrize("mode", TUNNELLING)
def test_a_protocol_whose_server_speaks_first_arrives(
    doors: Callable[[str], Door], mode: str, port: int, banner: bytes, line: bytes, echo: bytes | None
):
    with doors(mode).enter(b"pass.test", port) as tunnel:
        assert _read(tunnel, len(banner)) == banner
        for _ in range(3):
            tunnel.sendall(line)
            assert _read(tunnel, len(line)) == (echo or line)


@pytest.mark.parametrize("mode", HALF_CLOSING)
def test_a_client_that_ends_first_receives_all(doors: Callable[[str], Door], mode: str):
    sent = b"\xff".join(pattern(5_000_000))
    with doors(mode).enter(b"pass.test", 7) as tunnel:
        tunnel.sendall(sent)
        tunnel.shutdown(socket.SHUT_WR)
        assert hashlib.sha256(read_all(tunnel)).digest() == hashlib.sha256(sent).digest()


@pytest.mark.parametrize("mode", HALF_CLOSING)
def test_a_server_that_ends_first_receives_all(net: Network, doors: Callable[[str], Door], mode: str):
    sent = b"\xff".join(pattern(3_000_000)) + mode.encode()
    with doors(mode).enter(b"pass.test", 9) as tunnel:
        assert read_all(tunnel) == b"the end\r\n"
        tunnel.sendall(sent)
        tunnel.shutdown(socket.SHUT_WR)
        received = f"received {len(sent)} {hashlib.sha256(sent).hexdigest()}"
        wait_until(lambda: received in net.journal(), received)


# Bodies


def test_bodies_arrive_whole_both_ways(net: Network, gate: Gate, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 5_000_000)
    for url in ("http://pass.test/", "https://www.pass.test/"):
        answer = gate.curl(url, "--data-binary", f"@{body}", trust=net.origin_ca)
        assert answer.body == "received 5000000\n"


@pytest.mark.campaign
def test_a_download_of_1_gib_arrives_whole(net: Network, doors: Callable[[str], Door]):
    door, size = doors("regular"), 1 << 30
    command = net.client.enter(
        *("curl", "-sS", "--proxy", f"http://{GATEWAY_ADDRESS}:{door.port}", "--cacert", str(net.origin_ca)),
        f"https://www.pass.test/big?bytes={size}",
    )
    received, expected = hashlib.sha256(), hashlib.sha256()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        while part := curl.stdout.read(1 << 20):
            received.update(part)
    for part in pattern(size):
        expected.update(part)
    assert curl.returncode == 0
    assert received.digest() == expected.digest()


@pytest.mark.campaign
def test_an_upload_of_256_mib_arrives_whole(doors: Callable[[str], Door], tmp_path: Path):
    size = 1 << 28
    with (tmp_path / "body").open("wb") as body:
        body.truncate(size)
    answer = doors("regular").curl(
        "https://www.pass.test/", "--upload-file", str(tmp_path / "body"), "--max-time", "600"
    )
    assert answer.body == f"received {size}\n", answer.error


@pytest.mark.parametrize("mode", ["regular", "secure", "upstream"])
def test_a_site_that_is_down_is_an_error_of_the_proxy(doors: Callable[[str], Door], mode: str):
    assert doors(mode).curl("https://www.pass.test:4444/").proxy_status == 502


def test_each_request_of_a_kept_connection_is_judged(net: Network, gate: Gate):
    urls = ["http://pass.test/1", "http://listed.test/2", "http://pass.test/3"]
    discard = [option for _ in urls for option in ("-o", "/dev/null")]
    done = subprocess.run(
        net.enter("curl", "-sS", "-x", gate.url, *discard, "-w", "%{http_code} %{num_connects} ", *urls),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout == "200 1 403 0 200 0 "


# A real browser


@pytest.fixture
def browse(net: Network, doors: Callable[[str], Door], tmp_path: Path) -> Callable[[str, Path], str]:
    """What Chromium shows of a URL, through the gate and trusting one CA beside its own: HTML."""
    need("chromium", "certutil")
    door, database = doors("regular"), tmp_path / ".pki" / "nssdb"
    database.mkdir(parents=True)

    def show(url: str, ca: Path) -> str:
        certutil = ["certutil", "-d", f"sql:{database}"]
        subprocess.run([*certutil, "-N", "--empty-password"], check=True, timeout=SECONDS)
        subprocess.run([*certutil, "-A", "-n", "ca", "-t", "C,,", "-i", str(ca)], check=True, timeout=SECONDS)
        return subprocess.run(
            net.client.enter(
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *(f"--proxy-server=http://{GATEWAY_ADDRESS}:{door.port}", f"--user-data-dir={tmp_path}/profile"),
                # Its own errands go nowhere: not through the gate, and resolved by nobody.
                *("--proxy-bypass-list=*.com", f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {GATEWAY_ADDRESS}"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *("--no-first-run", "--disable-features=OptimizationHints,MediaRouter,Translate"),
                *("--timeout=20000", "--dump-dom", url),
            ),
            env=os.environ | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
            check=True,
        ).stdout

    return show


def test_chromium_opens_an_unlisted_site_as_if_there_were_no_gate(net: Network, browse: Callable[[str, Path], str]):
    queries = net.queries()
    assert "tls TLSv1.3 alpn h2 resumed False client None sni www.pass.test" in browse(MIRROR, net.origin_ca)
    assert {query.split()[1] for query in net.queries()[len(queries) :]} <= {"www.pass.test"}


@pytest.mark.parametrize("url", ["http://listed.test/", "https://listed.test/"])
def test_chromium_shows_the_stop_page(
    net: Network, doors: Callable[[str], Door], browse: Callable[[str, Path], str], url: str
):
    with net.nothing_reaches_the_origin():
        assert PAGE.decode() in browse(url, doors("regular").ca)


# Whatever the tests of this session did: the gate's CA signed for listed hosts only.


def test_the_gates_ca_signs_for_listed_hosts_only(net: Network, doors: Callable[[str], Door], signed: Path):
    before = signed.read_text().splitlines() if signed.exists() else []
    for mode in ALL_MODES:
        door = doors(mode)
        for host in (b"www.pass.test", b"listed.test.pass.test", b"notlisted.test"):
            with door.enter(host, 443) as tunnel:
                secured = secure(tunnel, host.decode(), ssl.create_default_context(cafile=net.origin_ca))
                assert view(ask(secured, get(host))) is View.ORIGIN
        host = f"{mode}.listed.test"
        with door.enter(host.encode(), 443) as tunnel:
            assert view(ask_inside_tls(tunnel, host, door.ca, get(host.encode()))) is View.PAGE
    names = signed.read_text().split()
    assert {f"{mode}.listed.test" for mode in ALL_MODES} <= {*names[len(before) :]}
    listed = {Host.parse(domain).name for domain in LISTED}
    assert all(name in listed or name.endswith(tuple(f".{domain}" for domain in listed)) for name in names), names
