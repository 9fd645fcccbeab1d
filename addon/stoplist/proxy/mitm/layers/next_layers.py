"""Next layers: the layers that serve a connection once its client has sent its first bytes.

  ProtocolDetection  keeps those bytes until they show the protocol
  Relayed       relays bytes, and inspects them until the conversation is over (core/wire/conversations.py)
  Refused       closes the connection
  TLS           mitmproxy's layer; it decrypts nothing unless the hook `tls_clienthello` says otherwise

Rules
  - No layer judges by itself: it asks the judge, or a hook of the add-on that asks the judge.
  - A layer connects to a server only after the names known by then are judged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer, NextLayer
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import HTTP_ALPNS

from stoplist.core.decide import CLOSED, NOT_FORWARDED, PROTOCOL, Verdict
from stoplist.core.wire.client_hello import HelloError, extensions_of
from stoplist.core.wire.conversations import (
    Conversation,
    OtherConversation,
    RefusedError,
    TlsConversation,
    Words,
    words_of,
)
from stoplist.core.wire.dtls_hello import is_dtls
from stoplist.core.wire.openings import (
    HESITATION_SECONDS,
    MAX_LINE,
    Opening,
    RequestSearch,
    is_other_at_its_end,
    is_text,
    may_be_tls,
    recognise,
)
from stoplist.proxy.judge import Judge
from stoplist.proxy.mitm.layers.dns_layer import Dns
from stoplist.proxy.mitm.layers.http_layer import http_layer
from stoplist.proxy.mitm.layers.quic_layer import Datagrams, JudgeHello, Quic
from stoplist.proxy.mitm.private_names import starts_like_quic
from stoplist.proxy.outbound.connector import CONNECT_SECONDS

DNS_PORT = 53
QUIC_PORTS = (80, 443, 8443)
"""UDP ports on which the gate allows HTTP/3 only: one datagram of another protocol could hide HTTP/3 that follows."""


class ProtocolDetection(NextLayer):
    """Asks the hook `next_layer` as mitmproxy does, and also when the client ends its side or a timeout passes."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.has_ended = False
        """Whether the client will send no more."""
        self.is_late = False
        """Whether the timeout has passed."""
        self.wait: float | None = None
        """How many seconds to wait for the server's first bytes, or for more from the client. None: no timeout."""
        self.hears = False
        """Whether the layer waits for the server."""
        self._wakeup: commands.RequestWakeup | None = None
        self._search = RequestSearch()
        self._searched = 0

    def has_request(self) -> bool:
        """Whether the client's bytes so far contain a request. The search reads each byte once."""
        new, self._searched = self.said[self._searched :], len(self.said)
        return self._search.finds(new + b"\n" if self.has_ended else new)

    @property
    def said(self) -> bytes:
        """The bytes that the client has sent so far."""
        return self.data_client()  # type: ignore[no-any-return,no-untyped-call]  # mitmproxy's

    @property
    def heard(self) -> bytes:
        """The bytes that the server has sent so far."""
        return self.data_server()  # type: ignore[no-any-return,no-untyped-call]  # mitmproxy's

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            self.is_late = event.command is self._wakeup
            yield from self._ask()
        elif isinstance(event, events.ConnectionClosed) and event.connection is self.context.client and self.said:
            self.events.append(event)
            self.has_ended = True
            yield from self._ask()
            if self.layer is None and self.wait is None:
                self.layer = Refused(self.context)
                yield from self._ask()
        else:
            yield from super()._handle_event(self._joined(event))
        if self.layer is None and self.wait is not None:
            yield from self._begin_to_wait(self.wait)

    def _joined(self, event: events.Event) -> events.Event:
        """The event, joined with the data that the same side sent just before.

        Without this, mitmproxy would join all pieces again with each piece that comes.
        """
        last = self.events[-1] if self.events else None
        if not isinstance(event, events.DataReceived) or not isinstance(last, events.DataReceived):
            return event
        if event.connection is not last.connection:
            return event
        self.events.pop()
        return events.DataReceived(event.connection, last.data + event.data)

    def _begin_to_wait(self, seconds: float) -> CommandGenerator[None]:
        if self.hears and self.context.server.timestamp_start is None:
            error = yield commands.OpenConnection(self.context.server)
            if error is not None:
                self.layer = Refused(self.context)
                yield from self._ask()
                return
        if self._wakeup is None or self._wakeup.delay != seconds:
            self._wakeup = commands.RequestWakeup(seconds)
            yield self._wakeup

    def _ask(self) -> CommandGenerator[None]:
        yield from super()._ask()  # type: ignore[no-untyped-call]  # mitmproxy's
        if self.layer is not None:
            self._handle = self.handle_event = self._hand_on  # type: ignore[method-assign]

    def _hand_on(self, event: events.Event) -> CommandGenerator[None]:
        assert self.layer is not None
        if not isinstance(event, events.Wakeup) or event.command is not self._wakeup:
            yield from self.layer.handle_event(event)


