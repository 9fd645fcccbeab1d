"""A real origin: HTTP on port 80 and HTTPS on port 443 of one address, counting what reaches it.

Run as ``python origin.py ADDRESS CERTIFICATE JOURNAL``. Every accepted connection adds a line to the
journal before a byte of it is read, every request another: nothing that arrives is missed.
"""

from __future__ import annotations

import socketserver
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(1)
        body = f"origin {self.headers['Host']}\n".encode()
        self.server.note(f"request {self.command} {self.headers['Host']} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the library's name

    def do_POST(self) -> None:
        received = len(self.rfile.read(int(self.headers["Content-Length"])))
        body = f"received {received}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Origin(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], journal: Path, context: ssl.SSLContext | None) -> None:
        super().__init__(address, Handler)
        self._journal = journal.open("a", buffering=1)
        self._context = context

    def note(self, line: str) -> None:
        self._journal.write(f"{line}\n")

    def finish_request(self, request, client_address) -> None:
        self.note(f"connection {self.server_address[1]}")
        if self._context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(20)
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def server_close(self) -> None:
        super().server_close()
        self._journal.close()

    def handle_error(self, *_: object) -> None:
        pass


def main() -> None:
    address, certificate, journal = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    servers = [Origin((address, 80), Path(journal), None), Origin((address, 443), Path(journal), context)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:  # Python 3.12 starts no thread once the main one has ended
        thread.join()


if __name__ == "__main__":
    main()
