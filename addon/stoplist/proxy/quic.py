"""Quic: HTTP/3 where whole packets come in, judged by the name in its ClientHello."""

from __future__ import annotations

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # aioquic exports it by name only
from aioquic.quic.packet import encode_quic_version_negotiation, pull_quic_header
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers import ClientQuicLayer, ServerQuicLayer, UDPLayer
from mitmproxy.proxy.layers.quic import quic_parse_client_hello_from_datagrams
from mitmproxy.proxy.layers.quic._stream_layers import SUPPORTED_QUIC_VERSIONS_SERVER
from mitmproxy.proxy.layers.tls import TlsClienthelloHook
from mitmproxy.tls import ClientHelloData

MAX_HELLO_DATAGRAMS = 16
"""In how many datagrams a ClientHello may come; one with keys of today's sizes takes two."""


class Quic(Layer):
    """QUIC from a client: datagrams wait until they hold a whole ClientHello, which the hook judges.

    mitmproxy's own layer asks the hook as well, but cannot let a connection be that was handed to it.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._datagrams: list[bytes] = []

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)
        if not isinstance(event, events.DataReceived):
            return
        try:
            header = pull_quic_header(Buffer(data=event.data))
            if header.version is not None and header.version not in SUPPORTED_QUIC_VERSIONS_SERVER:
                yield commands.SendData(
                    self.context.client,
                    encode_quic_version_negotiation(
                        source_cid=header.destination_cid,
                        destination_cid=header.source_cid,
                        supported_versions=SUPPORTED_QUIC_VERSIONS_SERVER,
                    ),
                )
                return
            self._datagrams.append(event.data)
            hello = quic_parse_client_hello_from_datagrams(self._datagrams)
        except (ValueError, TypeError, AssertionError):  # what aioquic raises for what is no QUIC
            yield from self._refuse()
            return
        if hello is not None:
            data = ClientHelloData(self.context, hello)
            yield TlsClienthelloHook(data)
            yield from self._hand_over(UDPLayer(self.context, ignore=True) if data.ignore_connection else self._ended())
        elif len(self._datagrams) >= MAX_HELLO_DATAGRAMS:
            yield from self._refuse()

    def _ended(self) -> Layer:
        """QUIC that ends here, to serve a page."""
        server = ServerQuicLayer(self.context)
        server.child_layer = ClientQuicLayer(self.context)
        return server

    def _hand_over(self, child: Layer) -> CommandGenerator[None]:
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(events.Start())
        for datagram in self._datagrams:
            yield from child.handle_event(events.DataReceived(self.context.client, datagram))
        self._datagrams.clear()

    def _refuse(self) -> CommandGenerator[None]:
        self._datagrams.clear()
        self._handle_event = self._ignore  # type: ignore[method-assign]
        yield commands.CloseConnection(self.context.client)

    def _ignore(self, event: events.Event) -> CommandGenerator[None]:  # noqa: ARG002  as mitmproxy calls it
        yield from ()
