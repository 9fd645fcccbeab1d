"""Look-alikes: what resembles a listed host, and passes as if there were no gate.

Each case asserts three views: the client gets the origin's own answer (over TLS, by the origin's own
certificate), the origin sees the request that was sent, once, and the DNS server is asked for that name
and no other.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import Message

from tests.e2e.network import ORIGIN_ADDRESS, Network
from tests.e2e.ways import Door, ask, get, read_answer, read_head, secure

EXPLICIT = ("regular", "secure", "upstream")
TUNNELS = (*EXPLICIT, "socks5", "transparent")
TARGET = b"/mirror"

# The listed domains are listed.test, stopped.example, bücher.example and faß.example.
# (as a client writes it, as DNS is asked)
NAMES = {
    "a prefix in the same label": (b"notlisted.test", "notlisted.test"),
    "one letter more": (b"xlisted.test", "xlisted.test"),
    "one letter more at the end": (b"listeds.test", "listeds.test"),
    "one letter less": (b"liste.test", "liste.test"),
    "without the first letter": (b"isted.test", "isted.test"),
    "a letter doubled": (b"lissted.test", "lissted.test"),
    "two letters swapped": (b"lsited.test", "lsited.test"),
    "backwards": (b"detsil.test", "detsil.test"),
    "labels swapped": (b"test.listed.example", "test.listed.example"),
    "a label split": (b"lis.ted.test", "lis.ted.test"),
    "a hyphen inside": (b"lis-ted.test", "lis-ted.test"),
    "a prefix with a hyphen": (b"not-listed.test", "not-listed.test"),
    "a prefix with an underscore": (b"_listed.test", "_listed.test"),
    "www without a dot": (b"wwwlisted.test", "wwwlisted.test"),
    "a digit for a letter": (b"1isted.test", "1isted.test"),
    "another top-level domain": (b"listed.example", "listed.example"),
    "a third top-level domain": (b"listed.invalid", "listed.invalid"),
    "the listed parent's own parent": (b"test", "test"),
    "a listed name as a subdomain": (b"listed.test.pass.test", "listed.test.pass.test"),
    "a listed name as a deep subdomain": (b"www.listed.test.pass.test", "www.listed.test.pass.test"),
    "a listed name before a top-level domain": (b"listed.test.example", "listed.test.example"),
    "a listed label alone as a subdomain": (b"listed.pass.test", "listed.pass.test"),
    "a listed name with a hyphen for the dot": (b"listed-test.pass.test", "listed-test.pass.test"),
    "a listed name with an underscore for the dot": (b"listed_test.pass.test", "listed_test.pass.test"),
    "a listed name without its dot": (b"listedtest.pass.test", "listedtest.pass.test"),
    "a prefix with a hyphen of the second": (b"not-stopped.example", "not-stopped.example"),
    "the second in another top-level domain": (b"stopped.test", "stopped.test"),
    "the second before a top-level domain": (b"stopped.example.test", "stopped.example.test"),
    "the second without its dot": (b"stoppedexample.pass.test", "stoppedexample.pass.test"),
    "no umlaut": (b"bucher.example", "bucher.example"),
    "an umlaut spelt out": (b"buecher.example", "buecher.example"),
    "an umlaut in another top-level domain": ("bücher.test".encode(), "xn--bcher-kva.test"),
    "another accent": ("bûcher.example".encode(), "xn--bcher-eva.example"),
    "punycode under another domain": (b"xn--bcher-kva.pass.test", "xn--bcher-kva.pass.test"),
    "punycode without its prefix": (b"bcher-kva.example", "bcher-kva.example"),
    "a sharp s as IDNA 2003 read it": (b"fass.example", "fass.example"),
    "a sharp s under another domain": ("faß.pass.test".encode(), "xn--fa-hia.pass.test"),
    "punycode of a sharp s under another domain": (b"xn--fa-hia.pass.test", "xn--fa-hia.pass.test"),
    "punycode in upper case": (b"XN--FA-HIA.PASS.TEST", "xn--fa-hia.pass.test"),
    "a dotless i": ("lısted.test".encode(), "xn--lsted-n4a.test"),
    "a Cyrillic letter": ("listеd.test".encode(), "xn--listd-2we.test"),
    "a Greek letter": ("lιsted.test".encode(), "xn--lsted-qbe.test"),
    "upper case": (b"NotListed.TEST", "notlisted.test"),
    "a trailing dot": (b"notlisted.test.", "notlisted.test"),
    "a port": (b"notlisted.test:80", "notlisted.test"),
    "a percent-encoded letter": (b"%6eotlisted.test", "notlisted.test"),
    "full width": ("ｎｏｔｌｉｓｔｅｄ.test".encode(), "notlisted.test"),
    "an ideographic full stop": ("notlisted。test".encode(), "notlisted.test"),
    "a soft hyphen": ("not\u00adlisted.test".encode(), "notlisted.test"),
    "an emoji": ("☕.pass.test".encode(), "xn--53h.pass.test"),
    "a label of 63 letters": (b"listed" * 10 + b"xyz.test", "listed" * 10 + "xyz.test"),
    "three hyphens": (b"r3---listed.pass.test", "r3---listed.pass.test"),
    "an address": (ORIGIN_ADDRESS.encode(), ""),
    "an address as one number": (b"3221225986", ""),
    "an address in hexadecimal": (b"0xC0.0x00.0x2.0x2", ""),
}
CERTIFIED = [
    *("a prefix in the same label", "one letter more", "another top-level domain", "a listed name as a subdomain"),
    *("a listed label alone as a subdomain", "a listed name with a hyphen for the dot"),
    *(
        "a listed name without its dot",
        "a prefix with a hyphen of the second",
        "the second without its dot",
        "no umlaut",
        "an umlaut spelt out",
    ),
    *("punycode under another domain", "a sharp s as IDNA 2003 read it"),
    *("punycode of a sharp s under another domain", "punycode in upper case", "upper case", "a trailing dot"),
    *("three hyphens", "an address"),
]
"""Names that the origin's certificate is for."""


