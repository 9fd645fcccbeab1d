"""The mode `tun`: whole packets of a client, TCP and UDP, where HTTP/3 is seen as well."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from stoplist.core.counts import Outcome
from tests.e2e.desk import Desk
from tests.e2e.network import ORIGIN_ADDRESS, SECONDS, Gate, Network, need, wait_until
from tests.e2e.ways import ask, ask_inside_tls, get
from tests.proxy.mitm.layers.test_quic_layer import first_datagrams

HTTP3 = str(Path(__file__).parent / "http3.py")
DEVICE = "stoplist0"
RESOLVE = ("--resolve", f"www.pass.test:443:{ORIGIN_ADDRESS}", "--resolve", f"listed.test:443:{ORIGIN_ADDRESS}")


@pytest.fixture(scope="module")
def desk(first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk of this module's own, to change."""
    return Desk(Path(shutil.copytree(first_desk.folder, tmp_path_factory.mktemp("tun") / "desk")), first_desk.serial)


@pytest.fixture(scope="module")
def gate(net: Network, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate whose packets are all that the client sends into the world."""
    need("ip")
    server = net.world.start(sys.executable, HTTP3, "serve", f"{net.folder}/origin.pem", f"{net.folder}/journal")
    server.wait_for("ready")
    with _gate(net, desk, tmp_path_factory.mktemp("tun") / "state") as gate:
        yield gate
    server.end()


@contextmanager
def _gate(net: Network, desk: Desk, state_dir: Path) -> Iterator[Gate]:
    gate = net.gate(desk.policy, state_dir, "--mode", "regular", "--mode", f"tun:{DEVICE}")
    net.gateway.run(
        "sh",
        "-ec",
        f"ip link set {DEVICE} up; ip route add default dev {DEVICE} table 100; ip rule add iif client lookup 100; "
        "for all in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $all; done; "
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    )
    try:
        yield gate
    finally:
        net.gateway.run("sh", "-ec", "echo 0 > /proc/sys/net/ipv4/ip_forward; ip rule del iif client lookup 100")
        gate.process.end()


def get_by_http3(net: Network, name: str, ca: Path) -> str:
    command = net.client.enter(sys.executable, HTTP3, "get", ORIGIN_ADDRESS, name, str(ca))
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.stdout + done.stderr


def test_an_unlisted_site_shows_its_own_certificate_over_http3(net: Network, gate: Gate):
    before = net.requests()
    assert get_by_http3(net, "www.pass.test", net.origin_ca) == "200 origin www.pass.test\n\n"
    assert net.requests()[len(before) :] == ["request GET www.pass.test /"]


@pytest.mark.parametrize("name", ["listed.test", "www.listed.test"])
def test_a_listed_site_is_stopped_over_http3(net: Network, gate: Gate, name: str):
    with net.nothing_reaches_the_origin():
        answer = get_by_http3(net, name, gate.ca)
    assert answer.startswith("403 ")
    assert "Access to this site was stopped" in answer


def test_a_listed_site_is_stopped_over_tcp(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        with net.client.connect(ORIGIN_ADDRESS, 80) as plain:
            assert b"Access to this site was stopped" in ask(plain, get(b"listed.test"))
        with net.client.connect(ORIGIN_ADDRESS, 443) as tls:
            answer = ask_inside_tls(tls, "listed.test", gate.ca, get(b"listed.test"))
        assert b"Access to this site was stopped" in answer


def test_an_unlisted_site_passes_over_tcp(net: Network, gate: Gate):
    answer = net.curl("https://www.pass.test/", *RESOLVE, "--cacert", str(net.origin_ca), space=net.client)
    assert answer.body == "origin www.pass.test\n", answer.error


def test_a_listed_name_is_blocked_in_dns_and_others_are_answered(net: Network, gate: Gate):
    for send in (dns.query.udp, dns.query.tcp):

        def query(name: str, send: Callable[..., dns.message.Message] = send) -> dns.message.Message:
            return send(dns.message.make_query(name, "A"), ORIGIN_ADDRESS, timeout=SECONDS)

        with net.nothing_reaches_the_origin():
            assert net.client.call(lambda query=query: query("listed.test")).rcode() == dns.rcode.NXDOMAIN
        assert net.client.call(lambda query=query: query("www.pass.test")).answer


def test_other_udp_passes(net: Network, gate: Gate):
    with net.world.call(lambda: socket.socket(type=socket.SOCK_DGRAM)) as server:
        net.world.call(lambda: server.bind((ORIGIN_ADDRESS, 9999)))
        with net.client.call(lambda: socket.socket(type=socket.SOCK_DGRAM)) as client:
            client.sendto(b"hello", (ORIGIN_ADDRESS, 9999))
            server.settimeout(SECONDS)
            data, address = server.recvfrom(100)
            server.sendto(data.upper(), address)
            client.settimeout(SECONDS)
            assert client.recv(100) == b"HELLO"


@pytest.fixture(scope="module")
def dtls_server(net: Network) -> Iterator[int]:
    """The port of a server of DTLS that has a certificate for any name."""
    need("openssl")
    port, certificate = 6007, f"{net.folder}/origin.pem"
    command = ("openssl", "s_server", "-4", "-dtls", "-accept", str(port), "-cert", certificate, "-key", certificate)
    server = net.world.start(*command, "-cipher", "ALL:@SECLEVEL=0", "-quiet")
    wait_until(lambda: f":{port} " in net.world.run("ss", "-lun"), "a server of DTLS")
    yield port
    server.send(signal.SIGKILL)
    server.wait()


@pytest.mark.parametrize("version", ["-dtls", "-dtls1_2", "-dtls1"])
@pytest.mark.parametrize(
    ("name", "passes"),
    [
        *(("www.pass.test", True), ("www.listed.test", False)),
        *(("notlisted.test", True), ("listed.test.pass.test", True), ("listed.example", True)),
    ],
)
def test_the_name_in_dtls_is_judged(net: Network, gate: Gate, dtls_server: int, version: str, name: str, passes: bool):
    client = ("openssl", "s_client", "-4", version, "-cipher", "ALL:@SECLEVEL=0", "-connect")
    place = f"{ORIGIN_ADDRESS}:{dtls_server}"
    process = net.client.start("timeout", str(SECONDS if passes else 3), *client, place, "-servername", name)
    if passes:
        process.wait_for("BEGIN CERTIFICATE")
        process.send(signal.SIGTERM)
    process.wait()
    assert ("BEGIN CERTIFICATE" in "".join(process.out)) is passes


def test_a_second_connection_of_a_flow_is_judged(net: Network, gate: Gate):
    before = net.requests()
    with net.client.call(lambda: socket.socket(type=socket.SOCK_DGRAM)) as client:
        client.settimeout(SECONDS)
        for name in ("www.pass.test", "pass.test"):
            begun = first_datagrams(name)
            own = _source_of(begun[0])
            for datagram in begun:
                client.sendto(datagram, (ORIGIN_ADDRESS, 443))
            while _destination_of(client.recv(65536)) != own:
                pass  # of the connection before
        begun = first_datagrams("www.listed.test")
        own = _source_of(begun[0])
        for datagram in begun:
            client.sendto(datagram, (ORIGIN_ADDRESS, 443))
        client.settimeout(2)
        with suppress(TimeoutError):
            while True:
                assert _destination_of(client.recv(65536)) != own
    assert net.requests() == before


def _destination_of(datagram: bytes) -> bytes:
    return datagram[6 : 6 + datagram[5]] if datagram[0] & 0x80 else b""


def _source_of(datagram: bytes) -> bytes:
    start = 6 + datagram[5]
    return datagram[start + 1 : start + 1 + datagram[start]]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xc0\0\0\0\x01" + b"\0" * 1300, id="a QUIC packet of nonsense"),
        pytest.param(b"\x40" + b"\1" * 100, id="a QUIC packet of no known connection"),
        pytest.param(b"junk" * 300, id="junk"),
        pytest.param(b"x", id="one byte"),
    ],
)
def test_what_is_no_readable_http3_on_its_port_goes_nowhere(net: Network, gate: Gate, data: bytes):
    with net.client.call(lambda: socket.socket(type=socket.SOCK_DGRAM)) as client, net.nothing_reaches_the_origin():
        client.sendto(data, (ORIGIN_ADDRESS, 443))


def test_where_https_is_refused_http3_is_refused_and_counted(net: Network, gate: Gate, desk: Desk, tmp_path: Path):
    """The last one here: another gate takes the place of the one before."""
    gate.process.end()
    left = [gate.log().encode(), *(path.read_bytes() for path in gate.state_dir.rglob("*") if path.is_file())]
    assert not [data for data in left for name in (b"listed", b"pass.test") if name in data.lower()]
    net.gateway.run("ip", "rule", "del", "iif", "client", "lookup", "100")
    desk.policy.write_text(desk.policy.read_text() + "https: refuse\n")
    with _gate(net, desk, tmp_path / "state") as refusing:
        with net.nothing_reaches_the_origin():
            answer = get_by_http3(net, "www.listed.test", net.origin_ca)
        assert "ConnectionError" in answer  # at once, and no timeout
        assert get_by_http3(net, "www.pass.test", net.origin_ca) == "200 origin www.pass.test\n\n"
        refusing.process.end()
        assert "fault" not in refusing.log()
        assert refusing.counts()["test", Outcome.NOT_SHOWN] == 1
    net.gateway.run("ip", "rule", "add", "iif", "client", "lookup", "100")  # as it was, for who cleans up