def next_layer(detection: NextLayer, judge: Judge, judge_hello: JudgeHello, *, ends_here: bool) -> Layer | None:
    """The layer for the client's first bytes; None as long as they do not show the protocol.

    Where a tunnel `ends_here`, for a page, the gate serves TLS and HTTP in it, and relays nothing.
    """
    context = detection.context
    if context.client.tls_established and context.client.alpn in HTTP_ALPNS:
        return http_layer(context, HTTPMode.transparent, judge)
    if context.client.transport_protocol == "udp":
        data: bytes = detection.data_client()
        return _next_udp_layer(context, data, judge, judge_hello)
    if not isinstance(detection, ProtocolDetection):  # mitmproxy made it, such as for a CONNECT after other requests
        return ProtocolDetection(context)
    data = detection.said
    if _leads_to(context, DNS_PORT) and isinstance(context.layers[0], modes.TransparentProxy) and data:
        return Dns(context, judge)
    match recognise(data):
        case Opening.TLS if detection.heard or detection.is_late:  # a TLS server sends nothing before the client
            return _refused(context, judge, PROTOCOL)
        case Opening.TLS:
            detection.wait = CONNECT_SECONDS
            return when_whole(data, functools.partial(tls_layer, judge=judge, judge_hello=judge_hello), context)
        case Opening.HTTP1:
            return http_layer(context, HTTPMode.transparent, judge)
        case Opening.HTTP2:
            context.client.alpn = context.server.alpn = b"h2"
            return http_layer(context, HTTPMode.transparent, judge)
        case Opening.ENDLESS:
            return Refused(context)
    other = _next_other_layer(detection, judge)
    return _refused(context, judge, NOT_FORWARDED) if ends_here and isinstance(other, TCPLayer) else other


def _next_other_layer(detection: ProtocolDetection, judge: Judge) -> Layer | None:
    """The layer for a client that has sent nothing yet, or bytes that are neither TLS nor HTTP. None: wait."""
    context, tunnels = detection.context, judge.policy.tunnels
    data, words = detection.said, words_of(detection.heard)
    is_other = recognise(data) is Opening.OTHER or (detection.has_ended and is_other_at_its_end(data))
    if may_be_tls(data) and not is_other:
        if detection.is_late:
            return _refused(context, judge, PROTOCOL)
        detection.wait = CONNECT_SECONDS
        return None
    if words is Words.OTHER or is_other:
        if tunnels.other == "refuse":
            return _refused(context, judge, CLOSED)
        if words is Words.OTHER:
            return TCPLayer(context, ignore=True)
    elif words is Words.WEB:
        return Refused(context)
    is_held = is_text(data) and context.server.address is not None and tunnels.is_web(context.server.address[1])
    if is_other and not is_held:
        return Relayed(context, judge, OtherConversation())
    if is_other:
        if detection.is_late or len(data) > MAX_LINE or words is not Words.INCOMPLETE or detection.has_request():
            return _refused(context, judge, PROTOCOL)
        detection.wait, detection.hears = CONNECT_SECONDS, True
    elif data and is_held:
        if detection.is_late:
            return _refused(context, judge, PROTOCOL)
        detection.wait = CONNECT_SECONDS
    elif data:
        if detection.is_late:
            return Relayed(context, judge, OtherConversation())
        detection.wait = HESITATION_SECONDS
    return None