@dataclass(frozen=True)
class Place:
    """Where a request to pass.test says a listed name."""

    target: bytes = TARGET
    more: bytes = b""
    method: bytes = b"GET"
    body: bytes = b""
    """As the origin reads it: in `request` it is in one chunk if `more` says so."""

    @property
    def head(self) -> bytes:
        return get(b"pass.test", target=self.target, method=self.method, more=self.more)

    @property
    def request(self) -> bytes:
        if b"chunked" not in self.more:
            return self.head + self.body
        return self.head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.body), self.body)


def _post(body: bytes, kind: bytes = b"text/plain") -> Place:
    return Place(more=b"Content-Type: %b\r\nContent-Length: %d\r\n" % (kind, len(body)), method=b"POST", body=body)


SMUGGLED = b"GET http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n"
PLACES = {
    "the path": Place(TARGET + b"/listed.test/"),
    "the path, after two slashes": Place(TARGET + b"//listed.test/"),
    "the path, after an at sign": Place(TARGET + b"@listed.test/"),
    "the path, as a URL": Place(TARGET + b"/http://listed.test/"),
    "a path parameter": Place(TARGET + b";host=listed.test"),
    "the query": Place(TARGET + b"?listed.test"),
    "a value in the query": Place(TARGET + b"?host=listed.test&port=80"),
    "a URL in the query": Place(TARGET + b"?url=http://listed.test/"),
    "a percent-encoded URL in the query": Place(TARGET + b"?url=https%3A%2F%2Flisted.test%2F"),
    "Unicode in the query": Place(TARGET + "?q=bücher.example".encode()),
    "Referer": Place(more=b"Referer: https://listed.test/\r\n"),
    "Origin": Place(more=b"Origin: https://listed.test\r\n"),
    "Cookie": Place(more=b"Cookie: from=listed.test; host=stopped.example\r\n"),
    "User-Agent": Place(more=b"User-Agent: listed.test/1.0 (+http://listed.test/)\r\n"),
    "Authorization": Place(more=b"Authorization: Bearer listed.test\r\n"),
    "X-Forwarded-Host": Place(more=b"X-Forwarded-Host: listed.test\r\n"),
    "X-Original-URL": Place(more=b"X-Original-URL: http://listed.test/\r\n"),
    "Forwarded": Place(more=b"Forwarded: host=listed.test;proto=https\r\n"),
    "Via": Place(more=b"Via: 1.1 listed.test\r\n"),
    "From": Place(more=b"From: someone@listed.test\r\n"),
    "Alt-Used": Place(more=b"Alt-Used: listed.test\r\n"),
    "If-None-Match": Place(more=b'If-None-Match: "listed.test"\r\n'),
    "Accept-Language": Place(more=b"Accept-Language: listed.test\r\n"),
    "a field of one's own": Place(more=b"X-Host: Host: listed.test\r\n"),
    "a field in Unicode": Place(more="X-Title: bücher.example\r\n".encode()),
    "a form": _post(b"host=listed.test", b"application/x-www-form-urlencoded"),
    "JSON": _post(b'{"url": "https://listed.test/"}', b"application/json"),
    "a body that is a request": _post(SMUGGLED),
    "a body in chunks": Place(more=b"Transfer-Encoding: chunked\r\n", method=b"POST", body=SMUGGLED),
}


