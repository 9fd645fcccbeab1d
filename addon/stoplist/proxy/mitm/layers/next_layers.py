"""Next layers: what serves a connection once its client has said its first bytes.

  Undecided     keeps those bytes until they say what they are
  Relayed       carries bytes, and looks at them as long as core/wire/conversations.py has a say in it
  Refused       closes the connection
  TLS           mitmproxy's, which stays closed to us unless the hook `tls_clienthello` says otherwise

Rules
  - No layer judges by itself: it asks the judge, or a hook of the add-on that does.
  - Nothing is connected before the names known by then are judged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from mitmproxy.net.tls import starts_like_dtls_record
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer, NextLayer
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer, UDPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import HTTP_ALPNS

from stoplist.core.decide import CLOSED, PROTOCOL, Verdict
from stoplist.core.wire.client_hello import HelloError, extensions_of
from stoplist.core.wire.conversations import (
    Conversation,
    OtherConversation,
    RefusedError,
    TlsConversation,
    Words,
    words_of,
)
from stoplist.core.wire.openings import (
    MAX_LINE,
    Opening,
    RequestSearch,
    is_other_at_its_end,
    is_text,
    may_be_tls,
    recognise,
)
from stoplist.proxy.judge import Judge
from stoplist.proxy.lane.tunnel import HESITATION_SECONDS
from stoplist.proxy.mitm.layers.dns_layer import Dns
from stoplist.proxy.mitm.layers.http_layer import http_layer
from stoplist.proxy.mitm.layers.quic_layer import Datagrams, JudgeHello, Quic
from stoplist.proxy.mitm.private_names import starts_like_quic
from stoplist.proxy.outbound.connector import CONNECT_SECONDS

DNS_PORT = 53
QUIC_PORTS = (80, 443, 8443)
"""UDP ports on which there is HTTP/3 or nothing: one datagram of something else would hide it."""


class Undecided(NextLayer):
    """Asks `next_layer` as mitmproxy does, and also when the client will send no more, or says nothing for long."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.has_ended = False
        """Whether the client will send no more."""
        self.is_late = False
        """Whether it was waited for long enough."""
        self.wait: float | None = None
        """For how many seconds the server's first words are waited for, or more of the client's; None: for ever."""
        self.hears = False
        """Whether it is the server that is waited for."""
        self._wakeup: commands.RequestWakeup | None = None
        self._search = RequestSearch()
        self._searched = 0

    def has_request(self) -> bool:
        """Whether there is a request in what the client has said. Each byte is looked at once."""
        new, self._searched = self.said[self._searched :], len(self.said)
        return self._search.finds(new + b"\n" if self.has_ended else new)

    @property
    def said(self) -> bytes:
        """What the client has said so far."""
        return self.data_client()  # type: ignore[no-any-return,no-untyped-call]  # mitmproxy's

    @property
    def heard(self) -> bytes:
        """What the server has said so far."""
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
        """The event, with what the same side has said just before: mitmproxy joins all pieces with each that comes."""
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


def next_layer(undecided: NextLayer, judge: Judge, judge_hello: JudgeHello) -> Layer | None:
    """What the client's first bytes ask for; None as long as they do not say."""
    if not isinstance(undecided, Undecided):  # mitmproxy made one, such as for a CONNECT after other requests
        return Undecided(undecided.context)
    context, data = undecided.context, undecided.said
    if context.client.tls_established and context.client.alpn in HTTP_ALPNS:
        return http_layer(context, HTTPMode.transparent, judge)
    if context.client.transport_protocol == "udp":
        return _next_udp_layer(context, data, judge, judge_hello)
    if _leads_to(context, DNS_PORT) and isinstance(context.layers[0], modes.TransparentProxy) and data:
        return Dns(context, judge)
    match recognise(data):
        case Opening.TLS if undecided.heard:
            return _refused(context, judge, PROTOCOL)  # a server of TLS says nothing before the client
        case Opening.TLS if undecided.is_late:
            return _refused(context, judge, PROTOCOL)
        case Opening.TLS:
            undecided.wait = CONNECT_SECONDS
            return when_whole(data, functools.partial(tls_layer, judge=judge, judge_hello=judge_hello), context)
        case Opening.HTTP1:
            return http_layer(context, HTTPMode.transparent, judge)
        case Opening.HTTP2:
            context.client.alpn = context.server.alpn = b"h2"
            return http_layer(context, HTTPMode.transparent, judge)
        case Opening.ENDLESS:
            return Refused(context)
    return _next_other_layer(undecided, judge)


