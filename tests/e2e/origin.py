"""Real origins: servers of several protocols on every address of the machine, counting what reaches them.

Run as ``python origin.py CERTIFICATE CLIENT_CA JOURNAL``. Every accepted connection adds a line to the
journal before a byte of it is read, every request and every TLS handshake of the ports below another:
nothing that arrives is missed.

  7           echoes what came once its client has sent all, and closes
  9           ends first, and notes what still comes: ``received BYTES SHA256``
  17          echoes what comes at once
  22, 25      speak first; then echo bytes, or lines in upper case
  80, 443     HTTP/1.1: see `Web`
  8443, 8444  HTTP/1.1 and HTTP/2 that answer with the TLS they saw; 8444 asks for a client certificate
"""

from __future__ import annotations

import hashlib
import random
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Message, Ping
from wsproto.utilities import generate_accept_token

CONNECTIONS = 100
"""How many a port serves at once; more of them wait."""
IDLE_SECONDS = 60


def pattern(size: int) -> Iterator[bytes]:
    """The body of ``/big?bytes=SIZE``, in parts. Its period is a prime: a part that is lost or swapped shows."""
    block = random.Random(0).randbytes(1_048_573)
    for start in range(0, size, len(block)):
        yield block[: size - start]


class Web(BaseHTTPRequestHandler):
    """/slow, /redirect?to=URL, /drop (no answer), /stream (endless), /big?bytes=N, /ws (echoes messages),
    /page?html=HTML, /mirror... (answers with the request itself)."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        self._note()
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/redirect":
                self._begin(0, status=302, Location=query["to"])
            case "/drop":
                self.close_connection = True
            case "/stream":
                self._stream()
            case "/big":
                self._begin(int(query["bytes"]))
                self._send(pattern(int(query["bytes"])))
            case "/page":
                self.answer(query["html"].encode(), **{"Content-Type": "text/html; charset=utf-8"})
            case "/ws" if "Sec-WebSocket-Key" in self.headers:
                self._echo_messages(self.headers["Sec-WebSocket-Key"])
            case path if path.startswith("/mirror"):
                self.answer(self._head())
            case path:
                if path.startswith("/slow"):
                    time.sleep(1)
                self.answer(f"origin {self.headers['Host']}\n".encode())

    do_HEAD = do_OPTIONS = do_GET  # noqa: N815  the library's names

    def do_POST(self) -> None:
        self._note()
        if self.path.startswith("/mirror"):
            self.answer(self._head() + b"".join(self._body()))
            return
        received = sum(len(part) for part in self._body())
        self.answer(f"received {received}\n".encode())

    do_PUT = do_POST  # noqa: N815  the library's name

    def answer(self, body: bytes, **fields: str) -> None:
        self._begin(len(body), **fields)
        self._send([body])

    def _begin(self, length: int, status: int = 200, **fields: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, parts: Iterable[bytes]) -> None:
        for part in parts if self.command != "HEAD" else ():
            self.wfile.write(part)

    def _note(self) -> None:
        self.server.note(f"request {self.command} {self.headers['Host']} {self.path}")

    def _head(self) -> bytes:
        lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
        return "\r\n".join(lines).encode("iso-8859-1")

    def _body(self) -> Iterator[bytes]:
        if self.headers["Transfer-Encoding"] != "chunked":
            yield from self._read(int(self.headers["Content-Length"]))
            return
        while size := int(self.rfile.readline(), 16):
            yield from self._read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _read(self, size: int) -> Iterator[bytes]:
        while size and (part := self.rfile.read1(min(size, 65536))):
            size -= len(part)
            yield part

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while self.command != "HEAD":
            self.wfile.write(b"5\r\nline\n\r\n")
            time.sleep(0.2)

    def _echo_messages(self, key: str) -> None:
        self.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", generate_accept_token(key.encode()).decode()),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        frames = Connection(ConnectionType.SERVER)
        while data := self.rfile.read1(65536):
            frames.receive_data(data)
            for event in frames.events():
                if isinstance(event, Message):
                    self.wfile.write(frames.send(event))
                elif isinstance(event, Ping | CloseConnection):
                    self.wfile.write(frames.send(event.response()))
                    if isinstance(event, CloseConnection):
                        return

    def log_message(self, *_: object) -> None:
        pass


class TlsMirror(Web):
    """Answers with one line about its TLS, such as ``tls TLSv1.3 alpn h2 resumed False client None sni a.test``."""

    def handle(self) -> None:
        self._line = _describe(self.request)
        self.server.note(self._line)
        if self.request.selected_alpn_protocol() == "h2":
            self._handle_h2()
        else:
            super().handle()

    def do_GET(self) -> None:
        self._note()
        self.close_connection = True
        self.answer(f"{self._line}\n".encode(), Connection="close")

    def _handle_h2(self) -> None:
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        self.request.sendall(connection.data_to_send())
        while data := self.request.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    head = dict(event.headers)
                    self.server.note(f"request {head[':method']} {head[':authority']} {head[':path']}")
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, f"{self._line}\n".encode(), end_stream=True)
            self.request.sendall(connection.data_to_send())


def _describe(connection: ssl.SSLSocket) -> str:
    subject = (connection.getpeercert() or {}).get("subject", ())
    names = dict(pair for part in subject for pair in part)
    return (
        f"tls {connection.version()} alpn {connection.selected_alpn_protocol()} resumed {connection.session_reused} "
        f"client {names.get('commonName')} sni {getattr(connection, 'sni', None)}"
    )


class EchoAfterEnd(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        self.wfile.write(self.rfile.read())


class EndFirst(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        self.wfile.write(b"the end\r\n")
        self.request.shutdown(socket.SHUT_WR)
        received = self.rfile.read()
        self.server.note(f"received {len(received)} {hashlib.sha256(received).hexdigest()}")


class Mail(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        self.wfile.write(b"220 origin ESMTP\r\n")
        for line in self.rfile:
            self.wfile.write(line.upper())


class Echo(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS
    banner = b""

    def handle(self) -> None:
        self.wfile.write(self.banner)
        while data := self.rfile.read1(65536):
            self.wfile.write(data)


class Shell(Echo):
    banner = b"SSH-2.0-origin\r\n"


class Origin(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[socketserver.BaseRequestHandler],
        journal: Path,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(address, handler)
        self._journal = journal.open("ab", buffering=0)  # one system call for each line, whichever thread it is
        self._context = context
        self._free = threading.Semaphore(CONNECTIONS)

    def note(self, line: str) -> None:
        self._journal.write(f"{line}\n".encode())

    def process_request(self, request, client_address) -> None:
        address, port = request.getsockname()
        self.note(f"connection {port} {address}")
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request, client_address) -> None:
        if self._context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(IDLE_SECONDS)
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def server_close(self) -> None:
        super().server_close()
        self._journal.close()

    def handle_error(self, *_: object) -> None:
        pass


def _context(certificate: str, *protocols: str, client_ca: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda connection, name, _: setattr(connection, "sni", name)
    if protocols:
        context.set_alpn_protocols(protocols)
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_ca)
    return context


def main() -> None:
    certificate, client_ca, journal = sys.argv[1:]
    mirror = _context(certificate, "h2", "http/1.1")
    asking = _context(certificate, "h2", "http/1.1", client_ca=client_ca)
    servers = [
        Origin(("", port), handler, Path(journal), context)
        for port, handler, context in (
            (7, EchoAfterEnd, None),
            (9, EndFirst, None),
            (17, Echo, None),
            (22, Shell, None),
            (25, Mail, None),
            (80, Web, None),
            (443, Web, _context(certificate)),
            (8443, TlsMirror, mirror),
            (8444, TlsMirror, asking),
        )
    ]
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:  # Python 3.12 starts no thread once the main one has ended
        thread.join()


if __name__ == "__main__":
    main()
