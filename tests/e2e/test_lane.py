"""The lane: what passes is relayed from socket to socket; all the rest comes to mitmproxy whole, and is judged there.

Clients are in the client's namespace, and say byte by byte what they say. A `Site` is a server in the world
that says nothing by itself: the test is at both ends, and sees each byte and each connection.
"""

from __future__ import annotations

import random
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import (
    GATEWAY_ADDRESS,
    LATE_SECONDS,
    ORIGIN_ADDRESS,
    Gate,
    Network,
    need,
    wait_until,
)
from tests.e2e.ways import (
    SECONDS,
    RefusedError,
    View,
    ask,
    ask_h2,
    ask_inside_tls,
    browsers_hello,
    client_hello,
    get,
    hello_with_names,
    in_small_records,
    read_all,
    read_answer,
    read_head,
    receive,
    secure,
    seen,
    send_in_pieces,
    view,
)

PAUSE_SECONDS = 0.002
"""After so long what was sent is a segment of its own, and was received."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\norigin ok"
CONNECT = b"CONNECT %b:%d HTTP/1.1\r\nHost: %b:%d\r\n\r\n"


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed, after whatever it had to say."""
    readable, _, _ = select.select([connection], [], [], 0)
    try:
        return bool(readable) and not connection.recv(65536)
    except OSError:
        return True


