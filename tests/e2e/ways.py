"""Ways in: what a client can do to reach a host through a gate, byte by byte, and what it sees.

A `Door` is a mode of the gate with its address; `enter` leads to a host as far as a mode lets a client
choose one. What is then done is written as functions that take the socket. Nothing here follows rules
that a browser would: that is the point.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded

from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, Answer, Network

GATE_NAME = "gateway.pass.test"
"""The gate's, in the certificate that it shows as a secure proxy."""
PAGE = b"Access to this site was stopped"


class View(StrEnum):
    """What a client sees at the end."""

    PAGE = "the stop page"
    REFUSED = "a refusal of the gate, or a closed connection"
    ORIGIN = "an answer of the origin"


class RefusedError(Exception):
    """The gate let the client in no further."""


@dataclass(frozen=True)
class Door:
    """`mode` is what the gate was told, `port` where it listens; `ca` is the gate's, `outer` the network's."""

    network: Network
    mode: str
    port: int
    ca: Path
    outer: Path
    seconds: float = SECONDS
    """How long an answer may take."""

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """A connection to the gate, before any byte."""
        with self.network.client.connect(GATEWAY_ADDRESS, self.port, seconds=self.seconds) as raw:
            if self.mode != "secure":
                yield raw
                return
            context = ssl.create_default_context(cafile=self.outer)
            context.set_alpn_protocols(["http/1.1"])
            with context.wrap_socket(raw, server_hostname=GATE_NAME) as secured:
                yield secured

    @contextmanager
    def enter(self, host: bytes, port: int) -> Iterator[socket.socket]:
        """A tunnel to a host. Raises RefusedError."""
        if self.mode == "transparent":
            with self.network.client.connect(ORIGIN_ADDRESS, port, seconds=self.seconds) as raw:
                yield raw
            return
        with self.connect() as tunnel:
            if self.mode == "socks5":
                _greet_socks(tunnel, host, port)
            else:
                tunnel.sendall(b"CONNECT %b:%d HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (host, port, host, port))
                if b" 200 " not in read_head(tunnel).split(b"\r\n")[0]:
                    raise RefusedError
            yield tunnel

    def curl(self, url: str, *options: str) -> Answer:
        """What curl in the client's namespace gets; of a site it trusts the network's CA only."""
        host, port = urlsplit(url).hostname, urlsplit(url).port or (443 if url.startswith("https:") else 80)
        way = {
            "secure": (
                *("--proxy", f"https://{GATE_NAME}:{self.port}", "--proxy-cacert", str(self.outer)),
                *("--resolve", f"{GATE_NAME}:{self.port}:{GATEWAY_ADDRESS}"),
            ),
            "socks5": ("--proxy", f"socks5h://{GATEWAY_ADDRESS}:{self.port}"),
            "transparent": ("--resolve", f"{host}:{port}:{ORIGIN_ADDRESS}"),
        }.get(self.mode, ("--proxy", f"http://{GATEWAY_ADDRESS}:{self.port}"))
        return self.network.curl(url, *way, "--cacert", str(self.outer), *options, space=self.network.client)


def _greet_socks(tunnel: socket.socket, host: bytes, port: int) -> None:
    tunnel.sendall(b"\x05\x01\x00")
    if receive(tunnel, 2) != b"\x05\x00":
        raise RefusedError
    tunnel.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + struct.pack("!H", port))
    if receive(tunnel, 10)[1:2] != b"\x00":
        raise RefusedError


def receive(connection: socket.socket, length: int) -> bytes:
    """So many bytes, or fewer where they end before."""
    data = b""
    while len(data) < length and (part := connection.recv(length - len(data))):
        data += part
    return data


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and (byte := connection.recv(1)):
        head += byte
    return head