def test_the_look_alikes_are_many_enough():
    assert len(NAMES) + len(PLACES) >= 70


@dataclass
class Witnesses:
    journal: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)


@contextmanager
def witnesses(net: Network) -> Iterator[Witnesses]:
    """What the origin and the DNS server see of what is done inside."""
    seen = Witnesses()
    journal, queries = net.journal(), net.queries()
    yield seen
    seen.journal = net.journal()[len(journal) :]
    seen.asked = {query.split()[1] for query in net.queries()[len(queries) :]}


def _arrives(
    door: Door, head: bytes, name: str, way: Callable[[], bytes], *, body: bytes = b"", port: int = 80, rewritten=False
) -> None:
    """What the way in does arrives at the origin as a request with this head and body, and is answered.

    `name` is what has to be resolved, if anything. `rewritten` is true where Squid reads the request: it
    writes fields of its own and Host anew, and may send a short chunked body with its length.
    """
    with witnesses(door.network) as seen:
        answer, _, mirrored = way().partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    line, host, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if rewritten:
        host = b"Host: " + (name or ORIGIN_ADDRESS).encode()
        arrived, _, arrived_body = mirrored.partition(b"\r\n\r\n")
        assert arrived.startswith(line + b"\r\n")
        kept = [field for field in (host, *fields) if not field.startswith(b"Transfer-Encoding:")]
        assert not [field for field in kept if b"\r\n" + field not in arrived], arrived
        assert arrived_body == body
    else:
        added = b"Connection: close\r\n" if body and port == 80 else b""  # see docs/decisions/0021
        assert mirrored == head.removesuffix(b"\r\n") + added + b"\r\n" + body
    method, target, _ = line.split(b" ")
    noted = b"request %b %b %b" % (method, host.removeprefix(b"Host: "), target)
    assert seen.journal == [f"connection {port} {ORIGIN_ADDRESS}", noted.decode("iso-8859-1")]
    _asked(door.network, seen, door.mode, {name} - {""})


def _asked(net: Network, seen: Witnesses, mode: str, names: set[str]) -> None:
    """The DNS server was asked for these names, now or a moment ago, and for no other now."""
    assert seen.asked <= (names if mode != "transparent" else set())
    assert names <= {query.split()[1] for query in net.queries()} or mode == "transparent"