def _read_to_the_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes or resets. Raises TimeoutError where it does not."""
    data = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            data += part
    return data


def _is_silent(connection: socket.socket, seconds: float = 0.1) -> bool:
    return not select.select([connection], [], [], seconds)[0]


@dataclass(frozen=True)
class Site:
    """A server of any name but those in RECORDS. What it accepts is read and written by the test."""

    listening: socket.socket

    @property
    def port(self) -> int:
        return self.listening.getsockname()[1]

    def accept(self) -> socket.socket:
        connection, _ = self.listening.accept()
        connection.settimeout(SECONDS)
        return connection

    def is_tried(self, net: Network, times: int) -> bool:
        """Whether the gate tries so many times to connect, and has no answer yet."""
        return len(net.gateway.run("ss", "-Htn", "state", "syn-sent", f"dport = :{self.port}").splitlines()) == times

    def has_visitors(self) -> bool:
        """Whether somebody connects who was not accepted yet."""
        return not _is_silent(self.listening)


@pytest.fixture
def site(net: Network) -> Iterator[Site]:
    listening = net.world.call(lambda: socket.create_server((ORIGIN_ADDRESS, 0), backlog=1024))
    listening.settimeout(SECONDS)
    with listening:
        yield Site(listening)


@dataclass(frozen=True)
class Lane:
    """A gate, and the file where it notes what is handed to mitmproxy."""

    net: Network
    gate: Gate
    log: Path

    @property
    def handed(self) -> int:
        """How many connections were handed to mitmproxy so far."""
        return len(self.log.read_text().splitlines())

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.gate.process.pid}/fd").iterdir()))

    def connect(self) -> socket.socket:
        return self.net.client.connect(GATEWAY_ADDRESS, self.gate.port, seconds=SECONDS)

    def ask_for(self, port: int, host: bytes = b"www.pass.test") -> socket.socket:
        """A connection on which a tunnel was asked for."""
        connection = self.connect()
        connection.sendall(CONNECT % (host, port, host, port))
        return connection

    def enter(self, port: int, host: bytes = b"www.pass.test") -> socket.socket:
        """A tunnel to this host. Raises RefusedError."""
        connection = self.ask_for(port, host)
        with suppress(OSError):
            if b" 200 " in read_head(connection):
                return connection
        connection.close()
        raise RefusedError

    @contextmanager
    def tunnel(self, site: Site, host: bytes = b"www.pass.test") -> Iterator[tuple[socket.socket, socket.socket]]:
        """Both ends of a tunnel to a site."""
        with self.enter(site.port, host) as client, site.accept() as server:
            yield client, server

    @contextmanager
    def hands(self, count: int) -> Iterator[None]:
        """What is done inside hands so many connections to mitmproxy."""
        before = self.handed
        yield
        assert self.handed - before == count


@contextmanager
def _lane(net: Network, desk: Desk, folder: Path, *before: str, more: str = "") -> Iterator[Lane]:
    """A gate with a policy that has `more` lines, started by the command `before`."""
    with desk.policy.open("a") as policy:
        policy.write(more)
    log = folder / "handed"
    log.touch()
    program = (*before, sys.executable, str(Path(__file__).parent / "handing.py"), str(log))
    gate = net.gate(desk.policy, folder / "state", address=GATEWAY_ADDRESS, program=program)
    yield Lane(net, gate, log)
    gate.process.end()


@pytest.fixture(scope="module")
def lane(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with _lane(net, first_desk, tmp_path_factory.mktemp("lane")) as lane:
        yield lane
    assert "fault" not in lane.gate.log()


# What mitmproxy has no part in, and what comes to it

SERVER_HELLO = b"\x16\x03\x03\x00\x2c\x02\x00\x00\x28\x03\x03" + b"r" * 32 + b"\0\x13\x01\0\0\0"


def _answer(opening: bytes, words: bytes) -> bytes:
    """What a server says that is no web server: in answer to a ClientHello it speaks TLS."""
    return SERVER_HELLO + words if opening.startswith(b"\x16") else words


CLIENT_FIRST = {
    "a ClientHello": client_hello("www.pass.test"),
    "a browser's ClientHello": browsers_hello("www.pass.test"),
    "a ClientHello for another unlisted host": client_hello("pass.example"),
    "a long ClientHello": client_hello("www.pass.test", padding=12_000),
    "a ClientHello with early data": client_hello("www.pass.test") + b"\x17\x03\x03\x01\x00" + bytes(256),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a byte of no protocol": b"\xff",
    "many bytes of no protocol": b"\xff" + random.Random(0).randbytes(300_000),
}


@pytest.mark.parametrize("opening", CLIENT_FIRST)
def test_a_tunnel_that_passes_never_comes_to_mitmproxy(lane: Lane, site: Site, opening: str):
    data = CLIENT_FIRST[opening]
    with lane.hands(0), lane.tunnel(site) as (client, server), ThreadPoolExecutor(1) as thread:
        sending = thread.submit(client.sendall, data)
        assert receive(server, len(data)) == data
        sending.result()
        server.sendall(data)
        assert receive(client, len(data)) == data
        assert not site.has_visitors()


def test_a_client_hello_in_many_records_arrives_in_one(lane: Lane, site: Site):
    hello = client_hello("www.pass.test")
    with lane.hands(0), lane.tunnel(site) as (client, server):
        client.sendall(in_small_records(hello))
        assert receive(server, len(hello)) == hello
        assert not site.has_visitors()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_to_an_unlisted_host_never_comes_to_mitmproxy(net: Network, lane: Lane, version: ssl.TLSVersion):
    context = ssl.create_default_context(cafile=net.origin_ca)
    context.minimum_version = context.maximum_version = version
    with lane.hands(0), lane.enter(443) as tunnel:
        secured = secure(tunnel, "www.pass.test", context)
        assert view(ask(secured, get(b"www.pass.test"))) is View.ORIGIN


HANDED: dict[str, tuple[View, Callable[[Lane], bytes]]] = {
    "a request for an unlisted URL": (
        View.ORIGIN,
        lambda lane: _ask(lane, get(b"pass.test", target=b"http://pass.test/")),
    ),
    "a request for a listed URL": (
        View.PAGE,
        lambda lane: _ask(lane, get(b"listed.test", target=b"http://listed.test/")),
    ),
    "a request without a URL": (View.PAGE, lambda lane: _ask(lane, get(b"listed.test"))),
    "HTTP in a listed tunnel": (View.PAGE, lambda lane: _ask_in_tunnel(lane, b"listed.test", get(b"listed.test"))),
    "TLS in a listed tunnel": (View.PAGE, lambda lane: _ask_inside_tls(lane, b"listed.test", "listed.test")),
    "another name in a listed tunnel": (View.REFUSED, lambda lane: _ask_inside_tls(lane, b"listed.test", "pass.test")),
    "HTTP in an unlisted tunnel": (View.ORIGIN, lambda lane: _ask_in_tunnel(lane, b"pass.test", get(b"www.pass.test"))),
    "HTTP/2 in an unlisted tunnel": (View.PAGE, lambda lane: _ask_h2(lane, b"pass.test", b"listed.test")),
    "a listed name in an unlisted tunnel": (View.PAGE, lambda lane: _ask_inside_tls(lane, b"pass.test", "listed.test")),
    "a listed Host in an unlisted tunnel": (
        View.PAGE,
        lambda lane: _ask_in_tunnel(lane, b"pass.test", get(b"listed.test")),
    ),
    "CONNECT against its Host": (
        View.REFUSED,
        lambda lane: _ask(lane, b"CONNECT pass.test:443 HTTP/1.1\r\nHost: www.pass.test\r\n\r\n"),
    ),
    "CONNECT with a listed Host": (
        View.PAGE,
        lambda lane: _ask(lane, get(b"listed.test", method=b"CONNECT", target=b"pass.test:443")),
    ),
    "CONNECT after an empty line": (
        View.ORIGIN,
        lambda lane: _ask(
            lane,
            b"\r\n"
            + CONNECT % (b"pass.test", 80, b"pass.test", 80)
            + get(b"pass.test", version=b"1.0", more=b"Connection: close\r\n"),
        ),
    ),
    "connect in lower case": (View.REFUSED, lambda lane: _ask(lane, b"connect pass.test:443 HTTP/1.1\r\n\r\n")),
    "CONNECT without a port": (View.REFUSED, lambda lane: _ask(lane, b"CONNECT pass.test HTTP/1.1\r\n\r\n")),
    "TLS to the gate itself": (View.REFUSED, lambda lane: _ask(lane, client_hello("gate.test"))),
    "SOCKS": (View.REFUSED, lambda lane: _ask(lane, b"\x05\x01\x00\r\n\r\n")),
}


def _ask(lane: Lane, request: bytes) -> bytes:
    """One answer; where the gate refuses, all that comes until it closes."""
    with lane.connect() as connection:
        answer = ask(connection, request)
        return answer + (read_all(connection) if view(answer) is View.REFUSED else b"")


def _ask_in_tunnel(lane: Lane, target: bytes, request: bytes) -> bytes:
    with lane.enter(80, target) as tunnel:
        return ask(tunnel, request)


def _ask_h2(lane: Lane, target: bytes, authority: bytes) -> bytes:
    with lane.enter(80, target) as tunnel:
        return ask_h2(tunnel, authority)


def _ask_inside_tls(lane: Lane, target: bytes, sni: str) -> bytes:
    with lane.enter(443, target) as tunnel:
        return ask_inside_tls(tunnel, sni, lane.gate.ca, get(sni.encode()))


@pytest.mark.parametrize("way", HANDED)
def test_all_the_rest_comes_to_mitmproxy_once(lane: Lane, way: str):
    expected, request = HANDED[way]
    with lane.hands(1):
        assert seen(lambda: request(lane)) is expected


@pytest.mark.parametrize("way", [way for way, (expected, _) in HANDED.items() if expected is View.REFUSED])
def test_what_is_refused_at_the_door_is_closed_by_the_gate(lane: Lane, way: str):
    begun = time.monotonic()
    seen(lambda: HANDED[way][1](lane))
    assert time.monotonic() - begun < SECONDS, "the client had no more patience"


# However it is cut


@pytest.mark.parametrize("size", [1, 7, 1400], ids=lambda size: f"{size} at a time")
@pytest.mark.parametrize("hello", [name for name in CLIENT_FIRST if "Hello" in name])
def test_a_client_hello_in_segments_arrives_in_one_connection(lane: Lane, site: Site, hello: str, size: int):
    data = CLIENT_FIRST[hello]
    with lane.hands(0), lane.tunnel(site) as (client, server), ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send_in_pieces, client, data, size)
        assert receive(server, len(data)) == data
        sending.result()
        assert not site.has_visitors()


def _send_slowly(connection: socket.socket, data: bytes, slow: int) -> None:
    """Send the first `slow` bytes one by one, each received before the next, and the rest at once."""
    for number in range(min(slow, len(data))):
        send_in_pieces(connection, data[number : number + 1], 1)
        time.sleep(PAUSE_SECONDS)
    connection.sendall(data[slow:])


def test_a_client_hello_is_relayed_with_its_last_byte_not_before(lane: Lane, site: Site):
    data = client_hello("www.pass.test")
    with lane.tunnel(site) as (client, server):
        _send_slowly(client, data[:-1], 80)
        assert _is_silent(server)
        client.sendall(data[-1:])
        assert receive(server, len(data)) == data


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"CONNECT www.pass.test:%(port)d HTTP/1.1\r\nHost: www.pass.test:%(port)d\r\n\r\n", id="long"),
        pytest.param(b"CONNECT WWW.PASS.test.:%(port)d HTTP/1.0\n\n", id="short"),
    ],
)
def test_a_connect_that_comes_byte_by_byte_is_answered_at_its_end(lane: Lane, site: Site, head: bytes):
    request = head % {b"port": site.port}
    with lane.hands(0), lane.connect() as client:
        _send_slowly(client, request[:-1], len(request))
        assert _is_silent(client)
        client.sendall(request[-1:])
        assert b" 200 " in read_head(client)
        with site.accept() as server:
            client.sendall(b"\xffhello")
            assert receive(server, 6) == b"\xffhello"


@pytest.mark.parametrize("opening", CLIENT_FIRST)
def test_what_a_client_says_with_its_connect_arrives(lane: Lane, site: Site, opening: str):
    data = CLIENT_FIRST[opening]
    with lane.hands(0), lane.connect() as client, ThreadPoolExecutor(1) as thread:
        request = CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port)
        sending = thread.submit(client.sendall, request + data)
        with site.accept() as server:
            assert receive(server, len(data)) == data
            sending.result()
            assert b" 200 " in read_head(client)
            answer = _answer(data, b"and back")
            server.sendall(answer)
            assert receive(client, len(answer)) == answer


def test_empty_lines_after_a_connect_are_no_part_of_the_tunnel(lane: Lane, site: Site):
    hello = client_hello("www.pass.test")
    with lane.hands(0), lane.connect() as client:
        client.sendall(CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port) + b"\r\n\r\n\n")
        with site.accept() as server:
            assert b" 200 " in read_head(client)
            client.sendall(hello)
            assert receive(server, len(hello)) == hello


def test_a_connect_with_a_length_has_no_body(lane: Lane, site: Site):
    with lane.hands(0), lane.connect() as client:
        client.sendall(b"CONNECT www.pass.test:%d HTTP/1.1\r\nContent-Length: 5\r\n\r\n\xffhello" % site.port)
        with site.accept() as server:
            assert receive(server, 6) == b"\xffhello"


def test_a_connect_of_64_kib_is_read_and_one_that_is_longer_refused(lane: Lane, site: Site):
    start = b"CONNECT www.pass.test:%d HTTP/1.1\r\nX: " % site.port
    with lane.connect() as client:
        client.sendall(start + b"a" * (64 * 1024 - len(start) - 4) + b"\r\n\r\n")
        assert b" 200 " in read_head(client)
        site.accept().close()
    with lane.connect() as client:
        client.sendall(start + b"a" * 64 * 1024)
        assert b" 400 " in read_head(client)
    assert not site.has_visitors()


# Who speaks first, and who ends


def test_a_server_that_speaks_first_is_heard(lane: Lane, site: Site):
    with lane.hands(0), lane.tunnel(site) as (client, server):
        time.sleep(LATE_SECONDS)
        server.sendall(b"220 site ESMTP\r\n")
        assert receive(client, 16) == b"220 site ESMTP\r\n"
        for line in (b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", client_hello("www.pass.test")):
            client.sendall(line)
            assert receive(server, len(line)) == line


def test_what_the_server_says_while_the_client_has_not_said_all_waits(lane: Lane, site: Site):
    hello = client_hello("www.pass.test")
    with lane.hands(0), lane.tunnel(site) as (client, server):
        client.sendall(hello[:100])
        time.sleep(LATE_SECONDS)
        early = _answer(hello, b"early")
        server.sendall(early)
        assert _is_silent(client)
        client.sendall(hello[100:])
        assert receive(server, len(hello)) == hello
        assert receive(client, len(early)) == early


@pytest.mark.parametrize("before", [0, 3, len(CONNECT)], ids=["of nothing", "of some bytes", "in the tunnel"])
def test_a_client_may_take_its_time(lane: Lane, site: Site, before: int):
    request, hello = CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port), client_hello("www.pass.test")
    said = (request + hello)[: before if before < len(CONNECT) else len(request) + 50]
    with lane.connect() as client:
        client.sendall(said)
        time.sleep(2)
        client.sendall((request + hello)[len(said) :])
        assert b" 200 " in read_head(client)
        with site.accept() as server:
            assert receive(server, len(hello)) == hello


@pytest.mark.parametrize(
    "opening",
    [b"", b"\xffbytes", client_hello("www.pass.test"), b"GE"],
    ids=["nothing", "bytes", "hello", "half a word"],
)
def test_a_client_that_ends_is_answered(lane: Lane, site: Site, opening: bytes):
    with lane.hands(0), lane.tunnel(site) as (client, server):
        client.sendall(opening)
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == opening
        answer = _answer(opening, b"answer " * 50_000)
        server.sendall(answer)
        server.close()
        assert read_all(client) == answer


@pytest.mark.parametrize(
    "opening", [b"", b"\xffbytes", client_hello("www.pass.test")], ids=["nothing", "bytes", "hello"]
)
def test_a_server_that_ends_is_still_told(lane: Lane, site: Site, opening: bytes):
    with lane.hands(0), lane.tunnel(site) as (client, server):
        client.sendall(opening)
        assert receive(server, len(opening)) == opening
        end = _answer(opening, b"the end")
        server.sendall(end)
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == end
        client.sendall(b"answer " * 50_000)
        client.close()
        assert read_all(server) == b"answer " * 50_000


@pytest.mark.parametrize("opening", [b"\xffbytes", client_hello("www.pass.test")], ids=["bytes", "hello"])
def test_a_server_that_resets_ends_the_tunnel_after_its_last_words(lane: Lane, site: Site, opening: bytes):
    with lane.tunnel(site) as (client, server):
        client.sendall(opening)
        assert receive(server, len(opening)) == opening
        words = _answer(opening, b"x" * 50_000)
        server.sendall(words)
        _reset(server)
        assert _read_to_the_end(client) == words


@pytest.mark.parametrize(
    "opening",
    [b"", b"GE", client_hello("www.pass.test")[:100], client_hello("www.pass.test")],
    ids=["nothing", "half a word", "half a hello", "hello"],
)
def test_a_client_that_resets_is_not_kept(lane: Lane, site: Site, opening: bytes):
    with lane.tunnel(site) as (client, server):
        client.sendall(opening)
        time.sleep(0.05)
        _reset(client)
        _read_to_the_end(server)


# HTTP in a tunnel: mitmproxy goes on with the connection that there is

REQUEST = get(b"www.pass.test", target=b"/first")
INTO_A_TUNNEL: dict[str, Callable[[socket.socket, bytes], None]] = {
    "at once": lambda client, data: client.sendall(data),
    "byte by byte": lambda client, data: _send_slowly(client, data, len(data)),
    "cut in the method": lambda client, data: _send_slowly(client, data, 2),
    "cut in the first line": lambda client, data: _send_slowly(client, data, 10),
}


@pytest.mark.parametrize("cut", INTO_A_TUNNEL)
def test_http_in_a_tunnel_uses_the_connection_that_there_is(lane: Lane, site: Site, cut: str):
    with lane.hands(1), lane.tunnel(site) as (client, server):
        for _ in range(2):
            INTO_A_TUNNEL[cut](client, REQUEST)
            head = read_head(server)
            assert head.startswith(b"GET /first HTTP/1.1\r\n")
            assert b"\r\nHost: www.pass.test\r\n" in head
            server.sendall(OK)
            assert read_answer(client).endswith(b"origin ok")
        assert not site.has_visitors()


def test_http_that_comes_with_its_connect_uses_the_connection_that_there_is(lane: Lane, site: Site):
    body = random.Random(1).randbytes(300_000)
    post = get(b"www.pass.test", method=b"POST", target=b"/upload", more=b"Content-Length: %d\r\n" % len(body)) + body
    with lane.hands(1), lane.connect() as client, ThreadPoolExecutor(1) as thread:
        connect = CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port)
        sending = thread.submit(client.sendall, connect + post)
        with site.accept() as server:
            assert read_head(server).startswith(b"POST /upload ")
            assert receive(server, len(body)) == body
            sending.result()
            server.sendall(OK)
            assert b" 200 " in read_head(client)
            assert read_answer(client).endswith(b"origin ok")
        assert not site.has_visitors()


def test_a_connection_that_was_handed_over_ends_with_its_client(lane: Lane, site: Site):
    with lane.tunnel(site) as (client, server):
        client.sendall(REQUEST)
        read_head(server)
        server.sendall(OK)
        read_answer(client)
        client.close()
        assert server.recv(1) == b""


def test_a_listed_name_in_an_unlisted_tunnel_leaves_the_site_without_a_byte(lane: Lane, site: Site):
    with lane.hands(1), lane.tunnel(site) as (client, server):
        answer = ask_inside_tls(client, "listed.test", lane.gate.ca, get(b"listed.test"))
        assert view(answer) is View.PAGE
        client.close()
        assert read_all(server) == b""
        assert not site.has_visitors()


REFUSED = {
    "two names": hello_with_names(b"www.pass.test", b"listed.test"),
    "two names, listed first": hello_with_names(b"listed.test", b"www.pass.test"),
    "the same name twice": hello_with_names(b"www.pass.test", b"www.pass.test"),
    "an empty name": hello_with_names(b""),
    "a name that is no UTF-8": hello_with_names(b"lis\xffted.test"),
    "a name with a NUL": hello_with_names(b"www.pass.test\0listed.test"),
    "a name with a port": hello_with_names(b"listed.test:443"),
    "a name with white space": hello_with_names(b"listed.test "),
    "an alert before it": b"\x15\x03\x01\x00\x02\x01\x00" + client_hello("listed.test"),
    "an empty record before it": b"\x16\x03\x01\x00\x00" + client_hello("listed.test"),
    "a later record version": b"\x16\x03\x04" + client_hello("listed.test")[3:],
    "no hello": b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    "a hello that does not end": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(100_000),
    "a hello in too many records": in_small_records(b"\x16\x03\x01\xff\xff\x01\xff\xff\xff" + bytes(3000)),
    "a cut hello, and the end": client_hello("listed.test")[:-1],
    "a request line without its end": b"GET http://listed.test/ HTTP/1.1",
    "a request line with half of its end": b"GET http://listed.test/ HTTP/1.1\r",
    "a line that does not end": b"GET http://listed.test/" + b"a" * 70_000,
    "a listed request in another case": b"get / http/1.1\r\nhost: listed.test\r\n\r\n",
}


@pytest.mark.parametrize("opening", REFUSED)
@pytest.mark.parametrize("size", [0, 7], ids=["at once", "in segments"])
def test_what_cannot_be_read_goes_nowhere(lane: Lane, site: Site, opening: str, size: int):
    with lane.tunnel(site) as (client, server):
        with suppress(ConnectionError):
            send_in_pieces(client, REFUSED[opening], size and max(size, len(REFUSED[opening]) // 1000))
            client.shutdown(socket.SHUT_WR)
        assert b"origin" not in read_all(client)
        assert read_all(server) == b""
        assert not site.has_visitors()


# Errors


@pytest.mark.parametrize("size", [0, 1], ids=["at once", "byte by byte"])
def test_a_site_that_is_down_is_an_error_of_the_proxy(lane: Lane, site: Site, size: int):
    port = site.port
    site.listening.close()
    with lane.hands(0), lane.connect() as client:
        request = CONNECT % (b"www.pass.test", port, b"www.pass.test", port) + client_hello("www.pass.test")
        with suppress(ConnectionError):
            send_in_pieces(client, request, size)
        assert b" 502 " in read_head(client)


@pytest.mark.parametrize("host", [b"loop.test", b"127.0.0.1", b"meta.test", GATEWAY_ADDRESS.encode()])
def test_an_address_that_is_denied_is_refused(lane: Lane, host: bytes):
    with lane.ask_for(lane.gate.port, host) as client:
        assert b" 403 " in read_head(client)


STAGES: dict[str, Callable[[int], bytes]] = {
    "nothing": lambda port: b"",
    "half a CONNECT": lambda port: b"CONNECT www.pass.te",
    "a CONNECT": lambda port: CONNECT % (b"www.pass.test", port, b"www.pass.test", port),
    "a CONNECT and half a hello": lambda port: STAGES["a CONNECT"](port) + client_hello("www.pass.test")[:99],
    "a CONNECT and a hello": lambda port: STAGES["a CONNECT"](port) + client_hello("www.pass.test"),
    "a CONNECT and a listed hello": lambda port: STAGES["a CONNECT"](port) + client_hello("listed.test"),
    "a CONNECT and a request": lambda port: STAGES["a CONNECT"](port) + REQUEST,
    "a listed CONNECT": lambda port: CONNECT % (b"listed.test", port, b"listed.test", port),
    "a request": lambda port: get(b"listed.test", target=b"http://listed.test/"),
}


@pytest.mark.parametrize("is_answered", [False, True], ids=["at once", "after a moment"])
@pytest.mark.parametrize("stage", STAGES)
def test_clients_that_reset_at_any_moment_leave_nothing_behind(lane: Lane, site: Site, stage: str, is_answered: bool):
    """No fault is counted (see `lane`), and no descriptor stays open."""
    connect, _, rest = STAGES[stage](site.port).partition(b"\r\n\r\n")
    parts = [connect + b"\r\n\r\n", rest] if is_answered and rest else [STAGES[stage](site.port)]
    before = lane.descriptors
    for _ in range(15):
        with lane.connect() as client:
            for part in parts:
                client.sendall(part)
                if is_answered:
                    time.sleep(PAUSE_SECONDS)
            _reset(client)
    wait_until(lambda: lane.descriptors < before + 5, "the end of all connections")


@pytest.fixture
def mute(net: Network, site: Site) -> Iterator[Callable[[], None]]:
    """The site's port does not answer, until this is called."""
    need("nft")
    rule = f"type filter hook input priority 0\ntcp dport {site.port} drop"
    net.world.run("nft", "-f", "-", stdin=f"table ip mute {{\nchain site {{\n{rule}\n}}\n}}\n")
    with ExitStack() as ending:
        ending.callback(net.world.run, "nft", "delete table ip mute")
        yield lambda: ending.close()