def read_answer(connection: socket.socket) -> bytes:
    """One answer, as long as it says it is; what there is when the gate closes."""
    head = read_head(connection)
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + receive(connection, length)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except (TimeoutError, ConnectionError, ssl.SSLError):
        pass
    return data


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it, or reset it; what it said before is not kept."""
    connection.setblocking(False)
    try:
        return not connection.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True


def view(answer: bytes) -> View:
    """What an answer, or several, shows at its end."""
    if answer.rpartition(b"HTTP/1.")[2][1:].startswith(b" 403") and PAGE in answer:
        return View.PAGE
    return View.ORIGIN if b"origin " in answer or b"received " in answer or b" 101 " in answer else View.REFUSED


def seen(way: Callable[[], bytes]) -> View:
    """What a way in leads to; an error of the connection is a refusal."""
    try:
        return view(way())
    except (RefusedError, OSError):
        return View.REFUSED


def get(
    host: bytes, *, method: bytes = b"GET", target: bytes = b"/", version: bytes = b"1.1", more: bytes = b""
) -> bytes:
    """A request as browsers write it."""
    return b"%b %b HTTP/%b\r\nHost: %b\r\nAccept: text/html\r\n%b\r\n" % (method, target, version, host, more)


def ask(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    return read_answer(connection)


def ask_slowly(connection: socket.socket, request: bytes) -> bytes:
    """Send byte by byte, each in a segment of its own as far as TCP lets it."""
    send_in_pieces(connection, request, 1)
    return read_answer(connection)


def ask_inside_tls(
    tunnel: socket.socket, sni: str, ca: Path, request: bytes, *, protocols: tuple[str, ...] = (), pieces: int = 0
) -> bytes:
    """Make TLS in a tunnel and ask; the ClientHello in segments of `pieces` bytes where that is not 0."""
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = not sni.endswith(".")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    secured = secure(tunnel, sni, context, pieces=pieces)
    if secured.tls.selected_alpn_protocol() == "h2":
        return ask_h2(secured, sni.encode())
    secured.sendall(request)
    return read_all(secured)


@dataclass
class Secured:
    """TLS in a tunnel, which may be TLS itself; used as a socket is."""

    tls: ssl.SSLObject
    _tunnel: socket.socket
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO

    def sendall(self, data: bytes) -> None:
        self.tls.write(data)
        self._tunnel.sendall(self._outgoing.read())

    def recv(self, size: int) -> bytes:
        return self.step(lambda: self.tls.read(size))

    def step[T](self, step: Callable[[], T], pieces: int = 0) -> T:
        """Do one step of TLS, sending and receiving what it wants; what is sent first in segments of `pieces`."""
        while True:
            try:
                result = step()
                self._tunnel.sendall(self._outgoing.read())
                return result
            except ssl.SSLWantReadError:
                send_in_pieces(self._tunnel, self._outgoing.read(), pieces)
                pieces = 0
                received = self._tunnel.recv(65536)
                if not received:
                    raise ConnectionError("closed") from None
                self._incoming.write(received)


def secure(
    tunnel: socket.socket,
    sni: str | None,
    context: ssl.SSLContext,
    *,
    session: ssl.SSLSession | None = None,
    pieces: int = 0,
) -> Secured:
    """TLS in a tunnel, after the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=sni, session=session)
    secured = Secured(tls, tunnel, incoming, outgoing)
    secured.step(tls.do_handshake, pieces)
    return secured


