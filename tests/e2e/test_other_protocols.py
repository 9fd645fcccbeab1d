"""What is neither TLS nor HTTP: what people run passes, also where the web is; what a web server would answer does not.

Each server here is a script: it says what it is told to, and keeps what it hears.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from stoplist.core.counts import Outcome
from stoplist.proxy.outbound.connector import CONNECT_SECONDS
from tests.e2e.conftest import MODES
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, Network, wait_until
from tests.e2e.ways import (
    PAGE,
    Door,
    RefusedError,
    View,
    ask,
    ask_h2,
    client_hello,
    get,
    has_ended,
    read_all,
    read_head,
    receive,
    seen,
)

WEB, OTHER = 8051, 9051
"""A port where the web may be, and another."""
EVERY_MODE = ("regular", "secure", "upstream", "socks5", "transparent")
LISTED = get(b"listed.test")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
SETTINGS = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d"
RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")


@dataclass
class Script:
    """A server: `banner` is said at once, `answer` after the first bytes of a client, and after each later ones."""

    listening: socket.socket
    banner: bytes = b""
    answer: bytes = b""
    ends: bool = False
    """Whether it ends a connection after its answer."""
    heard: list[bytes] = field(default_factory=list)
    visits: int = 0
    """How many connections have said something."""

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(SECONDS)
            client.sendall(self.banner)
            is_first = True
            while data := client.recv(65536):
                self.visits += is_first
                is_first = False
                self.heard.append(data)
                client.sendall(self.answer)
                if self.ends:
                    return

    @property
    def all_heard(self) -> bytes:
        return b"".join(self.heard)


@pytest.fixture(scope="module")
def redirected(net: Network) -> Iterator[None]:
    with net.redirect((WEB, OTHER), MODES["transparent"]):
        yield


@pytest.fixture
def script(net: Network, redirected: None) -> Iterator[Callable[..., Script]]:
    started = []

    def script(port: int, banner: bytes = b"", answer: bytes = b"", *, ends: bool = False) -> Script:
        listening = net.world.call(lambda: socket.create_server((ORIGIN_ADDRESS, port)))
        started.append(listening)
        made = Script(listening, banner, answer, ends)
        threading.Thread(target=made.serve, daemon=True).start()
        return made

    yield script
    for listening in started:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.fixture(params=EVERY_MODE)
def door(doors: Callable[[str], Door], request: pytest.FixtureRequest) -> Door:
    return doors(request.param)


@contextmanager
def tunnel(door: Door, port: int, host: bytes = b"pass.test") -> Iterator[socket.socket]:
    with door.enter(host, port) as connection:
        yield connection


# What people run


@pytest.mark.parametrize("port", [WEB, OTHER])
def test_ssh_passes(door: Door, script: Callable[..., Script], port: int):
    server = script(port, banner=b"SSH-2.0-server\r\n", answer=b"\0\0\x05\x14kex")
    with tunnel(door, port) as client:
        client.sendall(b"SSH-2.0-client\r\n")
        assert receive(client, 23) == b"SSH-2.0-server\r\n\0\0\x05\x14kex"
        client.sendall(LISTED)  # who is known to be no web server is not looked at any more
        wait_until(lambda: LISTED in server.all_heard, "what followed")


@pytest.mark.parametrize("port", [WEB, OTHER])
@pytest.mark.parametrize(
    ("opening", "answer"),
    [
        pytest.param(b"WA\x06\x03\0\0\x24", b"\0\0\x50", id="a messenger"),
        pytest.param(b"\0\x0e8" + bytes(range(0x40, 0x4B)), b"\0\x1a@", id="OpenVPN"),
        pytest.param(b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0", b"\x03\0\0\x13\x0e\xd0", id="RDP"),
        pytest.param(b"\xef" * 64, b"\xee" * 9, id="what looks like chance"),
    ],
)
def test_what_begins_with_other_bytes_passes(
    door: Door, script: Callable[..., Script], port: int, opening: bytes, answer: bytes
):
    server = script(port, answer=answer)
    with tunnel(door, port) as client:
        client.sendall(opening)
        assert receive(client, len(answer)) == answer
    assert server.all_heard == opening


@pytest.mark.parametrize(
    "line", [b"JDWP-Handshake", b"<?xml version='1.0'?><stream:stream to='a.test'>", b"NICK me\r\n"]
)
def test_text_passes_where_there_is_no_web(door: Door, script: Callable[..., Script], line: bytes):
    server = script(OTHER, answer=b"JDWP-Handshake")
    with tunnel(door, OTHER) as client:
        client.sendall(line)
        assert receive(client, 14) == b"JDWP-Handshake"
    assert server.all_heard == line


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(
            b"0\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04\x0fcn=admin,dc=h\x80\x05abcde", id="LDAP, 32 bytes long"
        ),
        pytest.param(b"A \x80\x01\x02\x03", id="a word and bytes"),
    ],
)
def test_bytes_that_begin_as_a_word_does_pass_where_there_is_no_web(
    door: Door, script: Callable[..., Script], message: bytes
):
    server = script(OTHER, answer=b"0\x0c\x02")
    with tunnel(door, OTHER) as client:
        client.sendall(message)
        assert receive(client, 3) == b"0\x0c\x02"
    assert server.all_heard == message


# What a web server would answer


@pytest.mark.parametrize("line", [b"get /key", b"GET /", b"gopher /x"])
def test_a_line_that_is_no_request_line_is_refused_at_once(door: Door, script: Callable[..., Script], line: bytes):
    server = script(OTHER)
    with tunnel(door, OTHER) as client:
        client.sendall(line + b"\r\n")
        assert b" 400 " in read_all(client)
    assert server.all_heard == b""


@pytest.mark.parametrize("host", [b"listed.test,", b"listed.test,x.example", b"listed.test;x"])
def test_a_host_with_a_character_that_no_site_has_is_refused(door: Door, script: Callable[..., Script], host: bytes):
    server = script(WEB, answer=ANSWER)
    with tunnel(door, WEB) as client:
        client.sendall(get(host))
        assert b" 400 " in read_all(client)
    assert server.all_heard == b""


@pytest.mark.parametrize("before", [b"\xffGET x\r\n", b"\xff\r\n" * 30_000])
def test_a_request_after_64_kib_never_arrives(door: Door, script: Callable[..., Script], before: bytes):
    server = script(OTHER)
    with tunnel(door, OTHER) as client, suppress(OSError):
        client.sendall(before + b"x: " + b"a" * 70_000 + b"\r\n")
        client.sendall(LISTED)
        wait_until(lambda: has_ended(client), "its end")
    assert b"Host" not in server.all_heard


@pytest.mark.parametrize("port", [WEB, OTHER])
@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / RTSP/1.1",
        b"GET / ICE/1.0",
        b"GET /",
        b"get / http/1.1",
        b"GET\xa0/ HTTP/1.1",
        b"GET\x85/\x85HTTP/1.1",
        b"\xa0GET / HTTP/1.1",
        b"\x1cGET / HTTP/1.1",
        b"GET\0/ HTTP/1.1",
        b"\x16GET / HTTP/1.1",
        b"OPTIONS * HTTP/1.1\r\n \r\nGET / HTTP/1.1",
        b"GET http://listed.test/",
        b"GET %2F FOO/1.0",
        b"GET %2F \xff",
        b"GET x\xff",
    ],
)
def test_no_form_of_a_request_line_is_answered(
    door: Door, script: Callable[..., Script], port: int, request_line: bytes
):
    server = script(port, answer=ANSWER)

    def way() -> bytes:
        with tunnel(door, port) as client:
            client.sendall(request_line + b"\r\nHost: listed.test\r\nConnection: close\r\n\r\n")
            return read_all(client)

    assert seen(way) is not View.ORIGIN
    assert server.all_heard == b""


@pytest.mark.parametrize(
    ("port", "opening"),
    [
        pytest.param(WEB, b"\xffBREW\r\n\r\n", id="bytes where the web is"),
        pytest.param(WEB, b"\x80\x2e\x01\x03\x01\0\x15", id="SSL 2.0 where the web is"),
        pytest.param(OTHER, b"\xffBREW\r\n\r\n", id="bytes"),
        pytest.param(OTHER, b"\x80\x2e\x01\x03\x01\0\x15", id="SSL 2.0"),
        pytest.param(OTHER, b"FOO\r\n\r\n", id="text"),
        pytest.param(OTHER, b"FOO", id="a word"),
    ],
)
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html>", SETTINGS], ids=["HTTP/1", "0.9", "2"]
)
def test_a_web_server_that_answers_something_else_is_not_heard(
    door: Door, script: Callable[..., Script], port: int, opening: bytes, answer: bytes
):
    server = script(port, answer=answer)
    with tunnel(door, port) as client:
        client.sendall(opening)
        assert read_all(client) == b""
        with suppress(OSError):
            client.sendall(LISTED)
    assert LISTED not in server.all_heard


@pytest.mark.parametrize("size", [0, 1, 9])
def test_a_request_after_another_opening_never_arrives(door: Door, script: Callable[..., Script], size: int):
    server = script(OTHER)
    said = b"\xffBREW\r\n" + LISTED
    with tunnel(door, OTHER) as client, suppress(OSError):
        for start in range(0, len(said), size or len(said)):
            client.sendall(said[start : start + (size or len(said))])
        wait_until(lambda: has_ended(client), "its end")
    assert b"Host" not in server.all_heard


def test_text_on_a_port_of_the_web_waits_for_the_server(door: Door, script: Callable[..., Script]):
    server = script(WEB, answer=ANSWER)
    with tunnel(door, WEB) as client:
        client.sendall(b"FOO\r\n\r\n")
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SECONDS)
        client.sendall(LISTED)
        assert read_all(client) == b""
    assert server.all_heard == b""


@pytest.mark.campaign
@pytest.mark.parametrize(
    "opening",
    [b"JDWP-Handshake", b"FOO\r\n\r\n", b"GE", b"\x16", b"\x16\x03\x01\x02\0\x01"],
    ids=["a word", "text", "half a method", "the first byte of a hello", "the start of a hello"],
)
def test_where_the_web_is_what_neither_asks_nor_is_answered_ends_in_a_minute(
    doors: Callable[[str], Door], script: Callable[..., Script], opening: bytes
):
    server = script(WEB)
    with ExitStack() as stack:
        clients = [stack.enter_context(tunnel(doors(mode), WEB)) for mode in EVERY_MODE]
        for client in clients:
            client.sendall(opening)
        for client in clients:
            client.settimeout(3 * CONNECT_SECONDS)
            assert client.recv(1) == b""
    assert server.all_heard == b""


@pytest.mark.parametrize("mode", ["regular", "secure", "socks5", "upstream"])
def test_a_server_that_begins_with_http2_changes_nothing(
    doors: Callable[[str], Door], script: Callable[..., Script], mode: str
):
    server = script(WEB, banner=SETTINGS)
    with tunnel(doors(mode), WEB) as client:
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SECONDS)
        assert PAGE in ask_h2(client, b"listed.test")
    assert b"listed" not in server.all_heard


@pytest.mark.parametrize("mode", ["regular", "secure", "socks5", "upstream"])
def test_tls_after_a_server_has_spoken_is_no_fault(
    doors: Callable[[str], Door], script: Callable[..., Script], mode: str
):
    """`gate_of_doors` must end without one."""
    script(WEB, banner=SETTINGS)
    with tunnel(doors(mode), WEB) as client, suppress(OSError):
        client.settimeout(1)
        with suppress(TimeoutError):
            client.recv(1)
        client.settimeout(SECONDS)
        client.sendall(client_hello("pass.test"))
        read_all(client)


# TLS, until it is encrypted


def test_the_hello_after_a_retry_is_judged(door: Door, script: Callable[..., Script]):
    body = b"\x03\x03" + RETRY + b"\0\x13\x01\0\0\x06\0\x2b\0\x02\x03\x04"
    retry = b"\x16\x03\x03" + (4 + len(body)).to_bytes(2) + b"\x02" + len(body).to_bytes(3) + body
    first, second = client_hello("pass.test"), client_hello("listed.test")
    server = script(WEB, answer=retry)
    with tunnel(door, WEB) as client:
        client.sendall(first)
        assert receive(client, len(retry)) == retry
        client.sendall(client_hello("www.pass.test"))
        assert receive(client, len(retry)) == retry
        with suppress(OSError):
            client.sendall(b"\x14\x03\x03\0\1\1" + second)
        assert read_all(client) == b""
    assert b"listed.test" not in server.all_heard


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["which answers", "which is silent"])
def test_a_request_after_a_hello_never_reaches_a_server_without_tls(
    door: Door, script: Callable[..., Script], answer: bytes
):
    server = script(WEB, answer=answer)
    with tunnel(door, WEB) as client:
        client.sendall(client_hello("pass.test"))
        wait_until(lambda: b"pass.test" in server.all_heard, "the hello")
        with suppress(OSError):
            client.sendall(LISTED)
        assert read_all(client) == b""
    assert LISTED not in server.all_heard


# What goes on to a server is what was judged


def _h2(tunnel: socket.socket, *requests: list[tuple[bytes, bytes]], body: bytes = b"") -> list[Event]:
    """What comes of requests in HTTP/2, one after the other; each ends with an answer, a reset or the connection."""
    client, events = H2Connection(H2Configuration(validate_outbound_headers=False)), list[Event]()
    client.initiate_connection()
    for number, fields in enumerate(requests):
        with suppress(ProtocolError, OSError):
            client.send_headers(2 * number + 1, fields, end_stream=not body)
            if body:
                client.send_data(2 * number + 1, body, end_stream=True)
            tunnel.sendall(client.data_to_send())
            ended = False
            while not ended and (data := tunnel.recv(65536)):
                events += (new := client.receive_data(data))
                ended = any(isinstance(event, StreamEnded | StreamReset | ConnectionTerminated) for event in new)
                tunnel.sendall(client.data_to_send())
    return events


def _fields(path: bytes, method: bytes = b"GET", scheme: bytes = b"http") -> list[tuple[bytes, bytes]]:
    return [(b":method", method), (b":scheme", scheme), (b":authority", b"pass.test"), (b":path", path)]


@pytest.mark.parametrize(
    "fields",
    [
        _fields(b"http://listed.test/"),
        _fields(b"listed.test:80"),
        _fields(b"*"),
        _fields(b"/", scheme=b"http://listed.test/"),
    ],
    ids=["a URL", "an authority", "an asterisk of GET", "a URL in :scheme"],
)
def test_a_path_of_http2_names_no_host(door: Door, script: Callable[..., Script], fields: list[tuple[bytes, bytes]]):
    server = script(WEB, answer=ANSWER, ends=True)
    with tunnel(door, WEB) as client:
        events = _h2(client, fields, fields)
    assert b"listed" not in server.all_heard
    assert not any(isinstance(event, ResponseReceived) and (b":status", b"200") in event.headers for event in events)


def test_http2_never_goes_on_as_http1(door: Door, script: Callable[..., Script]):
    server = script(WEB, answer=ANSWER, ends=True)
    with tunnel(door, WEB) as client:
        events = _h2(client, *[_fields(b"/", b"POST")] * 3, body=LISTED)
    assert events
    assert server.all_heard.count(b"PRI * HTTP/2.0\r\n") == server.visits


@pytest.mark.parametrize("mode", ["regular", "secure", "socks5", "transparent"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_that_a_server_leaves_unread_is_no_request(
    doors: Callable[[str], Door], script: Callable[..., Script], mode: str, method: str, framing: str
):
    """The server here leaves it unread: it would be the next request on the connection, and its answer the next."""
    server = script(WEB, answer=b"HTTP/1.1 204 No Content\r\n\r\n")
    body, fields = LISTED, f"Content-Length: {len(LISTED)}"
    if framing == "chunks":
        body, fields = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LISTED), LISTED), "Transfer-Encoding: chunked"
    head = f"{method} / HTTP/1.1\r\nHost: pass.test:{WEB}\r\nConnection: keep-alive\r\n{fields}\r\n\r\n"
    with tunnel(doors(mode), WEB) as client:
        client.sendall(head.encode() + body)
        assert b" 204 " in read_all(client)
    assert b"connection: close" in server.all_heard.lower()
    assert b"keep-alive" not in server.all_heard.lower()


@pytest.mark.parametrize("name", [b"a" * 64 + b".pass.test", b"a..pass.test"], ids=["a long label", "an empty label"])
@pytest.mark.parametrize("mode", ["regular", "secure", "upstream", "socks5"])
def test_a_name_that_dns_has_no_form_for_is_no_fault(doors: Callable[[str], Door], mode: str, name: bytes):
    """`gate_of_doors` must end without one."""
    with pytest.raises(RefusedError), tunnel(doors(mode), WEB, name):
        pass


@pytest.mark.parametrize("name", [b"a" * 300 + b".test", b"a..pass.test", b"-.test", b"xn--.test"])
@pytest.mark.parametrize("scheme", [b"http", b"https"])
@pytest.mark.parametrize("mode", ["regular", "secure", "upstream"])
def test_nor_is_one_that_no_certificate_is_for(doors: Callable[[str], Door], mode: str, scheme: bytes, name: bytes):
    with doors(mode).connect() as connection:
        answer = ask(connection, get(name, target=scheme + b"://" + name + b"/"))
    assert b" 400 " in answer or b" 502 " in answer or b" 200 " in answer


@pytest.mark.parametrize("mode", ["regular", "secure", "upstream"])
def test_text_is_held_in_a_tunnel_that_another_request_came_before(
    doors: Callable[[str], Door], script: Callable[..., Script], mode: str
):
    server = script(WEB, answer=b"unlisted")
    with doors(mode).connect() as client:
        assert b" 200 " in ask(client, get(b"pass.test", target=b"http://pass.test/"))
        client.sendall(b"CONNECT www.pass.test:%d HTTP/1.1\r\nHost: www.pass.test:%d\r\n\r\n" % (WEB, WEB))
        assert b" 200 " in read_head(client)
        client.sendall(b"GET x\r\n\r\n")
        client.sendall(LISTED)
        assert b"unlisted" not in read_all(client)
        assert server.all_heard == b""


# What a policy closes


@pytest.mark.parametrize("mode", ["regular", "socks5"])
def test_a_policy_can_close_ports_and_other_protocols(net: Network, desk: Desk, tmp_path: Path, mode: str):
    with desk.policy.open("a") as policy:
        policy.write("tunnels: {ports: [443, 17, 22], other: refuse}\n")
    gate = net.gate(
        desk.policy, tmp_path / "state", "--mode", f"{mode}@{GATEWAY_ADDRESS}:8299", address=GATEWAY_ADDRESS
    )
    try:
        door = Door(net, mode, 8299, gate.ca, net.origin_ca)
        assert door.curl("https://www.pass.test/").body == "origin www.pass.test\n"
        with pytest.raises(RefusedError), tunnel(door, 25):
            pass
        for opening in (b"SSH-2.0-client\r\n", b"\xffbytes"):
            with tunnel(door, 17) as client:
                client.sendall(opening)
                assert read_all(client) == b""
        with tunnel(door, 22) as client:  # the server speaks first
            assert read_all(client) == b""
        with tunnel(door, 17) as client:
            client.sendall(client_hello("pass.test"))  # what comes back is no ServerHello
            assert read_all(client) == b""
        with door.enter(b"listed.test", 25) as client:
            assert PAGE in ask(client, LISTED)
    finally:
        gate.process.end()
    assert "fault" not in gate.log()
    assert gate.counts()[None, Outcome.REFUSED] == 5