@pytest.mark.parametrize("leave", [socket.socket.close, _reset], ids=["closes", "resets"])
def test_a_client_that_is_gone_before_its_tunnel_opens_leaves_none(
    lane: Lane, site: Site, mute: Callable[[], None], leave: Callable[[socket.socket], None]
):
    client = lane.ask_for(site.port)
    wait_until(lambda: site.is_tried(lane.net, 1), "the attempt to connect")
    leave(client)
    mute()
    wait_until(lambda: site.is_tried(lane.net, 0), "the end of the attempt")
    if site.has_visitors():
        with site.accept() as server:
            assert _read_to_the_end(server) == b""


def test_a_client_that_is_gone_when_its_tunnel_cannot_be_opened_leaves_nothing(
    lane: Lane, site: Site, mute: Callable[[], None]
):
    before = lane.descriptors
    with lane.ask_for(site.port, b"never-asked-for.pass.test") as client:
        wait_until(lambda: lane.descriptors >= before + 2, "the connection to the site")
        _reset(client)
    site.listening.close()
    mute()
    wait_until(lambda: lane.descriptors < before + 2, "the end of both")


# A list that changes


@pytest.fixture
def own(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Lane]:
    with _lane(net, desk, tmp_path) as lane:
        yield lane
    assert "fault" not in lane.gate.log()


