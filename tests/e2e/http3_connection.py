"""A connection of HTTP/3 whose datagrams a test sends itself, from the socket and the network that it likes."""

from __future__ import annotations

import socket
import ssl
import time

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection


class Http3Connection:
    """A client of `server`, (address, port), that asks for `name`. It trusts any certificate."""

    def __init__(self, name: str, server: tuple[str, int]) -> None:
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=H3_ALPN, server_name=name, verify_mode=ssl.CERT_NONE
        )
        self.quic = QuicConnection(configuration=configuration)
        self._name, self._server = name, server
        self.quic.connect(server, now=time.monotonic())
        self._http = H3Connection(self.quic)
        self._bodies: dict[int, bytes] = {}

    def ask(self, client: socket.socket, seconds: float) -> bytes:
        """Ask for the root from this socket; the body of the answer, or nothing if none came in time."""
        stream = self.quic.get_next_available_stream_id()
        fields = {":method": "GET", ":scheme": "https", ":authority": self._name, ":path": "/"}
        self._http.send_headers(
            stream, [(key.encode(), value.encode()) for key, value in fields.items()], end_stream=True
        )
        self.carry(client, seconds, until=stream)
        return self._bodies.get(stream, b"")

    def carry(self, client: socket.socket, seconds: float, *, until: int | None = None) -> None:
        """Send and receive for so long, or until a stream has its answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and until not in self._bodies:
            self.send(client)
            client.settimeout(0.05)
            try:
                data = client.recv(65536)
            except TimeoutError:
                if (self.quic.get_timer() or end) < time.monotonic():
                    self.quic.handle_timer(time.monotonic())
                continue
            self.quic.receive_datagram(data, self._server, time.monotonic())
            while (event := self.quic.next_event()) is not None:
                for part in self._http.handle_event(event):
                    if isinstance(part, DataReceived):
                        self._bodies[part.stream_id] = self._bodies.get(part.stream_id, b"") + part.data

    def send(self, client: socket.socket) -> None:
        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            client.sendto(data, self._server)