def _refused(context: Context, judge: Judge, verdict: Verdict) -> Layer:
    judge.count(verdict)
    return Refused(context)


def when_whole(data: bytes, make: Callable[[Context], Layer], context: Context) -> Layer | None:
    """A layer for TLS once the ClientHello is whole; mitmproxy would parse it anew with each piece that comes."""
    try:
        return make(context) if extensions_of(data) is not None else None
    except HelloError:
        return Refused(context)


def _next_udp_layer(context: Context, data: bytes, judge: Judge, judge_hello: JudgeHello) -> Layer:
    if context.client.tls_established:
        return Refused(context)  # inside QUIC the gate serves HTTP/3 only
    if _leads_to(context, DNS_PORT):
        return Dns(context, judge)
    if is_dtls(data):
        return Datagrams(context, judge, judge_hello, is_quic=_leads_to(context, *QUIC_PORTS))
    if _leads_to(context, *QUIC_PORTS) or starts_like_quic(data, None):
        return Quic(context, judge, judge_hello)
    return Datagrams(context, judge, judge_hello, is_quic=False)


def _leads_to(context: Context, *ports: int) -> bool:
    return context.server.address is not None and context.server.address[1] in ports


def tls_layer(context: Context, judge: Judge, judge_hello: JudgeHello) -> Layer:
    """TLS from a client in a tunnel: the hook `tls_clienthello` says whether the gate decrypts it."""
    server = ServerTLSLayer(context)
    server.child_layer = _ClientTls(context, judge, judge_hello)
    return server


class _ClientTls(ClientTLSLayer):
    """mitmproxy's layer; where the gate does not decrypt, it inspects the TLS handshake while it is in the clear."""

    def __init__(self, context: Context, judge: Judge, judge_hello: JudgeHello) -> None:
        super().__init__(context)
        self._judge = judge
        self._judge_hello = judge_hello

    def receive_handshake_data(self, data: bytes) -> CommandGenerator[tuple[bool, str | None]]:
        result = yield from super().receive_handshake_data(data)
        if isinstance(self.child_layer, TCPLayer):  # it has had no event yet
            judged = functools.partial(self._judge_hello, self.context)
            conversation = TlsConversation(judged, may_be_other=self._judge.policy.tunnels.other == "relay")
            self.child_layer = Relayed(self.context, self._judge, conversation)
        return result


class Relayed(TCPLayer):
    """Relays the bytes of both ends. The conversation decides which of them pass, until it is over."""

    def __init__(self, context: Context, judge: Judge, conversation: Conversation) -> None:
        super().__init__(context, ignore=True)
        self._judge = judge
        self._conversation = conversation

    def relay_messages(self, event: events.Event) -> CommandGenerator[None]:
        is_server = isinstance(event, events.ConnectionEvent) and event.connection == self.context.server
        conversation = self._conversation
        try:
            if isinstance(event, events.DataReceived):
                data = (conversation.from_server if is_server else conversation.from_client)(event.data)
                if not data:
                    return
                event = events.DataReceived(event.connection, data)
            elif isinstance(event, events.ConnectionClosed) and not is_server:
                conversation.client_ended()
        except RefusedError as error:
            self._judge.count(error.verdict)
            self._handle_event = self.done
            yield commands.CloseConnection(self.context.server)
            yield commands.CloseConnection(self.context.client)
            return
        if isinstance(event, events.ConnectionClosed) and is_server and conversation.held_back:
            yield commands.SendData(self.context.client, conversation.held_back)
        yield from super().relay_messages(event)


class Refused(Layer):
    """Closes the client's connection."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