def send_in_pieces(connection: socket.socket, data: bytes, size: int) -> None:
    """Send `data` in segments of `size` bytes as far as TCP lets it; at once if that is 0."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(data), size or max(len(data), 1)):
        connection.sendall(data[start : start + (size or len(data))])


def ask_h2(tunnel: socket.socket | Secured, authority: bytes, *, host: bytes | None = None) -> bytes:
    """HTTP/2, the preface first; the answer is put as HTTP/1 would."""
    return ask_h2_streams(tunnel, [authority], host=host)[0]


def ask_h2_streams(
    tunnel: socket.socket | Secured, authorities: Sequence[bytes], *, host: bytes | None = None
) -> list[bytes]:
    """Several requests at once in one connection of HTTP/2; the answers in their order."""
    connection = H2Connection(
        H2Configuration(header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False)
    )
    connection.initiate_connection()
    answers = {}
    more = [(b"accept", b"text/html"), *([(b"host", host)] if host is not None else [])]
    for stream, authority in enumerate(authorities):
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", authority)]
        connection.send_headers(1 + 2 * stream, fields + more, end_stream=True)
        answers[1 + 2 * stream] = b""
    waiting = set(answers)
    tunnel.sendall(connection.data_to_send())
    with suppress(OSError, ssl.SSLError):
        while waiting and (data := tunnel.recv(65536)):
            for event in connection.receive_data(data):
                if isinstance(event, ResponseReceived):
                    answers[event.stream_id] += b"HTTP/1.1 %b \r\n" % dict(event.headers)[b":status"]
                elif isinstance(event, DataReceived):
                    answers[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    waiting.discard(event.stream_id)
            tunnel.sendall(connection.data_to_send())
    return list(answers.values())


def in_small_records(hello: bytes) -> bytes:
    """A TLS record as many records with one byte each (RFC 8446, section 5.1 allows it)."""
    return b"".join(hello[:3] + b"\x00\x01" + hello[number : number + 1] for number in range(5, len(hello)))


def client_hello(sni: str, *, padding: int = 0) -> bytes:
    """The first record of a TLS client; with `padding` bytes of offered protocols, for a long one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the certificates of the system: they take milliseconds
    if padding:
        context.set_alpn_protocols(["http/1.1", *(f"x{number:05d}" * 40 for number in range(padding // 240))])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=sni).do_handshake()
    return outgoing.read()


def browsers_hello(sni: str) -> bytes:
    """A ClientHello with what browsers add: GREASE (RFC 8701), ECH (RFC 9849), a key share of post-quantum size."""
    hello = client_hello(sni)
    random_end = 5 + 4 + 2 + 32
    ciphers = random_end + 1 + hello[random_end]
    ciphers_end = ciphers + 2 + int.from_bytes(hello[ciphers : ciphers + 2])
    extensions = ciphers_end + 1 + hello[ciphers_end]
    added = (
        _extension(0x0A0A, b"")
        + _extension(0xFE0D, bytes.fromhex("00 0001 0001 2a") + _counted(bytes(32)) + _counted(b"e" * 208))
        + _extension(0x0033, _counted(bytes.fromhex("0a0a 0001 00") + b"\x11\xec" + _counted(b"k" * 1216)))
        + _extension(0x1A1A, b"\0")
    )
    body = (
        hello[9:ciphers]
        + _counted(b"\x0a\x0a" + hello[ciphers + 2 : ciphers_end])
        + hello[ciphers_end:extensions]
        + _counted(_without_key_share(hello[extensions + 2 :]) + added)
    )
    return b"\x16\x03\x01" + _counted(b"\x01" + len(body).to_bytes(3) + body)


def hello_with_names(*names: bytes) -> bytes:
    """A ClientHello that names several hosts, which RFC 6066 does not allow."""
    hello, first = client_hello("placeholder.test"), b"placeholder.test"
    entry = b"\0" + _counted(first)
    old = _extension(0, _counted(entry))
    new = _extension(0, _counted(b"".join(b"\0" + _counted(name) for name in names)))
    grown = len(new) - len(old)
    start = hello.index(old)
    # The lengths that count the extension: of all extensions, of the handshake, of the record.
    sessions = 9 + 2 + 32
    ciphers = sessions + 1 + hello[sessions]
    compressions = ciphers + 2 + int.from_bytes(hello[ciphers : ciphers + 2])
    counter = compressions + 1 + hello[compressions]
    changed = bytearray(hello[:start] + new + hello[start + len(old) :])
    for place, size in ((counter, 2), (6, 3), (3, 2)):
        changed[place : place + size] = (int.from_bytes(hello[place : place + size]) + grown).to_bytes(size)
    return bytes(changed)


def _without_key_share(extensions: bytes) -> bytes:
    kept = b""
    while extensions:
        end = 4 + int.from_bytes(extensions[2:4])
        kept += extensions[:end] if extensions[:2] != b"\x00\x33" else b""
        extensions = extensions[end:]
    return kept


def _extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2) + _counted(data)


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data