def test_what_becomes_listed_ends_at_every_stage(desk: Desk, own: Lane, site: Site):
    new = client_hello("new.pass.test")
    with ExitStack() as stack:

        def tunnel(host: bytes, *said: bytes) -> socket.socket:
            client, server = stack.enter_context(own.tunnel(site, host))
            for data in said:
                client.sendall(data)
                if not new.startswith(data) or data == new:
                    assert receive(server, len(data)) == data
            return client

        ending = {
            "nothing said": tunnel(b"new.pass.test"),
            "half a hello": tunnel(b"new.pass.test", new[:100]),
            "relayed": tunnel(b"new.pass.test", b"\xffbytes"),
            "relayed after a hello": tunnel(b"new.pass.test", new),
            "by its name only": tunnel(b"www.pass.test", new),
            "by its target only": tunnel(b"new.pass.test", client_hello("www.pass.test")),
            "of a subdomain": tunnel(b"a.b.new.pass.test", b"\xffbytes"),
        }
        staying = {
            "nothing said": tunnel(b"www.pass.test"),
            "half a hello": tunnel(b"www.pass.test", new[:100]),
            "relayed": tunnel(b"www.pass.test", b"\xffbytes"),
            "relayed after a hello": tunnel(b"www.pass.test", client_hello("www.pass.test")),
        }
        desk.publish(["listed.test", "new.pass.test"])
        own.gate.process.wait_for("serial 2 in force")
        for name, client in ending.items():
            wait_until(lambda client=client: _has_ended(client), f"the end of: {name}")
        time.sleep(LATE_SECONDS)
        assert not [name for name, client in staying.items() if _has_ended(client)]
        # The name was not whole when the list changed, and is judged by the one that is in force.
        staying["half a hello"].sendall(new[100:])
        assert view(_alert(staying["half a hello"])) is View.REFUSED


