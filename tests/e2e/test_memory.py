"""What the objects of a gate hold of a request: nothing, once its connection has ended."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import dns.message
import pytest
from mitmproxy.proxy.server import UDP_TIMEOUT

from tests.e2e import hostile
from tests.e2e.conftest import SQUID_PORT
from tests.e2e.desk import Desk
from tests.e2e.memory import HOST, running
from tests.e2e.network import CLIENT_ADDRESS, GATEWAY_ADDRESS, SECONDS, Network
from tests.e2e.ways import ask, ask_h2, get, read_head, receive, secure

SOCKS = "127.0.0.2"
REQUESTS = 200
LAST = f"q{'0' * 12}z"
ANYTHING = rf"{hostile.TOKEN.pattern.decode()}|{hostile.ADDRESS.pattern.decode()}|{re.escape(CLIENT_ADDRESS)}"


def _enter(connection: socket.socket, token: str, port: int) -> None:
    connection.sendall(f"CONNECT {token}.pass.test:{port} HTTP/1.1\r\nUser-Agent: {token}\r\n\r\n".encode())
    read_head(connection)


def _echo(connection: socket.socket, token: str) -> None:
    _enter(connection, token, 22)
    receive(connection, len("SSH-2.0-origin\r\n"))
    connection.sendall(token.encode())
    assert receive(connection, len(token)) == token.encode()


def _mirror(connection: socket.socket, token: str) -> None:
    host, body = f"{token}.pass.test".encode(), token.encode()
    more = b"Content-Length: %d\r\nCookie: %b\r\n" % (len(body), body)
    request = get(host, method=b"POST", target=b"http://%b/mirror/%b" % (host, body), more=more) + body
    assert ask(connection, request).endswith(body)


def _talk(connection: socket.socket, token: str) -> None:
    host = f"{token}.pass.test".encode()
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    connection.sendall(get(host, target=b"http://%b/ws" % host, more=upgrade))
    if b" 101 " in read_head(connection):  # not through a parent proxy
        connection.sendall(bytes((0x81, 0x80 + len(token), 0, 0, 0, 0)) + token.encode())  # masked with zeros
        assert receive(connection, 2 + len(token)).endswith(token.encode())


def _multiplex(connection: socket.socket, token: str) -> None:
    _enter(connection, token, 80)
    ask_h2(connection, f"{token}.listed.test".encode())


def _secure(ca: Path, protocol: str) -> hostile.Ask:
    def ask_inside(connection: socket.socket, token: str) -> None:
        _enter(connection, token, 8443)
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols([protocol])
        secured = secure(connection, f"{token}.pass.test", context)
        if protocol == "h2":
            ask_h2(secured, f"{token}.pass.test:8443".encode())
        else:
            ask(secured, get(f"{token}.pass.test:8443".encode(), target=f"/{token}".encode()))

    return ask_inside


def _from_the_client(net: Network, port: int) -> None:
    """Some requests of a client in a network that is neither private nor public."""
    for host in (b"pass.test", b"listed.test"):
        with suppress(OSError), net.client.connect(GATEWAY_ADDRESS, port) as connection:
            ask(connection, get(host, target=b"http://%b/" % host))


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("program", "outwards", "intercepts"),
    [
        pytest.param("stoplist", "regular", False, id="in the lane"),
        pytest.param("stoplist", "regular", True, id="intercepted"),
        pytest.param("stoplist", f"upstream:http://127.0.0.1:{SQUID_PORT}", False, id="through a parent proxy"),
        pytest.param("mitmdump", "regular", False, id="mitmdump"),
    ],
)
def test_what_was_asked_for_is_held_no_longer_than_its_connection(
    net: Network, squid: None, desk: Desk, tmp_path: Path, program: str, outwards: str, intercepts: bool
):
    if intercepts:
        with desk.policy.open("a") as policy:
            policy.write(f"tls: intercept\nupstream: {{ca: {net.origin_ca}}}\n")
    modes = (f"{outwards}@{HOST}:0", f"socks5@{SOCKS}:0", f"{outwards}@{GATEWAY_ADDRESS}:0")
    with running(net, desk, tmp_path, *modes, program=program) as memory:
        gate = memory.gate
        socks_port, outer_port = (
            int(gate.process.wait_for(rf"listening on {host}:(\d+)")[1]) for host in (SOCKS, GATEWAY_ADDRESS)
        )
        trust = gate.ca if intercepts else net.origin_ca
        more = (_echo, _mirror, _talk, _multiplex, _secure(trust, "h2"), _secure(trust, "http/1.1"))
        kinds = hostile.kinds(gate.ca, net.origin_ca)
        kinds += [hostile.Kind(each, names_listed=each is _multiplex, names_other=True) for each in more]
        session = hostile.Session(net, {hostile.Door.HTTP: (HOST, gate.port), hostile.Door.SOCKS: (SOCKS, socks_port)})
        for _ in session.run(kinds, REQUESTS):
            pass
        _from_the_client(net, outer_port)
        with gate.connect() as connection:
            _echo(connection, LAST)
            assert LAST in memory.find(LAST[0] + "0{12}z"), "what is open is held, and found"
        used = session.used
        known = {each.decode() for each in used.tokens | used.addresses} | {CLIENT_ADDRESS, LAST}
        assert memory.kept(ANYTHING, known) == {}


@pytest.mark.campaign
def test_a_question_is_held_no_longer_than_mitmproxy_waits_for_the_next_datagram(
    net: Network, desk: Desk, tmp_path: Path
):
    with running(net, desk, tmp_path, f"regular@{HOST}:0", f"dns@{HOST}:5353") as memory:
        names = [f"q{number:012x}z" for number in range(4)]
        for name, zone in zip(names, ("pass.test", "listed.test") * 2, strict=True):
            with net.gateway.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
                asker.settimeout(SECONDS)
                asker.sendto(dns.message.make_query(f"{name}.{zone}", "A").to_wire(), (HOST, 5353))
                assert asker.recv(4096)
        assert memory.find(ANYTHING).keys() & set(names), "what has come in a moment ago is held, and found"
        assert memory.kept(ANYTHING, names, seconds=UDP_TIMEOUT + SECONDS) == {}
