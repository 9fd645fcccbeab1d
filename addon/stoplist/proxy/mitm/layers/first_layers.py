"""First layers: the layers with which a connection begins, in place of mitmproxy's own first layers.

mitmproxy builds a connection from layers: events go in, commands come out, no I/O. Its own first layers would
  - contact a server before its name is judged,
  - take a ClientHello for raw bytes when only its first byte has arrived,
  - lose the half-close of a tunnel,
  - and parse a request in another way than core/wire/heads.py does.

  Explicit      an HTTP proxy connection: it answers CONNECT itself, and leaves the rest to mitmproxy's HTTP layer
  Socks5        connects only to hosts that pass; a client that asks for a listed host gets the stop page
  Transparent   connects to a server only after the client's first bytes have been judged
  Continued     takes over a tunnel that the lane has opened
  Dns           in a module of its own

The module next_layers.py has the layers that follow the first bytes.

Rules
  - No layer judges by itself: it asks the judge, or a hook of the add-on that asks the judge.
  - A layer connects to a server only after the names known by then are judged.
"""

from __future__ import annotations

from mitmproxy import http
from mitmproxy.net.http.http1 import assemble_response
from mitmproxy.proxy import commands, events, mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers import ClientTLSLayer, DNSLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode

from stoplist.core.decide import CLOSED, Action, Verdict, strictest
from stoplist.core.hosts import Host
from stoplist.core.wire.heads import MAX_HEAD, RequestHead, find_end
from stoplist.page.asker import asker_in
from stoplist.page.refusals import refusal
from stoplist.proxy.judge import Judge
from stoplist.proxy.mitm.layers.dns_layer import Dns
from stoplist.proxy.mitm.layers.http_layer import answer_of_gate, cause_of, established, http_layer, request, response
from stoplist.proxy.mitm.layers.next_layers import ProtocolDetection, Refused, when_whole
from stoplist.proxy.mitm.private_names import (
    HttpConnectedHook,
    HttpConnectErrorHook,
    HttpConnectHook,
    HttpUpstreamProxy,
)


class Explicit(Layer):
    """An explicit proxy: each CONNECT becomes a tunnel outside mitmproxy's HTTP layer.

    In `HTTPMode.upstream` the tunnel leads through the parent proxy.
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
            outer = when_whole(self._data, self._tls, self.context)
            if outer is not None:
                yield from self._hand_over(outer, self._data)
            return
        # The ALPN protocol of TLS to the gate itself says nothing about the protocol in a tunnel.
        self.context.client.alpn = None
        head = self._judge.read_head(self._data, client=self.context.client.peername[0])
        if head is None:
            return
        if isinstance(head, Verdict):
            yield from self._answer(response(self._judge.refuse(head, asker_in(self._data))))
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
        """The layer that opens the tunnel, through the parent proxy if there is one."""
        if self._mode is not HTTPMode.upstream:
            return _Connect(self.context, flow)
        mode = self.context.client.proxy_mode
        assert isinstance(mode, mode_specs.UpstreamMode)
        self.context.server.via = (mode.scheme, mode.address)
        parent = HttpUpstreamProxy.make(self.context, send_connect=True)
        return (parent / _Connect(self.context, flow))[0]

    def _answer(self, answer: http.Response) -> CommandGenerator[None]:
        """Answer without a tunnel, and close the connection.

        Only where the answer asks for a password, the connection stays open for another request.
        """
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
    """Opens a tunnel and answers its CONNECT.

    Where `flow` has its answer already, the layer connects to no server: the gate serves a page in the tunnel.
    """

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
            child: Layer = ProtocolDetection(self.context)
            yield HttpConnectedHook(self._flow)
        else:  # a refusal was counted where it was made
            self._flow.response = response(refusal(cause_of(error)))
            child = Refused(self.context)
            yield HttpConnectErrorHook(self._flow)
        yield commands.SendData(self.context.client, assemble_response(self._flow.response))
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(events.Start())


class _Tunnel(modes.DestinationKnown):
    """A connection whose destination is known before its first byte."""

    def _start_child(self) -> CommandGenerator[str | None]:
        self.child_layer = ProtocolDetection(self.context)
        self._handle_event = self.child_layer.handle_event  # type: ignore[method-assign]
        yield from self.child_layer.handle_event(events.Start())
        return None


class Socks5(modes.Socks5Proxy, _Tunnel):
    """SOCKS: connects to hosts that pass. Where the host is listed, it lets the client ask for the stop page."""

    def __init__(self, context: Context, judge: Judge) -> None:
        super().__init__(context)
        self._judge = judge

    def _greet(self) -> CommandGenerator[None]:
        """Answer a browser that opens the address of the gate. SOCKS itself begins with no letter."""
        if not self.buf[:1].isalpha():
            yield from self.state_greet()
            return
        head = self._judge.read_head(self.buf, client=self.context.client.peername[0])
        if head is None:
            return
        asker = asker_in(self.buf)
        if isinstance(head, Verdict):
            answer = self._judge.refuse(head, asker)
        else:
            answer = answer_of_gate(self._judge, asker, head.path if head.target is None else b"")
        yield commands.SendData(self.context.client, answer.as_http1())
        yield commands.CloseConnection(self.context.client)
        self._handle_event = self.done

    state = _greet

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
            return None  # the gate counts it when the client asks for a page
        if not self._judge.policy.tunnels.permits(port):
            verdict = strictest((verdict, CLOSED))
        self._judge.count(verdict)
        if verdict.action is Action.REFUSE:
            return "refused"
        self.context.server.address = (Host.parse(name).address, port)
        error: str | None = yield commands.OpenConnection(self.context.server)
        return error


class Continued(Layer):
    """A tunnel to `address`, (host, port), that the lane opened. mitmproxy serves it from its first bytes on."""

    def __init__(self, context: Context, address: tuple[str, int]) -> None:
        super().__init__(context)
        self.context.server.address = address

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        assert isinstance(event, events.Start)
        error = yield commands.OpenConnection(self.context.server)
        child: Layer = ProtocolDetection(self.context) if error is None else Refused(self.context)
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(events.Start())


class Transparent(modes.TransparentProxy, _Tunnel):
    """A redirected connection: only its first bytes name its host."""

    def finish_start(self) -> CommandGenerator[str | None]:
        return (yield from self._start_child())


def first_layer(top: Layer, judge: Judge) -> Layer:
    """The layer that replaces `top`, with which mitmproxy begins a connection."""
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