def _as_absolute(request: bytes, host: bytes) -> bytes:
    method, _, rest = request.partition(b" ")
    return method + b" http://" + host + rest


@pytest.mark.parametrize("look_alike", NAMES)
@pytest.mark.parametrize("mode", EXPLICIT)
def test_an_absolute_target_passes(doors: Callable[[str], Door], mode: str, look_alike: str):
    (written, name), door = NAMES[look_alike], doors(mode)
    head = get(written, target=TARGET)
    with door.connect() as connection:
        _arrives(door, head, name, lambda: ask(connection, _as_absolute(head, written)), rewritten=mode == "upstream")


@pytest.mark.parametrize("look_alike", NAMES)
@pytest.mark.parametrize("mode", TUNNELS)
def test_plain_http_in_a_tunnel_passes(doors: Callable[[str], Door], mode: str, look_alike: str):
    (written, name), door = NAMES[look_alike], doors(mode)
    head = get(written, target=TARGET)
    host = written.partition(b":")[0] if mode != "socks5" or not name else name.encode()

    def way() -> bytes:
        with door.enter(host, 80) as tunnel:
            return ask(tunnel, head)

    _arrives(door, head, name, way)


@pytest.mark.parametrize("look_alike", CERTIFIED)
@pytest.mark.parametrize("mode", TUNNELS)
def test_tls_in_a_tunnel_passes(net: Network, doors: Callable[[str], Door], mode: str, look_alike: str):
    (written, name), door = NAMES[look_alike], doors(mode)
    head = get(written, target=TARGET)
    context = ssl.create_default_context(cafile=net.origin_ca)
    context.check_hostname = not written.endswith(b".")  # OpenSSL compares it with the dot

    def way() -> bytes:
        with door.enter(written, 443) as tunnel:
            return ask(secure(tunnel, written.decode(), context), head)

    _arrives(door, head, name, way, port=443)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_listed_name_elsewhere_in_a_request_passes(doors: Callable[[str], Door], mode: str, place: str):
    said, door = PLACES[place], doors(mode)
    with door.connect() as connection:
        _arrives(
            door,
            said.head,
            "pass.test",
            lambda: ask(connection, _as_absolute(said.request, b"pass.test")),
            body=said.body,
            rewritten=mode == "upstream",
        )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("mode", TUNNELS)
def test_a_listed_name_elsewhere_in_a_tunnel_passes(
    net: Network, doors: Callable[[str], Door], mode: str, port: int, place: str
):
    said, door = PLACES[place], doors(mode)
    context = ssl.create_default_context(cafile=net.origin_ca)

    def way() -> bytes:
        with door.enter(b"pass.test", port) as tunnel:
            return ask(secure(tunnel, "pass.test", context) if port == 443 else tunnel, said.request)

    _arrives(door, said.head, "pass.test", way, body=said.body, port=port)


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://listed.test\r\n"
)
MESSAGE = b"GET http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n"


def _talk(connection: socket.socket, request: bytes) -> None:
    """Upgrade to WebSocket; a message comes back as it was sent."""
    connection.sendall(request)
    assert read_head(connection).startswith(b"HTTP/1.1 101 ")
    for size in (len(MESSAGE), 60_000):
        text = MESSAGE.ljust(size)
        connection.sendall(Connection(ConnectionType.CLIENT).send(Message(text.decode())))
        echoed, frames = b"", Connection(ConnectionType.CLIENT)
        while len(echoed) < size:
            frames.receive_data(connection.recv(65536))
            echoed += b"".join(event.data.encode() for event in frames.events())
        assert echoed == text


