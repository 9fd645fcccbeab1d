"""The mode `tun`: whole packets of a client, TCP and UDP, where HTTP/3 is seen as well."""

from __future__ import annotations

import os
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
from tests.core.wire.test_dtls_hello import body, fragment, record
from tests.e2e.desk import Desk
from tests.e2e.http3_connection import Http3Connection
from tests.e2e.network import ORIGIN_ADDRESS, SECONDS, Gate, Network, Space, need, wait_until
from tests.e2e.ways import ask, ask_inside_tls, get
from tests.proxy.mitm.layers.test_quic_layer import first_datagrams, hello, initial

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


@contextmanager
def dtls_server_on(net: Network, port: int) -> Iterator[None]:
    """A server of DTLS that has a certificate for any name."""
    need("openssl")
    certificate = f"{net.folder}/origin.pem"
    command = ("openssl", "s_server", "-4", "-dtls", "-accept", str(port), "-cert", certificate, "-key", certificate)
    server = net.world.start(*command, "-cipher", "ALL:@SECLEVEL=0", "-quiet")
    wait_until(lambda: f":{port} " in net.world.run("ss", "-lun"), "a server of DTLS")
    yield
    server.send(signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="module")
def dtls_server(net: Network) -> Iterator[int]:
    """The port of a server of DTLS."""
    with dtls_server_on(net, 6007):
        yield 6007


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


@contextmanager
def udp(space: Space) -> Iterator[socket.socket]:
    """A UDP socket in a network."""
    with space.call(lambda: socket.socket(type=socket.SOCK_DGRAM)) as made:
        yield made


def is_answered(client: socket.socket, port: int, *datagrams: bytes, seconds: float = SECONDS) -> bool:
    for datagram in datagrams:
        client.sendto(datagram, (ORIGIN_ADDRESS, port))
    client.settimeout(seconds)
    with suppress(TimeoutError):
        return bool(client.recv(65536))
    return False


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x16\xfe\xff" + bytes(8) + b"\xff\xff", id="too long"),
        pytest.param(b"\x16\x03\x03" + bytes(8) + b"\0\0", id="of another version"),
        pytest.param(b"\x63" + bytes(12), id="of no type"),
        pytest.param(b"\x17\xfe\xfd" + bytes(8) + b"\xff\xff", id="of application data"),
    ],
)
def test_a_hello_behind_the_header_of_an_invalid_record_reaches_no_server(net: Network, gate: Gate, header: bytes):
    """OpenSSL drops the 13 bytes of the header alone."""
    hidden = header + record(fragment(body("www.listed.test")))
    with dtls_server_on(net, 6008), udp(net.gateway) as beside:
        assert is_answered(beside, 6008, hidden), "the server reads it"
    with dtls_server_on(net, 6009), udp(net.client) as client:
        assert not is_answered(client, 6009, hidden, seconds=1)
        assert is_answered(client, 6009, record(fragment(body("www.pass.test")))), "the flow goes on"


@pytest.mark.parametrize("first", [[], [b"\0"]], ids=["a flow of QUIC", "another flow"])
def test_a_server_is_not_heard_before_the_gate_has_judged_a_hello(net: Network, gate: Gate, first: list[bytes]):
    """Its answer would tell the connection id to which the ClientHello can go in another flow."""
    without_hello = initial((0, b""), keys=os.urandom(9))
    with udp(net.gateway) as beside:
        assert is_answered(beside, 4433, without_hello), "the server answers it"
    with udp(net.client) as client:
        assert not is_answered(client, 4433, *first, initial((0, b""), keys=os.urandom(9)), seconds=1)
    with udp(net.client) as client:
        assert is_answered(client, 4433, *first, initial((0, hello("www.pass.test")), keys=os.urandom(9)))


@pytest.mark.parametrize("port", [443, 4433])
def test_a_connection_made_on_another_network_does_not_go_on_through_the_gate(net: Network, gate: Gate, port: int):
    server = (ORIGIN_ADDRESS, port)
    moved, decoy = Http3Connection("www.listed.test", server), Http3Connection("www.pass.test", server)
    with udp(net.gateway) as beside, udp(net.client) as client:
        assert moved.ask(beside, SECONDS) == b"origin www.listed.test\n"
        moved.carry(beside, 0.5)
        assert decoy.ask(client, SECONDS) == b"origin www.pass.test\n"
        assert moved.ask(client, 1) == b""
        moved.quic.change_connection_id()
        assert moved.ask(client, 1) == b""
        assert decoy.ask(client, SECONDS) == b"origin www.pass.test\n", "the flow goes on"
        for connection, own in ((moved, beside), (decoy, client)):
            connection.quic.close()
            connection.send(own)


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


def test_a_connection_ends_with_its_listing_whatever_its_flow_has_carried(net: Network, gate: Gate, desk: Desk):
    """Seventy other names in its flow do not make the gate forget it, and no other flow carries it on."""
    with udp(net.client) as one, udp(net.client) as two, udp(net.client) as another:
        live = {}
        for port, client in ((443, one), (4433, two)):
            server = (ORIGIN_ADDRESS, port)
            live[port] = Http3Connection("soon.test", server), client
            assert live[port][0].ask(client, SECONDS) == b"origin soon.test\n"
            for number in range(70):
                client.sendto(initial((0, hello(f"other{number}.test")), keys=b"%05d %03d" % (port, number)), server)
            assert live[port][0].ask(client, SECONDS) == b"origin soon.test\n"
            live[port][0].carry(client, 0.5)  # acknowledges all, so that the server sends nothing again
        in_force = gate.log().count("in force")
        desk.publish(["listed.test", "stopped.example", "soon.test"])
        wait_until(lambda: gate.log().count("in force") > in_force, "the list is in force")
        asked = net.requests()
        for connection, client in live.values():
            assert connection.ask(client, 1) == b""
            assert connection.ask(another, 1) == b""
            connection.quic.change_connection_id()
            assert connection.ask(another, 1) == b""
        assert net.requests() == asked


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
