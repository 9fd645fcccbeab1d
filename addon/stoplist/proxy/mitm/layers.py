"""Layers: where connections begin, in place of mitmproxy's own first layers.

mitmproxy builds a connection from layers: events go in, commands come out, no I/O. Its own first
layers would contact a server before its name is judged, take a ClientHello of which one byte has
arrived for raw bytes, lose the half-close of a tunnel, and read a request in another way than we do.

  Explicit      an HTTP proxy connection: CONNECT is answered here, anything else goes to mitmproxy's HTTP
  Socks5        connects only what may pass; a listed host gets its page
  Transparent   connects nothing before the client's first bytes have been judged
  Continued     goes on with a tunnel that the lane has opened
  Relayed       carries bytes, and looks at them as long as core/wire/conversations.py has a say in it
  Dns, Quic     in modules of their own, as is our reading of HTTP/1

Rules
  - No layer judges by itself: it asks the judge, or a hook of the add-on that does.
  - Nothing is connected before the names known by then are judged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from mitmproxy import http
from mitmproxy.addons.next_layer import _starts_like_quic
from mitmproxy.net.http.http1 import assemble_response
from mitmproxy.net.tls import starts_like_dtls_record
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer, NextLayer
from mitmproxy.proxy.layers import ClientTLSLayer, DNSLayer, ServerTLSLayer, TCPLayer, UDPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._hooks import HttpConnectedHook, HttpConnectErrorHook, HttpConnectHook
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.proxy.layers.tls import HTTP_ALPNS

from stoplist.core.decide import CLOSED, PROTOCOL, Action, Reason, Verdict, strictest
from stoplist.core.hosts import Host
from stoplist.core.wire.client_hello import HelloError, extensions_of
from stoplist.core.wire.conversations import (
    Conversation,
    OtherConversation,
    RefusedError,
    TlsConversation,
    Words,
    words_of,
)
from stoplist.core.wire.heads import MAX_HEAD, RequestHead, find_end
from stoplist.core.wire.openings import MAX_LINE, Opening, asks, is_other_at_its_end, is_text, may_be_tls, recognise
from stoplist.page.refusals import UNREACHABLE, refusal
from stoplist.proxy.judge import Judge
from stoplist.proxy.lane.tunnel import HESITATION_SECONDS
from stoplist.proxy.log.log_allowlist import Faults
from stoplist.proxy.mitm.dns_layer import Dns
from stoplist.proxy.mitm.http_layer import established, http_layer, is_refused, request, response
from stoplist.proxy.mitm.quic_layer import Datagrams, JudgeHello, Quic
from stoplist.proxy.outbound.connector import CONNECT_SECONDS

DNS_PORT = 53
QUIC_PORTS = (80, 443, 8443)
"""UDP ports on which there is HTTP/3 or nothing: one datagram of something else would hide it."""


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
        if isinstance(event, events.DataReceived):
            conversation = self._conversation
            try:
                data = (conversation.from_server if is_server else conversation.from_client)(event.data)
            except RefusedError as error:
                self._judge.count(error.verdict)
                self._handle_event = self.done
                yield commands.CloseConnection(self.context.server)
                yield commands.CloseConnection(self.context.client)
                return
            if not data:
                return
            event = events.DataReceived(event.connection, data)
        elif isinstance(event, events.ConnectionClosed) and is_server and self._conversation.held_back:
            yield commands.SendData(self.context.client, self._conversation.held_back)
        yield from super().relay_messages(event)


class Explicit(Layer):
    """An explicit proxy: each CONNECT becomes a tunnel with nothing of HTTP in it, in `HTTPMode.upstream`
    through the parent proxy.
    """

    def __init__(self, context: Context, judge: Judge, mode: HTTPMode) -> None:
        super().__init__(context)
        self._judge = judge
        self._mode = mode
        self._data = b""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            self._data += event.data
            if not event.data or b"\n" in event.data or self._data[:1] == b"\x16" or len(self._data) > MAX_HEAD:
                yield from self._begin()
        elif isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)

    def _begin(self) -> CommandGenerator[None]:
        if self._data[:1] == b"\x16" and not self.context.client.tls:
            outer = _when_whole(self._data, self._tls, self.context)
            if outer is not None:
                yield from self._hand_over(outer, self._data)
            return
        # What TLS to the gate itself agreed on says nothing of what a tunnel in it holds.
        self.context.client.alpn = None
        head = self._judge.read_head(self._data, client=self.context.client.peername[0])
        if head is None:
            return
        if isinstance(head, Verdict):
            yield from self._answer(response(self._judge.refuse(head)))
        elif head.method == b"CONNECT":
            yield from self._connect(head)
        else:
            yield from self._hand_over(http_layer(self.context, self._mode, self._judge), self._data)

    def _tls(self, context: Context) -> Layer:
        outer = ClientTLSLayer(context)
        outer.child_layer = Explicit(context, self._judge, self._mode)
        return outer

    def _connect(self, head: RequestHead) -> CommandGenerator[None]:
        rest = self._data[find_end(self._data) :]
        flow = http.HTTPFlow(self.context.client, self.context.server)
        flow.request = request(head)
        yield HttpConnectHook(flow)
        if flow.error is not None:
            yield commands.CloseConnection(self.context.client)
            return
        if flow.response is None or flow.response.status_code == 200:
            self.context.server.address = (flow.request.host, flow.request.port)
            yield from self._hand_over(self._opening(flow), rest.lstrip(b"\r\n"))
        else:
            yield HttpConnectErrorHook(flow)
            self._data = rest
            yield from self._answer(flow.response)

    def _opening(self, flow: http.HTTPFlow) -> Layer:
        """What opens the tunnel, through the parent proxy if there is one."""
        if self._mode is not HTTPMode.upstream:
            return _Connect(self.context, flow)
        mode = self.context.client.proxy_mode
        assert isinstance(mode, mode_specs.UpstreamMode)
        self.context.server.via = (mode.scheme, mode.address)
        parent = HttpUpstreamProxy.make(self.context, send_connect=True)
        return (parent / _Connect(self.context, flow))[0]

    def _answer(self, answer: http.Response) -> CommandGenerator[None]:
        """Answer without a tunnel. Only who is asked for a password may ask again on this connection."""
        yield commands.SendData(self.context.client, assemble_response(answer))
        if answer.status_code != 407:
            yield commands.CloseConnection(self.context.client)
            self._handle_event = Refused(self.context).handle_event  # type: ignore[method-assign]
        elif self._data:
            yield from self._begin()

    def _hand_over(self, child: Layer, data: bytes) -> CommandGenerator[None]:
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        self._data = b""
        yield from child.handle_event(events.Start())
        if data:
            yield from child.handle_event(events.DataReceived(self.context.client, data))


class _Connect(Layer):
    """Opens a tunnel and answers its CONNECT. Nothing is opened where `flow` has its answer: a page is served."""

    def __init__(self, context: Context, flow: http.HTTPFlow) -> None:
        super().__init__(context)
        self._flow = flow

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        assert isinstance(event, events.Start)
        error = None
        if self._flow.response is None:
            error = yield commands.OpenConnection(self.context.server)
        if error is None:
            self._flow.response = established()
            child: Layer = _Undecided(self.context)
            yield HttpConnectedHook(self._flow)
        else:  # what was refused was counted where it was refused
            self._flow.response = response(refusal(Reason.DENIED) if is_refused(error) else UNREACHABLE)
            child = Refused(self.context)
            yield HttpConnectErrorHook(self._flow)
        yield commands.SendData(self.context.client, assemble_response(self._flow.response))
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(events.Start())


class _Undecided(NextLayer):
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

    @property
    def _said(self) -> bytes:
        """What the client has said so far."""
        return self.data_client()  # type: ignore[no-any-return,no-untyped-call]  # mitmproxy's

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            self.is_late = event.command is self._wakeup
            yield from self._ask()
        elif isinstance(event, events.ConnectionClosed) and event.connection is self.context.client and self._said:
            self.events.append(event)
            self.has_ended = True
            yield from self._ask()
            if self.layer is None and self.wait is None:
                self.layer = Refused(self.context)
                yield from self._ask()
        else:
            yield from super()._handle_event(event)
        if self.layer is None and self.wait is not None:
            yield from self._begin_to_wait(self.wait)

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


class _Tunnel(modes.DestinationKnown):
    """A connection whose destination is known before its first byte."""

    def _start_child(self) -> CommandGenerator[str | None]:
        self.child_layer = _Undecided(self.context)
        self._handle_event = self.child_layer.handle_event  # type: ignore[method-assign]
        yield from self.child_layer.handle_event(events.Start())
        return None


class Socks5(modes.Socks5Proxy, _Tunnel):
    """SOCKS: connects what may pass, and lets a listed host's client ask for its page."""

    def __init__(self, context: Context, judge: Judge) -> None:
        super().__init__(context)
        self._judge = judge

    def finish_start(self) -> CommandGenerator[str | None]:
        error = yield from self._open()
        if error:
            self._handle_event = self.done
            return error
        return (yield from self._start_child())

    def _open(self) -> CommandGenerator[str | None]:
        assert self.context.server.address is not None
        name, port = self.context.server.address
        verdict = self._judge.verdict(name, client=self.context.client.peername[0])
        if verdict.action is Action.STOP:
            self.context.server.address = (Host.parse(name).address, port)
            return None  # counted when it asks for a page
        if not self._judge.policy.tunnels.permits(port):
            verdict = strictest((verdict, CLOSED))
        self._judge.count(verdict)
        if verdict.action is Action.REFUSE:
            return "refused"
        self.context.server.address = (Host.parse(name).address, port)
        error: str | None = yield commands.OpenConnection(self.context.server)
        return error