@pytest.mark.parametrize("host", [b"pass.test", b"listed.test.pass.test", b"notlisted.test"])
@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("mode", TUNNELS)
def test_a_web_socket_in_a_tunnel_passes(net: Network, doors: Callable[[str], Door], mode: str, port: int, host: bytes):
    with witnesses(net) as seen, doors(mode).enter(host, port) as tunnel:
        secured = (
            secure(tunnel, host.decode(), ssl.create_default_context(cafile=net.origin_ca)) if port == 443 else tunnel
        )
        _talk(secured, get(host, target=b"/ws?listed.test", more=UPGRADE))
    assert seen.journal == [f"connection {port} {ORIGIN_ADDRESS}", f"request GET {host.decode()} /ws?listed.test"]
    _asked(net, seen, mode, {host.decode()})


@pytest.mark.parametrize("host", [b"pass.test", b"listed.test.pass.test", b"notlisted.test"])
@pytest.mark.parametrize("mode", ["regular", "secure"])  # Squid forwards no upgrade
def test_a_web_socket_by_an_absolute_target_passes(net: Network, doors: Callable[[str], Door], mode: str, host: bytes):
    with witnesses(net) as seen, doors(mode).connect() as connection:
        _talk(connection, _as_absolute(get(host, target=b"/ws", more=UPGRADE), host))
    assert seen.journal == [f"connection 80 {ORIGIN_ADDRESS}", f"request GET {host.decode()} /ws"]
    _asked(net, seen, mode, {host.decode()})


KEPT = [b"listed.test.pass.test", b"notlisted.test", b"listed.example", b"notlisted.test", b"xn--fa-hia.pass.test"]


@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_kept_connection_to_several_look_alikes_passes(net: Network, doors: Callable[[str], Door], mode: str):
    with witnesses(net) as seen, doors(mode).connect() as connection:
        answers = [ask(connection, _as_absolute(get(host), host)) for host in KEPT]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"origin %b\n" % host for host in KEPT]
    assert [line for line in seen.journal if "request" in line] == [f"request GET {host.decode()} /" for host in KEPT]
    _asked(net, seen, mode, {host.decode() for host in KEPT})


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("mode", TUNNELS)
def test_a_kept_tunnel_with_several_look_alikes_passes(
    net: Network, doors: Callable[[str], Door], mode: str, port: int
):
    with witnesses(net) as seen, doors(mode).enter(b"pass.test", port) as tunnel:
        context = ssl.create_default_context(cafile=net.origin_ca)
        connection = secure(tunnel, "pass.test", context) if port == 443 else tunnel
        answers = [ask(connection, get(host)) for host in KEPT]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"origin %b\n" % host for host in KEPT]
    assert [line for line in seen.journal if "request" in line] == [f"request GET {host.decode()} /" for host in KEPT]
    _asked(net, seen, mode, {"pass.test"})


@pytest.mark.parametrize("mode", ["regular", "socks5", "transparent"])
def test_pipelined_requests_to_look_alikes_pass(net: Network, doors: Callable[[str], Door], mode: str):
    with witnesses(net) as seen, doors(mode).enter(b"pass.test", 80) as tunnel:
        tunnel.sendall(b"".join(get(host) for host in KEPT))
        answers = [read_answer(tunnel) for _ in KEPT]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"origin %b\n" % host for host in KEPT]
    assert [line for line in seen.journal if "request" in line] == [f"request GET {host.decode()} /" for host in KEPT]
    _asked(net, seen, mode, {"pass.test"})


@pytest.mark.parametrize("sni", ["notlisted.test", "listed.test.pass.test", "xn--fa-hia.pass.test", None])
@pytest.mark.parametrize("mode", TUNNELS)
def test_tls_for_another_unlisted_host_than_the_tunnels_passes(
    net: Network, doors: Callable[[str], Door], mode: str, sni: str | None
):
    context = ssl.create_default_context(cafile=net.origin_ca)
    context.check_hostname = sni is not None

    with witnesses(net) as seen, doors(mode).enter(b"pass.test", 443) as tunnel:
        answer = ask(secure(tunnel, sni, context), get(b"pass.test"))
    assert answer.endswith(b"origin pass.test\n")
    _asked(net, seen, mode, {"pass.test"})
