"""A hostile session: thousands of requests of fifty kinds, each with names and values that nobody used before.

Whatever becomes of it - stopped, refused, passed, malformed, cut off - a request has its token in every place that
there is: host, path, query, header values, user agent, SNI, body. Each connection comes from an address of its own.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Lock

import dns.message

from tests.e2e.network import CLIENT_ADDRESS, ORIGIN_ADDRESS, Network

TOKEN = re.compile(rb"q[0-9a-f]{12}z", re.IGNORECASE)
ADDRESS = re.compile(rb"127\.\d+\.\d+\.\d+")
PORT = re.compile(rb"(?<![\w.])\d{5}(?![\w.])")
NAMES = (b"listed.test", b"pass.test", ORIGIN_ADDRESS.encode(), CLIENT_ADDRESS.encode())
AT_ONCE = 8
SECONDS = 0.3
"""How long an answer is waited for."""
_CHANCE = random.Random()

_HEADERS = "User-Agent: {t}\r\nCookie: {t}={t}\r\nReferer: http://{t}.test/\r\nX-{t}: {t}\r\n"
_POST = "POST http://{l}/ HTTP/1.1\r\nHost: {l}\r\n"
_HELLO = "\x16\x03\x01\x01\x00\x01\x00{t}{t}{t}{t}{t}{t}{t}{t}"
"""The beginning of one, and no more."""
_RAW = [
    # For a listed host
    "GET http://{l}/{t}?{t} HTTP/1.1\r\nHost: {l}\r\n{h}\r\n",
    "HEAD http://{l}/{t} HTTP/1.1\r\nHost: {l}\r\n{h}\r\n",
    "OPTIONS http://{l}/{t} HTTP/1.0\r\n{h}\r\n",
    "OPTIONS http://{l}/{t} HTTP/1.1\r\nHost: {l}\r\nOrigin: http://{t}.test\r\n"
    "Access-Control-Request-Method: {t}\r\n{h}\r\n",
    "GET http://{l}/{t}?stoplist-language={t} HTTP/1.1\r\nHost: {l}\r\nAccept-Language: {t}\r\nAccept: {t}/{t}\r\n\r\n",
    "GET http://{l}/{t} HTTP/1.1\r\nHost: {l}\r\nSec-Fetch-Dest: {t}\r\nSec-Fetch-Mode: {t}\r\n{h}\r\n",
    "GET http://{l}/{t} HTTP/1.1\r\nHost: {l}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{h}\r\n",
    "GET http://{t}:{t}@{l}/ HTTP/1.1\r\nHost: {l}\r\nProxy-Authorization: Basic {t}\r\n\r\n",
    "GET http://{l}:99999/{t} HTTP/1.1\r\n{h}\r\n",
    "GET http://{l}/{t}\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: a\r\nHost: {l}\r\n{h}\r\n",
    f"{_POST}Content-Length: 14\r\n{{h}}\r\n{{t}}",
    f"{_POST}Content-Length: x{{t}}\r\n{{h}}\r\n",
    f"{_POST}Content-Length: 30000000\r\n{{h}}\r\n{{t}}",
    f"{_POST}Content-Length: 100\r\n{{h}}\r\n{{t}}",
    f"{_POST}Transfer-Encoding: chunked\r\n{{h}}\r\ne;{{t}}\r\n{{t}}\r\n0\r\n\r\n",
    f"{_POST}Content-Type: application/grpc+{{t}}\r\nTE: trailers\r\nContent-Length: 14\r\n{{h}}\r\n{{t}}",
    "CONNECT {l}:443 HTTP/1.1\r\n{h}\r\n{t} is no TLS at all\r\n",
    f"CONNECT {{l}}:443 HTTP/1.1\r\n\r\n{_HELLO}",
    "CONNECT {p}:80 HTTP/1.1\r\n\r\nGET /{t} HTTP/1.1\r\nHost: {l}\r\n{h}\r\n",
    # For one that is not
    "GET http://{p}/{t} HTTP/1.1\r\nHost: {p}\r\n{h}\r\n",
    "POST http://{p}/ HTTP/1.1\r\nHost: {p}\r\nTransfer-Encoding: {t}\r\n{h}\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: {t}.other.test\r\n{h}\r\n",
    "GET /{t} HTTP/1.1\r\n{h}\r\n",
    "{t} {t} {t}\r\n\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: {p}\r\n X: {t}\r\nX {t}: {t}\r\n\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: {p}\r\nX: \0{t}\r\n\r\n",
    "GET https://{p}:8443/{t} HTTP/1.1\r\nHost: {p}:8443\r\n{h}\r\n",
    "GET http://down.{p}:4444/{t} HTTP/1.1\r\nHost: down.{p}:4444\r\n{h}\r\n",
    "GET http://{p}:25/{t} HTTP/1.1\r\nHost: {p}:25\r\n{h}\r\n",
    "GET http://127.0.0.1:9/{t} HTTP/1.1\r\nHost: 127.0.0.1:9\r\n{h}\r\n",
    "GET http://check.stoplist.invalid/{t} HTTP/1.1\r\nHost: check.stoplist.invalid\r\n{h}\r\n",
    "CONNECT {p}:80 HTTP/1.1\r\n\r\nGET /{t} HTTP/1.1\r\nHost: {p}\r\n{h}\r\n",
    "CONNECT {p}:4444 HTTP/1.1\r\nHost: {p}:4444\r\n{h}\r\n",
    "CONNECT xn--{t}-\xe9:443 HTTP/1.1\r\n\r\n",
    "CONNECT [{t}]:443 HTTP/1.1\r\n\r\n",
    f"CONNECT {{p}}:443 HTTP/1.1\r\n\r\n{_HELLO}",
    # What only the gate itself answers
    "GET ftp://{t}.pass.test/{t} HTTP/1.1\r\nHost: {p}\r\nAccept: text/html\r\nAccept-Language: {t}\r\n{h}\r\n",
    "GET {t}://{l}/{t} HTTP/1.1\r\nHost: {l}\r\nAccept: text/html\r\n{h}\r\n",
    "GET http://{t}.gone.test/{t} HTTP/1.1\r\nAccept: text/html\r\nAccept-Language: {t}\r\n{h}\r\n",
    "GET /{t} HTTP/1.1\r\nHost: {t}.gone.test\r\nAccept: text/html\r\n{h}\r\n",
    "GET / HTTP/1.0\r\nAccept: text/html\r\n{h}\r\n",
    "CONNECT {t}.gone.test:443 HTTP/1.1\r\n{h}\r\n",
    "\x16\x03\x01\x02\x00\x01{t}{t}{t}{t}{t}{t}{t}{t}{t}{t}",
]


@dataclass
class Used:
    """All that was used, and can be looked for."""

    tokens: set[bytes] = field(default_factory=set)
    addresses: set[bytes] = field(default_factory=set)
    ports: set[bytes] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)

    def add(self, token: str, address: str, port: int) -> None:
        with self.lock:
            self.tokens.add(token.encode())
            self.addresses.add(address.encode())
            self.ports.add(b"%d" % port)

    def traces(self, data: bytes, *, ports: bool) -> set[bytes]:
        """What of it is in `data`. Ports are looked for where numbers mean something else only by chance: in texts."""
        lower = data.lower()
        found = {token for token in TOKEN.findall(lower) if token in self.tokens}
        found |= {address for address in ADDRESS.findall(data) if address in self.addresses}
        found |= {name for name in NAMES if name in lower}
        return found | ({port for port in PORT.findall(data) if port in self.ports} if ports else set())


type Ask = Callable[[socket.socket, str], None]


class Door(StrEnum):
    HTTP = "regular"
    SOCKS = "socks5"
    DNS = "dns"
    """Over TCP."""


type Places = Mapping[Door, tuple[str, int]]
"""The addresses of loopback and the ports where a gate listens."""


@dataclass(frozen=True)
class Kind:
    """A kind of request, and whether it names a host that is listed, one that is not, or both."""

    ask: Ask
    names_listed: bool
    names_other: bool
    door: Door = Door.HTTP


def _raw(text: str, *, reset: bool = False) -> Kind:
    def ask(connection: socket.socket, token: str) -> None:
        words = {"t": token, "l": f"{token}.listed.test", "p": f"{token}.pass.test", "h": _HEADERS.format(t=token)}
        connection.sendall(re.sub(r"\{([tlph])\}", lambda match: words[match[1]], text).encode("latin-1"))
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.recv(65536)
            connection.recv(65536)

    return Kind(ask, "{l}" in text, "{l}" not in text or "{p}" in text)


def _tls(target: str, name: str, trusted: Path | None, *, then: str = "", alpn: str = "http/1.1") -> Kind:
    """A tunnel, TLS in it for a name, and where the certificate is trusted `then`, or a request."""

    def ask(connection: socket.socket, token: str) -> None:
        host = name.format(t=token)
        connection.sendall(f"CONNECT {target.format(t=token)}:443 HTTP/1.1\r\nUser-Agent: {token}\r\n\r\n".encode())
        connection.recv(65536)
        context = ssl.create_default_context(cafile=trusted and str(trusted))
        context.set_alpn_protocols([alpn])
        with context.wrap_socket(connection, server_hostname=host) as tls:
            request = f"GET /{token} HTTP/1.1\r\nHost: {host}\r\n{_HEADERS.format(t=token)}\r\n"
            tls.sendall((then.format(t=token) or request).encode())
            tls.recv(65536)

    return Kind(ask, "listed" in name, "pass" in target)


def _socks(name: str) -> Kind:
    def ask(connection: socket.socket, token: str) -> None:
        host = name.format(t=token).encode()
        connection.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(host)]) + host + struct.pack("!H", 80))
        connection.sendall(
            b"GET /%b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\n\r\n" % (token.encode(), host, token.encode())
        )
        connection.recv(65536)
        connection.recv(65536)

    return Kind(ask, "listed" in name, "pass" in name, Door.SOCKS)


def _dns(name: str, *, asks: str = "") -> Kind:
    """A query for a name; its last record `asks`, as a web server would read it."""

    def ask(connection: socket.socket, token: str) -> None:
        query = dns.message.make_query(name.format(t=token), "A").to_wire()
        if record := asks.format(t=token).encode():
            query = struct.pack("!6H", 0x4745, 0x0120, 1, 0, 0, 1) + query[12:]
            query += b"\0" + struct.pack("!HHIH", 255, 1, 1, len(record)) + record
        connection.sendall(struct.pack("!H", len(query)) + query)
        connection.recv(65536)

    return Kind(ask, "listed" in name, "pass" in name, Door.DNS)


def _ask_with_password(connection: socket.socket, token: str) -> None:
    secret = token.encode()
    connection.sendall(b"\x05\x01\x02\x01" + bytes([len(secret)]) + secret + bytes([len(secret)]) + secret)
    connection.recv(65536)


def kinds(gate_ca: Path, origin_ca: Path, doors: Collection[Door] = (Door.HTTP, Door.SOCKS)) -> list[Kind]:
    """The kinds of requests that come in by these doors."""
    listed, passing = "{t}.listed.test", "{t}.pass.test"
    all_kinds = [
        *map(_raw, _RAW),
        _raw(_RAW[0], reset=True),
        _raw(_RAW[0][:40], reset=True),
        _raw("CONNECT {l}:443 HTTP/1.1\r\n\r\n", reset=True),
        _raw("CONNECT {p}:443 HTTP/1.1\r\n\r\n", reset=True),
        _tls(listed, listed, gate_ca),
        _tls(listed, listed, gate_ca, then="{t}, which is no HTTP\r\n\r\n"),
        _tls(listed, listed, gate_ca, then="PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{t}", alpn="h2"),
        _tls(listed, listed, None),
        _tls(passing, listed, gate_ca),
        _tls(passing, passing, origin_ca),
        _socks(listed),
        _socks(passing),
        Kind(_ask_with_password, names_listed=False, names_other=True, door=Door.SOCKS),
        _dns(listed),
        _dns(passing),
        _dns(passing, asks=" HTTP/1.1\r\nHost: {t}.listed.test\r\nUser-Agent: {t}\r\n\r\n"),
    ]
    return [kind for kind in all_kinds if kind.door in doors]


@dataclass
class Session:
    """Requests to a gate of the network, which listens at `places`, and what they used."""

    net: Network
    places: Places
    used: Used = field(default_factory=Used)

    def ask(self, kind: Kind) -> None:
        """One request, with a token and from an address that nobody used before."""
        token = f"q{_CHANCE.getrandbits(48):012x}z"
        source = f"127.{_CHANCE.randrange(1, 255)}.{_CHANCE.randrange(255)}.{_CHANCE.randrange(1, 255)}"
        with suppress(OSError, ssl.SSLError):  # a gate that hangs up, or whose worker was killed
            connection = self.net.gateway.call(
                lambda: socket.create_connection(self.places[kind.door], timeout=SECONDS, source_address=(source, 0))
            )
            with connection:
                self.used.add(token, source, connection.getsockname()[1])
                kind.ask(connection, token)

    def run(self, kinds: Sequence[Kind], requests: int) -> Iterator[int]:
        """So many requests, a few at once. Yields after each hundredth of them, which one it was."""
        with ThreadPoolExecutor(AT_ONCE) as clients:
            for part in range(100):
                numbers = range(part * requests // 100, (part + 1) * requests // 100)
                for _ in clients.map(self.ask, (kinds[number % len(kinds)] for number in numbers)):
                    pass
                yield part
