"""HTTP/3, both ends of it.

python http3.py serve CERTIFICATE JOURNAL     on UDP ports 443 and 4433, noting each request
python http3.py get ADDRESS NAME CA           one request; prints the status and the body
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

PORT, OTHER_PORT = 443, 4433
SECONDS = 60


class Server(QuicConnectionProtocol):
    journal: Path

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        self._http = self._http or H3Connection(self._quic)
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                head = dict(part.headers)
                with self.journal.open("ab", buffering=0) as journal:
                    journal.write(b"request %b %b %b\n" % (head[b":method"], head[b":authority"], head[b":path"]))
                self._http.send_headers(part.stream_id, [(b":status", b"200")])
                self._http.send_data(part.stream_id, b"origin " + head[b":authority"] + b"\n", end_stream=True)
        self.transmit()


class Client(QuicConnectionProtocol):
    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._http = H3Connection(self._quic)
        self._answer = asyncio.get_running_loop().create_future()
        self._status, self._body = b"", b""

    def quic_event_received(self, event: QuicEvent) -> None:
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                self._status = dict(part.headers)[b":status"]
            elif isinstance(part, DataReceived):
                self._body += part.data
            if getattr(part, "stream_ended", False):
                self._answer.set_result((self._status, self._body))

    async def get(self, name: str) -> tuple[bytes, bytes]:
        stream = self._quic.get_next_available_stream_id()
        fields = {":method": "GET", ":scheme": "https", ":authority": name, ":path": "/", "accept": "text/html"}
        self._http.send_headers(
            stream, [(key.encode(), value.encode()) for key, value in fields.items()], end_stream=True
        )
        self.transmit()
        return await self._answer


async def main(command: str, *arguments: str) -> None:
    if command == "serve":
        certificate, journal = arguments
        configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
        configuration.load_cert_chain(certificate, certificate)
        Server.journal = Path(journal)
        for port in (PORT, OTHER_PORT):
            await serve("0.0.0.0", port, configuration=configuration, create_protocol=Server)
        print("ready", flush=True)
        await asyncio.Event().wait()
    address, name, ca = arguments
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=name)
    configuration.load_verify_locations(ca)
    async with (
        asyncio.timeout(SECONDS),
        connect(address, PORT, configuration=configuration, create_protocol=Client) as client,
    ):
        status, body = await client.get(name)
        print(status.decode(), body.decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
