"""The mode `dns`: listed names are answered as blocked, all others by the resolver as it answers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from stoplist.core.counts import Outcome
from tests.e2e.conftest import MODES
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, Gate, Network
from tests.e2e.test_lookalikes import NAMES

PORT = 5300


@pytest.fixture(scope="module")
def gate(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    mode = f"dns@{GATEWAY_ADDRESS}:{PORT}"
    gate = net.gate(
        first_desk.policy, tmp_path_factory.mktemp("dns") / "state", "--mode", mode, address=GATEWAY_ADDRESS
    )
    yield gate
    gate.process.end()


def ask(net: Network, name: str, kind: str = "A", *, over: str = "udp", **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    send = dns.query.udp if over == "udp" else dns.query.tcp
    return net.client.call(lambda: send(query, GATEWAY_ADDRESS, port=PORT, timeout=SECONDS))


LISTED = {
    "A": ("listed.test", "A"),
    "AAAA": ("listed.test", "AAAA"),
    "HTTPS": ("listed.test", "HTTPS"),
    "SVCB": ("_443._https.listed.test", "SVCB"),
    "TXT": ("listed.test", "TXT"),
    "MX": ("listed.test", "MX"),
    "NS": ("listed.test", "NS"),
    "CNAME": ("listed.test", "CNAME"),
    "ANY": ("listed.test", "ANY"),
    "an unknown type": ("listed.test", "TYPE65400"),
    "a subdomain": ("www.listed.test", "A"),
    "a deep subdomain": ("a.b.c.d.e.listed.test", "A"),
    "upper case": ("LISTED.TEST", "A"),
    "mixed case, as resolvers do against forgery": ("LiStEd.tEsT", "A"),
    "underscores": ("_dmarc.listed.test", "TXT"),
    "the check host": ("check.stoplist.invalid", "A"),
}


@pytest.mark.parametrize("over", ["udp", "tcp"])
@pytest.mark.parametrize("kind", LISTED)
def test_a_listed_name_is_blocked(net: Network, gate: Gate, kind: str, over: str):
    with net.nothing_reaches_the_origin():
        answer = ask(net, *LISTED[kind], over=over, use_edns=0)
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert not answer.answer
    assert not answer.authority
    assert [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)] == [15]


def test_a_client_without_edns_is_told_without_it(net: Network, gate: Gate):
    with net.nothing_reaches_the_origin():
        answer = ask(net, "listed.test")
    assert (answer.rcode(), answer.edns) == (dns.rcode.NXDOMAIN, -1)


@pytest.mark.parametrize("over", ["udp", "tcp"])
@pytest.mark.parametrize(
    "name",
    ["www.pass.test", "notlisted.test", "listed.test.pass.test", "xn--fa-hia.pass.test", "_x.pass.test", "test", "."],
)
def test_an_unlisted_name_is_answered_by_the_resolver(net: Network, gate: Gate, name: str, over: str):
    before = net.queries()
    answer = ask(net, name, over=over)
    query = dns.message.make_query(name, "A")
    send = dns.query.udp if over == "udp" else dns.query.tcp
    direct = net.gateway.call(lambda: send(query, ORIGIN_ADDRESS, timeout=SECONDS))
    assert (answer.rcode(), answer.answer, answer.authority) == (direct.rcode(), direct.answer, direct.authority)
    asked = [line.split(" from ")[0].partition("] ")[2] for line in net.queries()[len(before) :]]
    assert asked == [name.rstrip(".")] * 2 or name == "."


def test_several_queries_in_one_connection_are_judged_one_by_one(net: Network, gate: Gate):
    names = ["www.pass.test", "listed.test", "notlisted.test", "www.stopped.example"]
    queries = [dns.message.make_query(name, "A") for name in names]
    wire = b"".join(struct.pack("!H", len(query.to_wire())) + query.to_wire() for query in queries)
    before = net.queries()
    answers = {}
    with net.client.connect(GATEWAY_ADDRESS, PORT) as connection:
        for byte in wire[:30]:
            connection.sendall(bytes([byte]))
        connection.sendall(wire[30:])
        for _ in names:
            (length,) = struct.unpack("!H", _receive(connection, 2))
            answer = dns.message.from_wire(_receive(connection, length))
            answers[answer.id] = answer.rcode()
    assert [answers[query.id] for query in queries] == [0, 3, 0, 3]
    assert not any("listed.test" in line.replace("notlisted", "") for line in net.queries()[len(before) :])


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += connection.recv(length - len(data))
    return data


def test_what_is_no_query_for_one_name_goes_nowhere(net: Network, gate: Gate):
    two = dns.message.make_query("www.pass.test", "A")
    two.question.append(dns.message.make_query("listed.test", "A").question[0])
    notify = dns.message.make_query("www.pass.test", "SOA")
    notify.set_opcode(4)
    for query in (two, notify):
        with net.nothing_reaches_the_origin():
            answer = net.client.call(lambda query=query: _exchange(query.to_wire(), SECONDS))
        assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED
    with net.nothing_reaches_the_origin():
        for garbage in (b"", b"x", b"\0" * 11, b"\xff" * 500):
            assert net.client.call(lambda garbage=garbage: _exchange(garbage, 0.5)) is None


def _exchange(data: bytes, seconds: float) -> bytes | None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.sendto(data, (GATEWAY_ADDRESS, PORT))
        try:
            return client.recv(65536)
        except TimeoutError:
            return None


def test_no_name_is_in_the_log(net: Network, desk: Desk, tmp_path: Path):
    gate = net.gate(desk.policy, tmp_path / "state", "--mode", f"dns@{GATEWAY_ADDRESS}:5301", address=GATEWAY_ADDRESS)
    query = dns.message.make_query("secret.listed.test", "A")
    net.client.call(lambda: dns.query.udp(query, GATEWAY_ADDRESS, port=5301, timeout=SECONDS))
    gate.process.end()
    assert "listed.test" not in gate.log()
    assert +gate.counts() == {("test", Outcome.NOT_SHOWN): 1}


@pytest.fixture
def redirected(net: Network, gate_of_doors: Gate) -> Iterator[None]:
    """What a client sends to TCP port 53 of anywhere comes to a gate in transparent mode."""
    with net.redirect([53], MODES["transparent"]):
        yield


@pytest.mark.usefixtures("redirected")
@pytest.mark.parametrize(
    ("name", "code"), [("www.pass.test", dns.rcode.NOERROR), ("www.listed.test", dns.rcode.NXDOMAIN)]
)
def test_a_redirected_query_over_tcp_is_judged(net: Network, name: str, code: dns.rcode.Rcode):
    query = dns.message.make_query(name, "A")
    answer = net.client.call(lambda: dns.query.tcp(query, ORIGIN_ADDRESS, timeout=SECONDS))
    assert (answer.rcode(), bool(answer.answer)) == (code, code is dns.rcode.NOERROR)


@pytest.mark.usefixtures("redirected")
@pytest.mark.parametrize("name", sorted({asked for _, asked in NAMES.values() if asked}))
def test_a_look_alike_is_asked_for_over_tcp_as_it_is(net: Network, name: str):
    before = len(net.queries())
    query = dns.message.make_query(name, "A")
    answer = net.client.call(lambda: dns.query.tcp(query, ORIGIN_ADDRESS, timeout=SECONDS))
    assert (answer.rcode(), bool(answer.answer)) == (dns.rcode.NOERROR, True)
    assert any(name in asked for asked in net.queries()[before:])


@pytest.mark.usefixtures("redirected")
def test_a_request_in_a_redirected_query_goes_nowhere(net: Network):
    """The first bytes are a word to some web servers, and the record at the end makes them a request line."""
    query = struct.pack("!6H", 0x4745, 0x0120, 1, 0, 0, 1) + dns.message.make_query("a.pass.test", "A").to_wire()[12:]
    request = b" HTTP/1.1\r\nHost: www.listed.test\r\n\r\n"
    query += b"\0" + struct.pack("!HHIH", 255, 1, 1, len(request)) + request
    with net.nothing_reaches_the_origin(), net.client.connect(ORIGIN_ADDRESS, 53) as connection:
        connection.sendall(struct.pack("!H", len(query)) + query)
        assert connection.recv(100) == b""
