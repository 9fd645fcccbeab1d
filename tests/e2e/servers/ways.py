"""How a client reaches a server: straight, or through a gate in one of its modes; and what it does there."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.e2e.conftest import MODES
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS
from tests.e2e.servers.conversations import PASS, Conversation
from tests.e2e.servers.server import SERVED_AS_LISTED, Server
from tests.e2e.ways import RefusedError, read_head, receive


class Form(StrEnum):
    """How a client names the server to the gate."""

    NAME = "name"
    ADDRESS = "address"
    LATER = "name, after another request"
    """A tunnel on a connection that the gate has answered a plain request on."""
    PLAIN = "plain"
    """No tunnel: the first request has an absolute-form target for the unlisted host, as for any proxy."""


@dataclass(frozen=True, order=True)
class Way:
    """A way through the gate."""

    mode: str
    form: Form
    web_port: bool
    """Whether the server is asked on its web port."""

    def __str__(self) -> str:
        return f"{self.mode}, {self.form}, {'web port' if self.web_port else 'other port'}"

    def port_of(self, server: Server) -> int:
        return server.port if self.web_port else server.other_port


WAYS = [
    Way(mode, form, web_port)
    for mode, forms in {
        "regular": (Form.NAME, Form.ADDRESS, Form.LATER, Form.PLAIN),
        "secure": (Form.NAME, Form.ADDRESS, Form.LATER, Form.PLAIN),
        "socks5": (Form.NAME, Form.ADDRESS),
        "transparent": (Form.ADDRESS,),
        "upstream": (Form.NAME, Form.ADDRESS, Form.LATER, Form.PLAIN),
    }.items()
    for form in forms
    for web_port in (True, False)
]


def one_of_each(ways: Sequence[Way], server: Server, conversation: Conversation) -> list[Way]:
    """One way for each mode: which one depends on the server and the conversation, so that all are used."""
    number = zlib.crc32(repr((server.name, conversation.sends)).encode())
    modes: dict[str, list[Way]] = {}
    for way in ways:
        modes.setdefault(way.mode, []).append(way)
    return [choices[number % len(choices)] for choices in modes.values()]


@dataclass(frozen=True)
class Patience:
    """How long a client waits, in seconds. One that waits too short misses something, and makes nothing up."""

    answer: float
    """For an answer between two parts of a conversation."""
    end: float
    """For an answer after the last part."""
    more: float
    """For more after the beginning of an answer to the last part."""


SHORT = Patience(0.2, 0.4, 0.15)
LONG = Patience(0.4, 1.0, 0.4)
ENDLESS = Patience(60, 60, 2)
"""For an answer that must come."""
_SETTLED = 0.03
_TLS_TO_THE_GATE = ssl.create_default_context()
_TLS_TO_THE_GATE.check_hostname = False  # other tests look at whether the gate is who it says
_TLS_TO_THE_GATE.verify_mode = ssl.CERT_NONE
_TLS_TO_THE_GATE.set_alpn_protocols(["http/1.1"])


def ask_directly(server: Server, conversation: Conversation) -> bytes:
    """What a server answers, as seen from the gateway's namespace, in which the calling thread has to be."""
    try:
        with socket.create_connection((ORIGIN_ADDRESS, server.port), timeout=5) as connection:
            return play(connection, conversation.to(server.port), SHORT)
    except OSError:
        return b""


def ask_through(way: Way, server: Server, conversation: Conversation, patience: Patience = LONG) -> bytes:
    """What a server answers through the gate, as seen from the client's namespace."""
    port = way.port_of(server)
    sends = conversation.to(port)
    try:
        with _enter(way, port) as connection:
            return play(connection, _as_proxy_request(sends, port) if way.form is Form.PLAIN else sends, patience)
    except (OSError, RefusedError):
        return b""


def play(connection: socket.socket, sends: Sequence[bytes], patience: Patience) -> bytes:
    """Have a conversation; all that came back, until the marker of the listed host was seen or nothing more comes."""
    received = bytearray()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for send in sends[:-1]:
            connection.settimeout(10)
            connection.sendall(send)
            _read(connection, received, patience.answer, _SETTLED)
        connection.settimeout(10)
        connection.sendall(sends[-1])
    except OSError:
        pass  # the other side has closed; what it said before that is still to be read
    _read(connection, received, patience.end, patience.more)
    return bytes(received)


def _read(connection: socket.socket, received: bytearray, first: float, more: float) -> None:
    connection.settimeout(first)
    try:
        while SERVED_AS_LISTED not in received and len(received) < 1_000_000 and (part := connection.recv(65536)):
            received += part
            connection.settimeout(more)
    except OSError:
        pass


def _enter(way: Way, port: int) -> socket.socket:
    """A connection on which what is sent next is for the server. Raises RefusedError."""
    if way.mode == "transparent":
        return socket.create_connection((ORIGIN_ADDRESS, port), timeout=10)
    connection = socket.create_connection((GATEWAY_ADDRESS, MODES[way.mode]), timeout=10)
    if way.mode == "secure":
        connection = _TLS_TO_THE_GATE.wrap_socket(connection)
    if way.form is Form.PLAIN:
        return connection
    try:
        if way.mode == "socks5":
            _enter_socks(connection, way.form, port)
        else:
            if way.form is Form.LATER:
                connection.sendall(b"HEAD http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (PASS, PASS))
                read_head(connection)
            host = ORIGIN_ADDRESS.encode() if way.form is Form.ADDRESS else PASS
            connection.sendall(b"CONNECT %b:%d HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (host, port, host, port))
            if b" 200 " not in read_head(connection).split(b"\r\n")[0]:
                raise RefusedError
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_socks(connection: socket.socket, form: Form, port: int) -> None:
    connection.sendall(b"\x05\x01\x00")
    if receive(connection, 2) != b"\x05\x00":
        raise RefusedError
    named = b"\x03" + bytes([len(PASS)]) + PASS
    connection.sendall(
        b"\x05\x01\x00"
        + (named if form is Form.NAME else b"\x01" + socket.inet_aton(ORIGIN_ADDRESS))
        + struct.pack("!H", port)
    )
    if receive(connection, 10)[1:2] != b"\x00":
        raise RefusedError


def _as_proxy_request(sends: Sequence[bytes], port: int) -> Sequence[bytes]:
    """The same, where the first request has an absolute-form target for the unlisted host, and that as Host."""
    if not sends:
        return sends
    authority = b"%b:%d" % (PASS, port)
    line, end, rest = sends[0].partition(b"\n")
    line = re.sub(rb"^(\S+\s)(/\S*)", rb"\1http://" + authority + rb"\2", line, count=1)
    return (line + end + rest.replace(b"Host: %b\r" % PASS, b"Host: %b\r" % authority, 1), *sends[1:])