class Continued(Layer):
    """A tunnel to `address`, (host, port), that the lane opened, and mitmproxy serves from its first bytes on."""

    def __init__(self, context: Context, address: tuple[str, int]) -> None:
        super().__init__(context)
        self.context.server.address = address

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        assert isinstance(event, events.Start)
        error = yield commands.OpenConnection(self.context.server)
        child: Layer = _Undecided(self.context) if error is None else Refused(self.context)
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(events.Start())


class Transparent(modes.TransparentProxy, _Tunnel):
    """A redirected connection: only its first bytes say what host it is for."""

    def finish_start(self) -> CommandGenerator[str | None]:
        return (yield from self._start_child())


class Refused(Layer):
    """Closes the client's connection."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


class Guarded:
    """What mitmproxy hands all events of a connection to: a fault in a layer ends the connection.

    mitmproxy makes a task of each hook. Where `run_now` can, it runs hooks at once, without one.
    """

    def __init__(self, first: Layer, faults: Faults, run_now: Callable[[commands.StartHook], bool] | None) -> None:
        self.context = first.context
        self._first = first
        self._faults = faults
        self._run_now = run_now
        self._failed = False

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self._failed:
            return
        waiting = [event]
        try:
            while waiting:
                for command in self._first.handle_event(waiting.pop(0)):
                    if self._run_now and isinstance(command, commands.StartHook) and self._run_now(command):
                        if command.blocking:
                            waiting.append(events.HookCompleted(command))
                    else:
                        yield command
        except Exception as error:
            self._failed = True
            self._faults.add("a layer", error)
            yield commands.CloseConnection(self.context.client)


def first_layer(top: Layer, judge: Judge) -> Layer:
    """What takes the place of `top`, the layer that mitmproxy begins a connection with."""
    context = top.context
    context.layers.clear()
    match top:
        case modes.HttpProxy():
            return Explicit(context, judge, HTTPMode.regular)
        case modes.HttpUpstreamProxy():
            return Explicit(context, judge, HTTPMode.upstream)
        case modes.Socks5Proxy():
            return Socks5(context, judge)
        case modes.TransparentProxy():
            return Transparent(context)
        case DNSLayer():
            return Dns(context, judge)
    context.layers.append(top)
    return top


def next_layer(undecided: NextLayer, judge: Judge, judge_hello: JudgeHello) -> Layer | None:
    """What the client's first bytes ask for; None as long as they do not say."""
    context, data = undecided.context, undecided.data_client()
    if context.client.tls_established and context.client.alpn in HTTP_ALPNS:
        return http_layer(context, HTTPMode.transparent, judge)
    if context.client.transport_protocol == "udp":
        return _next_udp_layer(context, data, judge, judge_hello)
    if _leads_to(context, DNS_PORT) and isinstance(context.layers[0], Transparent) and data:
        return Dns(context, judge)
    match recognise(data):
        case Opening.TLS:
            return _when_whole(data, functools.partial(tls_layer, judge=judge, judge_hello=judge_hello), context)
        case Opening.HTTP1:
            return http_layer(context, HTTPMode.transparent, judge)
        case Opening.HTTP2:
            context.client.alpn = context.server.alpn = b"h2"
            return http_layer(context, HTTPMode.transparent, judge)
        case Opening.ENDLESS:
            return Refused(context)
    return _next_other_layer(undecided, judge)