def _alert(tunnel: socket.socket) -> bytes:
    tunnel.settimeout(0.3)
    return read_all(tunnel)


def test_what_becomes_listed_while_it_is_connected_to_is_not_connected_to(
    net: Network, desk: Desk, own: Lane, site: Site, mute: Callable[[], None]
):
    new = desk.build(["listed.test", "new.pass.test"], "next.stoplist", serial=2)
    with own.ask_for(site.port, b"new.pass.test") as listed, own.ask_for(site.port) as other:
        wait_until(lambda: site.is_tried(net, 2), "both attempts to connect")
        new.replace(desk.list)
        wait_until(lambda: _has_ended(listed), "the end of the connection")
        wait_until(lambda: site.is_tried(net, 1), "the end of one attempt")
        mute()
        with site.accept() as server:
            assert b" 200 " in read_head(other)
            other.sendall(b"\xffbytes")
            assert receive(server, 6) == b"\xffbytes"
        assert not site.has_visitors()


# What the policy says


def test_with_intercept_each_tunnel_comes_to_mitmproxy(net: Network, desk: Desk, tmp_path: Path):
    more = f"tls: intercept\nupstream: {{ca: {net.origin_ca}}}\n"
    with _lane(net, desk, tmp_path, more=more) as lane, lane.hands(1), lane.enter(443) as tunnel:
        secured = secure(tunnel, "www.pass.test", ssl.create_default_context(cafile=lane.gate.ca))
        assert view(ask(secured, get(b"www.pass.test"))) is View.ORIGIN


