"""mitmproxy's HTTP layer, with three changes.

- core/wire/heads.py parses the heads of HTTP/1 requests; `request` makes mitmproxy's request from the result.
- A request that comes in HTTP/2 goes on in HTTP/2, or not at all: HTTP/1 has no form for some of its fields
  (RFC 9113, section 10.3).
- Where no server answers a request, the gate sends its own answer instead of mitmproxy's error page.
"""

from __future__ import annotations

import time
from contextlib import suppress

from h11 import Data, EndOfMessage
from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import HttpLayer
from mitmproxy.proxy.layers.http import GetHttpConnection, HTTPMode, RegisterHttpConnection

from stoplist.core.decide import Reason, Verdict
from stoplist.core.wire.heads import MAX_HEAD, RequestHead, find_end
from stoplist.page.answers import Answer
from stoplist.page.refusals import UNREACHABLE, refusal
from stoplist.proxy.judge import Judge
from stoplist.proxy.mitm.private_names import (
    ChunkedReader,
    ErrorCode,
    Http1Server,
    HttpEvent,
    ReceiveBuffer,
    ReceiveHttp,
    RequestHeaders,
    ResponseProtocolError,
    make_body_reader,
)


def established() -> http.Response:
    """The answer to a CONNECT that becomes a tunnel."""
    now = time.time()
    return http.Response(b"HTTP/1.1", 200, b"Connection established", http.Headers(), b"", None, now, now)


def response(answer: Answer) -> http.Response:
    """A Stoplist answer as a mitmproxy response."""
    made = http.Response.make(answer.status, answer.body, http.Headers(answer.headers))
    if answer.status == 204:
        del made.headers["content-length"]  # RFC 9110, section 8.6
    return made


def answer(flow: http.HTTPFlow, answer: Answer) -> None:
    """Answer a request without a server."""
    flow.request.headers.pop("expect", None)  # otherwise mitmproxy asks for the body of a request that ends here
    flow.response = response(answer)
    if flow.request.method == "HEAD":
        flow.response.raw_content = b""  # the head keeps the length of the answer to a GET
    if is_multiplexed(flow.request):
        flow.response.headers.pop("Connection", None)  # RFC 9113, section 8.2.2


def is_multiplexed(request: http.Request) -> bool:
    """Whether a request came by HTTP/2 or HTTP/3."""
    return request.is_http2 or request.is_http3


def request(head: RequestHead) -> http.Request:
    """A parsed request head as a mitmproxy request."""
    return http.Request(
        host=head.target.address if head.target else "",
        port=head.port,
        method=head.method,
        scheme=head.scheme,
        authority=head.authority,
        path=head.path,
        http_version=b"HTTP/" + head.version,
        headers=http.Headers(head.fields),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def http_layer(context: Context, mode: HTTPMode, judge: Judge) -> HttpLayer:
    """mitmproxy's HTTP layer, with `Http1` as its parser of HTTP/1."""
    made = _Http(context, mode)
    if context.client.alpn != b"h2" and not (context.client.alpn or b"").startswith(b"h3"):
        made.connections[context.client] = Http1(context.fork(), judge)
    return made


class _Http(HttpLayer):
    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> CommandGenerator[None]:
        """Open a connection without TLS for requests of HTTP/2 as one of HTTP/2, through a parent proxy as well."""
        opening, reply = super().get_connection(event, reuse=reuse), None
        with suppress(StopIteration):
            while True:
                command = opening.send(reply)
                if self.context.client.alpn == b"h2":
                    for connection in self.connections:
                        if isinstance(connection, Server) and not connection.tls:
                            connection.alpn = b"h2"
                reply = yield command

    def register_connection(self, command: RegisterHttpConnection) -> CommandGenerator[None]:
        connection = command.connection
        if command.err is None and self.context.client.alpn == b"h2" and connection.alpn != b"h2":
            command.err = "the server does not speak HTTP/2"
            yield commands.CloseConnection(connection)
        yield from super().register_connection(command)


def is_refused(error: str) -> bool:
    """Whether a connection failed because a hook or `outbound` did not permit it."""
    return error.startswith(("Connection killed", Reason.DENIED.value))


class _Chunks(ChunkedReader):
    """A chunked body without its trailers, which mitmproxy does not support.

    An intermediary may discard trailers (RFC 9110, section 6.5.1).
    """

    def __call__(self, buffer: ReceiveBuffer) -> Data | EndOfMessage | None:
        event: Data | EndOfMessage | None = super().__call__(buffer)
        return EndOfMessage() if isinstance(event, EndOfMessage) else event


class Http1(Http1Server):
    """The client's side of HTTP/1: it reads each head strictly, then the hook `requestheaders` judges it."""

    def __init__(self, context: Context, judge: Judge) -> None:
        super().__init__(context)
        self._judge = judge

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError) and not self.response and event.code is ErrorCode.CONNECT_FAILED:
            if self.conn.state & ConnectionState.CAN_WRITE:
                answer = refusal(Reason.DENIED) if is_refused(event.message) else UNREACHABLE
                yield commands.SendData(self.conn, answer.as_http1())
                yield commands.CloseConnection(self.conn)
        else:
            yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        if not isinstance(event, events.DataReceived):
            yield from super().read_headers(event)
            return
        if event.data and b"\n" not in event.data and len(self.buf) <= MAX_HEAD:
            return
        data = bytes(self.buf)
        head = self._judge.read_head(data, client=self.context.client.peername[0])
        if head is None:
            return
        if isinstance(head, Verdict):
            yield commands.SendData(self.conn, self._judge.refuse(head).as_http1())
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        self.buf.maybe_extract_at_most(find_end(data) or 0)
        self.request = request(head)
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, head.length == 0))
        self.body_reader = _Chunks() if head.length is None else make_body_reader(head.length)
        self.state = self.read_body
        yield from self.state(event)
