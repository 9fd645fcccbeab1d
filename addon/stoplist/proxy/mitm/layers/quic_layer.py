"""QUIC, in modes where whole packets come in: the gate judges the names in its ClientHellos (RFC 9000, RFC 9001).

  Quic          a flow that begins with QUIC: after its first ClientHello the gate relays the flow, or ends it here
  Datagrams     relays a flow of QUIC or of another protocol; the judge sees each ClientHello in it

quic_hellos.py has the rules for what may pass; quic_memory.py has what the gate remembers beyond one flow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # aioquic exports it by name only
from aioquic.quic.packet import encode_quic_version_negotiation, pull_quic_header
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers import ClientQuicLayer, ServerQuicLayer, UDPLayer
from mitmproxy.proxy.layers.quic import quic_parse_client_hello_from_datagrams
from mitmproxy.proxy.layers.tls import TlsClienthelloHook
from mitmproxy.tls import ClientHelloData

from stoplist.core.decide import Verdict
from stoplist.core.wire.conversations import RefusedError
from stoplist.core.wire.dtls_hello import DtlsHellos
from stoplist.proxy.judge import Judge
from stoplist.proxy.mitm.layers.quic_hellos import MAX_HELLO_DATAGRAMS, Hellos
from stoplist.proxy.mitm.layers.quic_memory import QuicMemory
from stoplist.proxy.mitm.private_names import SUPPORTED_QUIC_VERSIONS_SERVER

type JudgeHello = Callable[[Context, Iterable[tuple[int, bytes]]], Verdict]
"""Gives the verdict for a ClientHello that follows another one, from its extensions. Raises HostError."""

_MEMORY = QuicMemory()
"""Of this process: each flow must know what came in the others."""


class Quic(Layer):
    """QUIC from a client. It keeps datagrams until they hold a whole ClientHello, which the hook judges.

    mitmproxy's own layer asks the hook as well. But once it has a connection, it cannot relay that undecrypted.
    """

    def __init__(self, context: Context, judge: Judge, judge_hello: JudgeHello) -> None:
        super().__init__(context)
        self._datagrams: list[bytes] = []
        self._carried = functools.partial(Datagrams, context, judge, judge_hello, is_quic=True)

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
        except (ValueError, TypeError, AssertionError):  # aioquic raises these for data that is not QUIC
            yield from self._refuse()
            return
        if hello is not None:
            data = ClientHelloData(self.context, hello)
            yield TlsClienthelloHook(data)
            yield from self._hand_over(self._carried() if data.ignore_connection else self._ended())
        elif len(self._datagrams) >= MAX_HELLO_DATAGRAMS:
            yield from self._refuse()

    def _ended(self) -> Layer:
        """The layers that end QUIC here, to serve a page."""
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


class Datagrams(UDPLayer):
    """Relays datagrams. In a flow of QUIC it drops packets of versions that the gate cannot read.

    DTLS is read in any flow: its records never look like the packets of QUIC that hold a ClientHello.
    """

    def __init__(self, context: Context, judge: Judge, judge_hello: JudgeHello, *, is_quic: bool) -> None:
        super().__init__(context, ignore=True)
        self._judge = judge
        judged = functools.partial(judge_hello, context)
        assert context.server.address is not None
        self._hellos = Hellos(judged, _MEMORY, (context.server.address[0], context.server.address[1]), is_quic=is_quic)
        self._dtls_hellos = DtlsHellos(judged)

    def relay_messages(self, event: events.Event) -> CommandGenerator[None]:
        if not isinstance(event, events.DataReceived):
            yield from super().relay_messages(event)
            return
        try:
            may_go = self._may_go(event)
        except RefusedError as error:
            self._judge.count(error.verdict)
            self._handle_event = self.done
            yield commands.CloseConnection(self.context.server)
            yield commands.CloseConnection(self.context.client)
            return
        for datagram in may_go:
            yield from super().relay_messages(events.DataReceived(event.connection, datagram))

    def _may_go(self, event: events.DataReceived) -> list[bytes]:
        """The datagrams that may pass now, on the side of this one. Raises RefusedError."""
        if event.connection == self.context.client:
            return [each for given in self._dtls_hellos.take(event.data) for each in self._hellos.take(given)]
        self._dtls_hellos.hear(event.data)
        return self._hellos.hear(event.data)