def test_a_policy_that_begins_to_intercept_is_followed_at_once(net: Network, desk: Desk, own: Lane):
    with own.hands(0), own.enter(443) as tunnel:
        secure(tunnel, "www.pass.test", ssl.create_default_context(cafile=net.origin_ca))
    with desk.policy.open("a") as policy:
        policy.write(f"tls: intercept\nupstream: {{ca: {net.origin_ca}}}\n")
    context = ssl.create_default_context(cafile=own.gate.ca)

    def is_intercepted() -> bool:
        with own.enter(443) as tunnel, suppress(ssl.SSLError):
            secure(tunnel, "www.pass.test", context)
            return True
        return False

    wait_until(is_intercepted, "the policy")


def test_with_passwords_each_tunnel_is_asked_for_one(net: Network, desk: Desk, tmp_path: Path, site: Site):
    need("htpasswd")
    subprocess.run(["htpasswd", "-bBc", desk.folder / "users", "alice", "secret"], check=True, capture_output=True)
    with _lane(net, desk, tmp_path, more="proxy_auth: {htpasswd: users}\n") as lane:
        with lane.hands(1), lane.ask_for(site.port) as client, net.nothing_reaches_the_origin():
            assert b" 407 " in read_head(client)
        with lane.hands(1), lane.connect() as client:
            password = b"Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"
            client.sendall(b"CONNECT www.pass.test:%d HTTP/1.1\r\n%b\r\n" % (site.port, password))
            with site.accept() as server:
                assert b" 200 " in read_head(client)
                client.sendall(b"\xffbytes")
                assert receive(server, 6) == b"\xffbytes"