def _next_other_layer(undecided: Undecided, judge: Judge) -> Layer | None:
    """What may become of a connection whose client has said nothing yet, or what is neither TLS nor HTTP."""
    context, tunnels = undecided.context, judge.policy.tunnels
    data, words = undecided.said, words_of(undecided.heard)
    is_other = recognise(data) is Opening.OTHER or (undecided.has_ended and is_other_at_its_end(data))
    if may_be_tls(data) and not is_other:
        if undecided.is_late:
            return _refused(context, judge, PROTOCOL)
        undecided.wait = CONNECT_SECONDS
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
        if undecided.is_late or len(data) > MAX_LINE or words is not Words.INCOMPLETE or undecided.has_request():
            return _refused(context, judge, PROTOCOL)
        undecided.wait, undecided.hears = CONNECT_SECONDS, True
    elif data and is_held:
        if undecided.is_late:
            return _refused(context, judge, PROTOCOL)
        undecided.wait = CONNECT_SECONDS
    elif data:
        if undecided.is_late:
            return Relayed(context, judge, OtherConversation())
        undecided.wait = HESITATION_SECONDS
    return None


def _refused(context: Context, judge: Judge, verdict: Verdict) -> Layer:
    judge.count(verdict)
    return Refused(context)


def when_whole(data: bytes, make: Callable[[Context], Layer], context: Context) -> Layer | None:
    """A layer for TLS once the ClientHello is whole: mitmproxy reads it anew with each byte, however long."""
    try:
        return make(context) if extensions_of(data) is not None else None
    except HelloError:
        return Refused(context)


def _next_udp_layer(context: Context, data: bytes, judge: Judge, judge_hello: JudgeHello) -> Layer:
    if context.client.tls_established:
        return Refused(context)  # inside QUIC there is HTTP/3 or nothing
    if starts_like_dtls_record(data):
        return tls_layer(context, judge, judge_hello)
    if _leads_to(context, DNS_PORT):
        return Dns(context, judge)
    if _leads_to(context, *QUIC_PORTS) or starts_like_quic(data, None):
        return Quic(context, judge, judge_hello)
    return Datagrams(context, judge, judge_hello, is_quic=False)


def _leads_to(context: Context, *ports: int) -> bool:
    return context.server.address is not None and context.server.address[1] in ports


def tls_layer(context: Context, judge: Judge, judge_hello: JudgeHello) -> Layer:
    """TLS or DTLS from a client in a tunnel: `tls_clienthello` says whether it stays closed to us."""
    server = ServerTLSLayer(context)
    server.child_layer = _ClientTls(context, judge, judge_hello)
    return server


class _ClientTls(ClientTLSLayer):
    """mitmproxy's, but what stays closed to us is looked at until it is encrypted."""

    def __init__(self, context: Context, judge: Judge, judge_hello: JudgeHello) -> None:
        super().__init__(context)
        self._judge = judge
        self._judge_hello = judge_hello

    def receive_handshake_data(self, data: bytes) -> CommandGenerator[tuple[bool, str | None]]:
        result = yield from super().receive_handshake_data(data)
        if isinstance(self.child_layer, TCPLayer):  # it was told nothing yet
            may_be_other = self._judge.policy.tunnels.other == "relay"
            conversation = TlsConversation(
                functools.partial(self._judge_hello, self.context), may_be_other=may_be_other
            )
            self.child_layer = Relayed(self.context, self._judge, conversation)
        elif isinstance(self.child_layer, UDPLayer):
            self.child_layer = Datagrams(self.context, self._judge, self._judge_hello, is_quic=False)
        return result


class Relayed(TCPLayer):
    """Carries what both ends say, and lets the conversation decide what of it until that is over."""

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