def _next_other_layer(undecided: NextLayer, judge: Judge) -> Layer | None:
    """What may become of a connection whose client has said nothing yet, or what is neither TLS nor HTTP."""
    context, tunnels = undecided.context, judge.policy.tunnels
    data, words = undecided.data_client(), words_of(undecided.data_server())
    waiting = undecided if isinstance(undecided, _Undecided) else None
    has_ended = waiting is not None and waiting.has_ended
    is_other = recognise(data) is Opening.OTHER or (has_ended and is_other_at_its_end(data))
    if may_be_tls(data) and not is_other:
        return None
    if words is Words.OTHER or is_other:
        if tunnels.other == "refuse":
            return _refused(context, judge, CLOSED)
        if words is Words.OTHER:
            return TCPLayer(context, ignore=True)
    elif words is Words.WEB:
        return Refused(context)
    is_held = is_text(data) and context.server.address is not None and tunnels.is_web(context.server.address[1])
    if is_other and (not is_held or waiting is None):
        return Relayed(context, judge, OtherConversation())
    if waiting is None:
        return None
    if is_other:
        if waiting.is_late or len(data) > MAX_LINE or words is not Words.INCOMPLETE or asks(data):
            return _refused(context, judge, PROTOCOL)
        waiting.wait, waiting.hears = CONNECT_SECONDS, True
    elif data and is_held:
        if waiting.is_late:
            return _refused(context, judge, PROTOCOL)
        waiting.wait = CONNECT_SECONDS
    elif data and is_text(data):
        if waiting.is_late:
            return Relayed(context, judge, OtherConversation())
        waiting.wait = HESITATION_SECONDS
    return None


def _refused(context: Context, judge: Judge, verdict: Verdict) -> Layer:
    judge.count(verdict)
    return Refused(context)


def _when_whole(data: bytes, make: Callable[[Context], Layer], context: Context) -> Layer | None:
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
    if _leads_to(context, *QUIC_PORTS) or _starts_like_quic(data, None):
        return Quic(context, judge, judge_hello)
    return Datagrams(context, judge, judge_hello, is_quic=False)


def _leads_to(context: Context, *ports: int) -> bool:
    return context.server.address is not None and context.server.address[1] in ports