def test_what_the_policy_denies_is_not_connected_to(net: Network, desk: Desk, tmp_path: Path, site: Site):
    with _lane(net, desk, tmp_path, more=f"upstream: {{deny: [{ORIGIN_ADDRESS}]}}\n") as lane:
        for host in (ORIGIN_ADDRESS.encode(), b"www.pass.test", b"0xc0000202"):
            with lane.ask_for(site.port, host) as client:
                assert b" 403 " in read_head(client)
        assert not site.has_visitors()


# Many, and too many

IDLE = 1000


def test_a_thousand_idle_tunnels_are_all_alive(lane: Lane, site: Site):
    request, hello = CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port), client_hello("www.pass.test")
    before = lane.descriptors
    with ExitStack() as stack:

        def connect() -> list[socket.socket]:
            place = (GATEWAY_ADDRESS, lane.gate.port)
            return [stack.enter_context(socket.create_connection(place, timeout=SECONDS)) for _ in range(IDLE)]

        with lane.hands(0):
            clients = lane.net.client.call(connect)
            for client in clients:
                client.sendall(request)
            servers = [stack.enter_context(site.accept()) for _ in range(IDLE)]
            for client in clients:
                assert b" 200 " in read_head(client)
            for number, client in enumerate(clients):
                client.sendall(hello + b"\x17\x03\x03\x00\x06%06d" % number)
            by_number = {}
            for server in servers:
                data = receive(server, len(hello) + 11)
                assert data.startswith(hello)
                by_number[int(data[-6:])] = server
            for number, client in enumerate(clients):
                answer = _answer(hello, b"%06d" % number)
                by_number[number].sendall(answer)
                assert receive(client, len(answer)) == answer
    wait_until(lambda: lane.descriptors <= before, "the end of all tunnels")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(CONNECT % (b"listed.test", 443, b"listed.test", 443) + b"\xffno TLS", id="what has a page only"),
        pytest.param(CONNECT % (b"loop.test", 80, b"loop.test", 80) + get(b"loop.test"), id="a denied address"),
        pytest.param(CONNECT % (b"pass.test", 80, b"pass.test", 80) + get(b"pass.test"), id="HTTP in a tunnel"),
        pytest.param(get(b"down.pass.test", target=b"http://down.pass.test:4444/"), id="a server that is down"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01" + bytes(60), id="a ClientHello that goes on"),
    ],
)
def test_who_asks_and_leaves_at_once_leaves_nothing_open(lane: Lane, request_: bytes):
    """Its end comes with its request: mitmproxy would forget to close it now and then, and the gate end by that."""
    its_own = lane.descriptors + 10  # of which some come when it has served for a moment
    for _ in range(4):
        with ExitStack() as stack:
            for _ in range(60):
                client = stack.enter_context(lane.connect())
                client.sendall(request_)
                client.shutdown(socket.SHUT_WR)
    wait_until(lambda: lane.descriptors <= its_own, "the end of all that they asked for")
    assert seen(lambda: _ask(lane, get(b"listed.test", target=b"http://listed.test/"))) is View.PAGE


def test_a_gate_without_descriptors_refuses_and_recovers(net: Network, desk: Desk, tmp_path: Path, site: Site):
    request = CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port)
    with _lane(net, desk, tmp_path, "prlimit", "--nofile=64") as lane:
        with lane.tunnel(site) as (client, server), ExitStack() as stack:
            others = [stack.enter_context(lane.connect()) for _ in range(80)]
            for other in others:
                other.sendall(request[:20])
            wait_until(lambda: lane.descriptors >= 64, "the last descriptor")
            time.sleep(LATE_SECONDS)
            client.sendall(b"\xffbytes")
            assert receive(server, 6) == b"\xffbytes"
            others[0].sendall(request[20:])
            assert b" 502 " in read_head(others[0])
            assert not site.has_visitors()
            for other in others[:-1]:
                other.close()
            others[-1].sendall(request[20:])  # it has waited to be accepted
            assert b" 200 " in read_head(others[-1])
            site.accept().close()
        assert seen(lambda: _ask_in_tunnel(lane, b"pass.test", get(b"pass.test"))) is View.ORIGIN
        assert seen(lambda: _ask(lane, get(b"listed.test", target=b"http://listed.test/"))) is View.PAGE
    assert re.search(r"\d+ x fault in lane \(OSError\)", lane.gate.log())


# Whatever a client says: what arrives is read by servers that are not strict, and none is asked for a listed name

