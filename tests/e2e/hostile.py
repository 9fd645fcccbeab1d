"""A hostile session: thousands of requests of forty kinds, each with names and values that nobody used before.

Whatever becomes of it - stopped, refused, passed, malformed, cut off - a request has its token in every place that
there is: host, path, query, header values, user agent, SNI, body. Each connection comes from an address of its own.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tests.e2e.network import CLIENT_ADDRESS, ORIGIN_ADDRESS, Network

TOKEN = re.compile(rb"q[0-9a-f]{12}z", re.IGNORECASE)
ADDRESS = re.compile(rb"127\.\d+\.\d+\.\d+")
PORT = re.compile(rb"(?<![\w.])\d{5}(?![\w.])")
NAMES = (b"listed.test", b"pass.test", ORIGIN_ADDRESS.encode(), CLIENT_ADDRESS.encode())
AT_ONCE = 8
SECONDS = 0.3
"""How long an answer is waited for."""

_HEADERS = "User-Agent: {t}\r\nCookie: {t}={t}\r\nReferer: http://{t}.test/\r\nX-{t}: {t}\r\n"
_RAW = [
    "GET http://{l}/{t}?{t} HTTP/1.1\r\nHost: {l}\r\n{h}\r\n",
    "HEAD http://{l}/{t} HTTP/1.1\r\nHost: {l}\r\n{h}\r\n",
    "OPTIONS http://{l}/{t} HTTP/1.0\r\n{h}\r\n",
    "GET http://{p}/{t} HTTP/1.1\r\nHost: {p}\r\n{h}\r\n",
    "POST http://{l}/ HTTP/1.1\r\nHost: {l}\r\nContent-Length: 14\r\n{h}\r\n{t}",
    "POST http://{l}/ HTTP/1.1\r\nHost: {l}\r\nContent-Length: x{t}\r\n{h}\r\n",
    "POST http://{l}/ HTTP/1.1\r\nHost: {l}\r\nContent-Length: 30000000\r\n{h}\r\n{t}",
    "POST http://{l}/ HTTP/1.1\r\nHost: {l}\r\nContent-Length: 100\r\n{h}\r\n{t}",
    "POST http://{l}/ HTTP/1.1\r\nHost: {l}\r\nTransfer-Encoding: chunked\r\n{h}\r\ne;{t}\r\n{t}\r\n0\r\n\r\n",
    "POST http://{p}/ HTTP/1.1\r\nHost: {p}\r\nTransfer-Encoding: {t}\r\n{h}\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: a\r\nHost: {l}\r\n{h}\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: {t}.other.test\r\n{h}\r\n",
    "GET http://{l}:99999/{t} HTTP/1.1\r\n{h}\r\n",
    "GET /{t} HTTP/1.1\r\n{h}\r\n",
    "{t} {t} {t}\r\n\r\n",
    "GET http://{l}/{t}\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: {p}\r\n X: {t}\r\nX {t}: {t}\r\n\r\n",
    "GET http://{p}/ HTTP/1.1\r\nHost: {p}\r\nX: \0{t}\r\n\r\n",
    "GET http://{l}/{t} HTTP/1.1\r\nHost: {l}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{h}\r\n",
    "GET http://{t}:{t}@{l}/ HTTP/1.1\r\nHost: {l}\r\nProxy-Authorization: Basic {t}\r\n\r\n",
    "GET https://{p}:8443/{t} HTTP/1.1\r\nHost: {p}:8443\r\n{h}\r\n",
    "GET http://down.{p}:4444/{t} HTTP/1.1\r\nHost: down.{p}:4444\r\n{h}\r\n",
    "GET http://{p}:25/{t} HTTP/1.1\r\nHost: {p}:25\r\n{h}\r\n",
    "GET http://127.0.0.1:9/{t} HTTP/1.1\r\nHost: 127.0.0.1:9\r\n{h}\r\n",
    "GET http://check.stoplist.invalid/{t} HTTP/1.1\r\nHost: check.stoplist.invalid\r\n{h}\r\n",
    "CONNECT {l}:443 HTTP/1.1\r\n{h}\r\n{t} is no TLS at all\r\n",
    "CONNECT {p}:80 HTTP/1.1\r\n\r\nGET /{t} HTTP/1.1\r\nHost: {l}\r\n{h}\r\n",
    "CONNECT {p}:80 HTTP/1.1\r\n\r\nGET /{t} HTTP/1.1\r\nHost: {p}\r\n{h}\r\n",
    "CONNECT {p}:4444 HTTP/1.1\r\nHost: {p}:4444\r\n{h}\r\n",
    "CONNECT xn--{t}-\xe9:443 HTTP/1.1\r\n\r\n",
    "CONNECT [{t}]:443 HTTP/1.1\r\n\r\n",
    "CONNECT {l}:443 HTTP/1.1\r\n\r\n\x16\x03\x01\x01\x00\x01\x00{t}{t}{t}{t}{t}{t}{t}{t}",
    "CONNECT {p}:443 HTTP/1.1\r\n\r\n\x16\x03\x01\x01\x00\x01\x00{t}{t}{t}{t}{t}{t}{t}{t}",
    "\x16\x03\x01\x02\x00\x01{t}{t}{t}{t}{t}{t}{t}{t}{t}{t}",
]


@dataclass
class Used:
    """All that was used, and can be looked for."""

    tokens: set[bytes] = field(default_factory=set)
    addresses: set[bytes] = field(default_factory=set)
    ports: set[bytes] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)

    def traces(self, data: bytes, *, ports: bool) -> set[bytes]:
        """What of it is in `data`. Ports are looked for where numbers mean something else only by chance: in texts."""
        lower = data.lower()
        found = {token for token in TOKEN.findall(lower) if token in self.tokens}
        found |= {address for address in ADDRESS.findall(data) if address in self.addresses}
        found |= {name for name in NAMES if name in lower}
        return found | ({port for port in PORT.findall(data) if port in self.ports} if ports else set())


type Kind = Callable[[socket.socket, str], None]


def _raw(text: str, *, reset: bool = False) -> Kind:
    def say(connection: socket.socket, token: str) -> None:
        words = {"t": token, "l": f"{token}.listed.test", "p": f"{token}.pass.test", "h": _HEADERS.format(t=token)}
        connection.sendall(re.sub(r"\{([tlph])\}", lambda match: words[match[1]], text).encode("latin-1"))
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.recv(65536)
            connection.recv(65536)

    return say


def _tls(target: str, name: str, trusted: Path | None, *, alpn: str = "http/1.1") -> Kind:
    """A tunnel, TLS in it for a name, and a request, where the certificate is trusted."""

    def say(connection: socket.socket, token: str) -> None:
        host = name.format(t=token)
        connection.sendall(f"CONNECT {target.format(t=token)}:443 HTTP/1.1\r\nUser-Agent: {token}\r\n\r\n".encode())
        connection.recv(65536)
        context = ssl.create_default_context(cafile=trusted and str(trusted))
        context.set_alpn_protocols([alpn])
        with context.wrap_socket(connection, server_hostname=host) as tls:
            head = f"GET /{token} HTTP/1.1\r\nHost: {host}\r\n{_HEADERS.format(t=token)}\r\n"
            tls.sendall(head.encode() if alpn == "http/1.1" else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + token.encode())
            tls.recv(65536)

    return say


def _socks(name: str, then: str) -> Kind:
    def say(connection: socket.socket, token: str) -> None:
        host = name.format(t=token).encode()
        connection.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(host)]) + host + struct.pack("!H", 80))
        connection.sendall(then.format(t=token, host=host.decode()).encode())
        connection.recv(65536)
        connection.recv(65536)

    return say


def _socks_password(connection: socket.socket, token: str) -> None:
    secret = token.encode()
    connection.sendall(b"\x05\x01\x02\x01" + bytes([len(secret)]) + secret + bytes([len(secret)]) + secret)
    connection.recv(65536)


def kinds(gate_ca: Path, origin_ca: Path) -> tuple[list[Kind], list[Kind]]:
    """Those for an HTTP proxy, and those for SOCKS."""
    get = "GET /{t} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {t}\r\n\r\n"
    http = [
        *map(_raw, _RAW),
        _raw(_RAW[0], reset=True),
        _raw(_RAW[0][:40], reset=True),
        _raw("CONNECT {p}:443 HTTP/1.1\r\n\r\n", reset=True),
        _tls("{t}.listed.test", "{t}.listed.test", gate_ca),
        _tls("{t}.listed.test", "{t}.listed.test", gate_ca, alpn="h2"),
        _tls("{t}.listed.test", "{t}.listed.test", None),
        _tls("{t}.pass.test", "{t}.listed.test", gate_ca),
        _tls("{t}.pass.test", "{t}.pass.test", origin_ca),
    ]
    return http, [_socks("{t}.listed.test", get), _socks("{t}.pass.test", get), _socks_password]


type Place = tuple[str, int]
"""An address and a port where a gate listens."""


def session(
    net: Network, places: tuple[Place, Place], which: tuple[list[Kind], list[Kind]], requests: int, used: Used
) -> Iterator[int]:
    """Ask so many times, a few at once, of a gate that listens at two places of loopback (HTTP, SOCKS).

    Yields after each hundredth of them, which one it was.
    """
    chance = random.Random()
    ways = [(places[0], kind) for kind in which[0]] + [(places[1], kind) for kind in which[1]]

    def ask(place: Place, kind: Kind, token: str, source: str) -> None:
        with suppress(OSError, ssl.SSLError):  # a gate that hangs up, or whose worker was killed
            connection = net.gateway.call(
                lambda: socket.create_connection(place, timeout=SECONDS, source_address=(source, 0))
            )
            with connection:
                with used.lock:
                    used.ports.add(b"%d" % connection.getsockname()[1])
                kind(connection, token)

    with ThreadPoolExecutor(AT_ONCE) as clients:
        for part in range(100):
            asked = []
            for number in range(part * requests // 100, (part + 1) * requests // 100):
                token = f"q{chance.getrandbits(48):012x}z"
                source = f"127.{chance.randrange(1, 255)}.{chance.randrange(255)}.{chance.randrange(1, 255)}"
                used.tokens.add(token.encode())
                used.addresses.add(source.encode())
                asked.append(clients.submit(ask, *ways[number % len(ways)], token, source))
            for each in asked:
                each.result()
            yield part
