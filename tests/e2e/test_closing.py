"""What is open when its host becomes listed ends, by an event: these gates poll by the hour. All else stays open."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, Gate, Network, wait_until
from tests.e2e.ways import View, ask, get, has_ended, read_answer, read_head, secure, view

_UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.policy.write_text("watch: {poll: 1h}\n" + desk.policy.read_text())
    return desk


def _tunnel(gate: Gate, host: bytes, port: int) -> socket.socket:
    connection = gate.connect()
    connection.sendall(b"CONNECT %b:%d HTTP/1.1\r\n\r\n" % (host, port))
    assert b" 200 " in read_head(connection)
    return connection


def _talking(gate: Gate, host: bytes) -> socket.socket:
    """A tunnel to a server that speaks first, in use."""
    tunnel = _tunnel(gate, host, 22)
    assert tunnel.recv(100) == b"SSH-2.0-origin\r\n"
    return tunnel


def _streaming(gate: Gate, host: bytes) -> socket.socket:
    """A plain HTTP answer that does not end."""
    connection = gate.connect()
    connection.sendall(get(host, target=b"http://" + host + b"/stream"))
    assert b" 200 " in read_head(connection)
    return connection


def _websocket(gate: Gate, host: bytes) -> socket.socket:
    connection = gate.connect()
    connection.sendall(get(host, target=b"http://" + host + b"/ws", more=_UPGRADE))
    assert b" 101 " in read_head(connection)
    return connection


def _named_by_a_field(gate: Gate, host: bytes) -> socket.socket:
    """An answer that does not end, in a tunnel to another host."""
    tunnel = _tunnel(gate, b"other.test", 80)
    tunnel.sendall(get(host, target=b"/stream"))
    assert b" 200 " in read_head(tunnel)
    return tunnel


def _websocket_named_by_a_field(gate: Gate, host: bytes) -> socket.socket:
    tunnel = _tunnel(gate, b"other.test", 80)
    tunnel.sendall(get(host, target=b"/ws", more=_UPGRADE))
    assert b" 101 " in read_head(tunnel)
    return tunnel


def _named_after_others(gate: Gate, host: bytes) -> socket.socket:
    """The same, after another request on the connection."""
    tunnel = _tunnel(gate, b"other.test", 80)
    assert b"origin " in ask(tunnel, get(b"first.test"))
    tunnel.sendall(get(host, target=b"/stream"))
    assert b" 200 " in read_head(tunnel)
    return tunnel


OPEN: dict[str, Callable[[Gate, bytes], socket.socket]] = {
    "a tunnel": _talking,
    "an answer that does not end": _streaming,
    "a WebSocket": _websocket,
    "an answer to a Host in a tunnel to another host": _named_by_a_field,
    "a WebSocket of a Host in a tunnel to another host": _websocket_named_by_a_field,
    "an answer to the second Host in a tunnel": _named_after_others,
}


@pytest.mark.parametrize("kind", OPEN)
def test_a_connection_to_a_newly_listed_host_ends(net: Network, desk: Desk, own_gate: Gate, kind: str):
    with ExitStack() as stack:
        listed = stack.enter_context(OPEN[kind](own_gate, b"new.pass.test"))
        other = stack.enter_context(OPEN[kind](own_gate, b"www.pass.test"))
        desk.publish(["listed.test", "new.pass.test"])
        wait_until(lambda: has_ended(listed), "the end of the connection")
        time.sleep(0.3)
        assert not has_ended(other)


def test_a_redirected_answer_ends_when_its_host_is_listed(net: Network, desk: Desk, tmp_path: Path):
    """In transparent mode the Host field is all that names the host of plain HTTP."""
    gate = net.gate(
        desk.policy, tmp_path / "state", "--mode", f"transparent@{GATEWAY_ADDRESS}:8290", address=GATEWAY_ADDRESS
    )
    with net.redirect([80], 8290), ExitStack() as stack:
        streams = []
        for host in (b"new.pass.test", b"www.pass.test"):
            stream = stack.enter_context(net.client.connect(ORIGIN_ADDRESS, 80))
            stream.sendall(get(host, target=b"/stream"))
            assert b" 200 " in read_head(stream)
            streams.append(stream)
        desk.publish(["listed.test", "new.pass.test"])
        wait_until(lambda: has_ended(streams[0]), "the end of the connection")
        time.sleep(0.3)
        assert not has_ended(streams[1])
    gate.process.end()


def test_no_packet_follows_while_a_list_is_activated(net: Network, desk: Desk, own_gate: Gate):
    """Requests that never stop coming: after the first page none reaches the origin any more."""
    desk.publish(["listed.test", "new.pass.test"])

    def is_stopped() -> bool:
        with own_gate.connect() as connection:
            return view(ask(connection, get(b"new.pass.test", target=b"http://new.pass.test/"))) is View.PAGE

    wait_until(is_stopped, "the first page")
    with net.nothing_reaches_the_origin():
        for _ in range(20):
            assert is_stopped()


@pytest.fixture
def many(own_gate: Gate) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_tunnel(own_gate, b"www.pass.test", 25)) for _ in range(90)]


def test_open_connections_that_stay_do_not_notice(net: Network, desk: Desk, own_gate: Gate, many: list[socket.socket]):
    desk.publish(["listed.test", "new.pass.test"])
    own_gate.process.wait_for("serial 2 in force")
    for tunnel in many:
        tunnel.setblocking(True)
        tunnel.settimeout(SECONDS)
        tunnel.sendall(b"hello\r\n")
        heard = b""
        while b"HELLO" not in heard:
            heard += tunnel.recv(100)


def test_an_exception_that_is_taken_back_ends_tunnels(net: Network, desk: Desk, tmp_path: Path):
    policy = desk.policy.read_text()
    excepted = '\nexceptions: [{domain: www.listed.test, reason: "appeal upheld", until: 2099-12-31}]\n'
    desk.policy.write_text(policy + excepted)
    gate = net.gate(desk.policy, tmp_path / "state")
    with _talking(gate, b"www.listed.test") as tunnel:
        desk.policy.write_text(policy)
        wait_until(lambda: has_ended(tunnel), "the end of the tunnel")
    gate.process.end()


def test_what_came_for_a_page_is_not_forwarded_when_its_host_is_taken_off_the_list(
    net: Network, desk: Desk, own_gate: Gate
):
    """Decrypted for a page, and not listed any more when the request comes: the client has to begin again."""
    context = ssl.create_default_context(cafile=own_gate.ca)
    with _tunnel(own_gate, b"www.listed.test", 443) as tunnel:
        secured = secure(tunnel, "www.listed.test", context)
        desk.publish(["stopped.example"])
        own_gate.process.wait_for("serial 2 in force")
        with net.nothing_reaches_the_origin():
            secured.sendall(get(b"www.listed.test"))
            answer = read_answer(secured)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"The list of the filter has just changed." in answer
    with own_gate.connect() as connection:
        assert view(ask(connection, get(b"www.listed.test", target=b"http://www.listed.test/"))) is View.ORIGIN