FUZZED = 250
SEED = 20260101
HELLOS = [
    client_hello("listed.test"),
    client_hello("listed.test", padding=3000),
    in_small_records(client_hello("listed.test")),
    hello_with_names(b"listed.test"),
]
REQUESTS = [
    get(b"listed.test"),
    get(b"listed.test", target=b"http://listed.test/"),
    get(b"www.pass.test", target=b"http://listed.test/"),
    get(b"listed.test", target=b"http://www.pass.test/"),
    get(b"www.pass.test") + get(b"listed.test"),
    b"\r\n" + get(b"listed.test", version=b"1.0"),
]
TOKENS = [b"\r\n", b"\n", b" ", b"\t", b"\0", b"\xff", b"\x16", b"\x03", b"HTTP/1.1", b"Host: ", b":", b"GET "]


def _spoiled(chance: random.Random, openings: list[bytes]) -> bytes:
    """One of the openings with a few bytes changed; sometimes none."""
    data = chance.choice(openings)
    for _ in range(chance.choice([0, 1, 1, 2, 4])):
        place, lost = chance.randrange(min(len(data), 200)), chance.choice([0, 0, 1, 3])
        gained = chance.choice([b"", chance.randbytes(1), chance.choice(TOKENS)])
        data = data[:place] + gained + data[place + lost :]
    return data[: chance.choice([None, None, None, -1, -2, -3])]


class _Lenient(BaseHTTPRequestHandler):
    """A server that takes many things for a request: the hosts that it would serve."""

    protocol_version = "HTTP/1.1"

    def __init__(self, data: bytes) -> None:
        self.rfile, self.wfile = BytesIO(data.lstrip()), BytesIO()
        self.client_address = ("", 0)
        self.hosts: list[str] = []
        with suppress(Exception):
            self.handle()

    def parse_request(self) -> bool:
        is_request = super().parse_request()
        if is_request and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", self.command):
            target = re.match(r"[a-z]+://([^/?#]*)", self.path, re.IGNORECASE)
            self.hosts += target.groups() if target else ()
            self.hosts += self.headers.get_all("Host", ()) if self.request_version != "HTTP/0.9" else ()
        return is_request

    def send_response_only(self, *_: object) -> None:
        """Nobody listens."""

    do_GET = log_message = send_response_only  # noqa: N815  the library's name


def _served(data: bytes, certificate: Path) -> list[str]:
    """The hosts that OpenSSL and a lenient server of HTTP would serve to who sends this."""
    hosts = _Lenient(data).hosts
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda connection, name, _: hosts.append(name or "")
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    with suppress(ssl.SSLError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return hosts


def _is_listed(host: str) -> bool:
    return re.search(r"(^|[^a-z0-9-])listed\.test\.?($|[^a-z0-9.-])", host, re.IGNORECASE) is not None


def test_the_readers_of_what_arrives_see_listed_names(net: Network):
    certificate = net.folder / "origin.pem"
    for opening in HELLOS + REQUESTS:
        assert [host for host in _served(opening, certificate) if _is_listed(host)], opening
    assert not any(_is_listed(host) for host in _served(client_hello("www.pass.test"), certificate))


def test_no_bytes_of_a_client_ask_a_site_for_a_listed_name(net: Network, lane: Lane, site: Site):
    chance = random.Random(SEED)
    cases = [
        (_spoiled(chance, HELLOS + REQUESTS), chance.choice([0, 0, 3, 50]), chance.random() < 0.5)
        for _ in range(FUZZED)
    ]

    def speak(case: tuple[bytes, int, bool]) -> None:
        data, size, is_pipelined = case
        connect = CONNECT % (b"www.pass.test", site.port, b"www.pass.test", site.port)
        with lane.connect() as client, suppress(OSError):
            client.sendall(connect + data if is_pipelined else connect)
            read_head(client)
            if not is_pipelined:
                send_in_pieces(client, data, size)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(1)
            read_all(client)

    def serve(_: int) -> bytes:
        with site.accept() as server:
            server.settimeout(0.3)
            return read_all(server)

    with ThreadPoolExecutor(12) as clients, ThreadPoolExecutor(12) as servers:
        received = servers.map(serve, range(FUZZED))
        list(clients.map(speak, cases))
        arrived = [data for data in received if data]
    assert arrived
    for data in arrived:
        assert not [host for host in _served(data, net.folder / "origin.pem") if _is_listed(host)], data
    assert seen(lambda: _ask(lane, get(b"listed.test", target=b"http://listed.test/"))) is View.PAGE


def test_no_bytes_at_the_door_ask_for_a_listed_name(net: Network, lane: Lane):
    chance = random.Random(SEED)
    requests = [request.replace(b"www.pass.test", b"listed.test") for request in REQUESTS]
    queries, noted = len(net.queries()), len(net.requests())
    for number in range(150):
        listed = CONNECT % (b"listed.test", 443, b"listed.test", 443) + chance.randbytes(20)
        spoiled = _spoiled(chance, requests)
        data = chance.choice([listed, spoiled, b"CONNECT " + chance.randbytes(20) + b"\r\n\r\n"])
        with lane.connect() as client, suppress(OSError):
            send_in_pieces(client, data, chance.choice([0, 0, 5]))
            if number % 3:
                client.shutdown(socket.SHUT_WR)
                client.settimeout(0.2)
                read_all(client)
    assert not [query for query in net.queries()[queries:] if _is_listed(query.split()[1])]
    assert not [request for request in net.requests()[noted:] if _is_listed(request.split()[2])]
    assert seen(lambda: _ask_in_tunnel(lane, b"pass.test", get(b"pass.test"))) is View.ORIGIN
