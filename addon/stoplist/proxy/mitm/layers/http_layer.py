"""mitmproxy's HTTP layer, with three changes.

- core/wire/heads.py parses the heads of HTTP/1 requests; `request` makes mitmproxy's request from the result.
- A request that comes in HTTP/2 goes on in HTTP/2, or not at all: HTTP/1 has no form for some of its fields
  (RFC 9113, section 10.3).
- Where no server answers a request, the gate sends its own answer instead of mitmproxy's error page, which would show
  the text of an error and the version of mitmproxy. An origin-form request that leads nowhere was for the gate itself.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from h11 import Data, EndOfMessage
from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import HttpLayer
from mitmproxy.proxy.layers.http import GetHttpConnection, HTTPMode, RegisterHttpConnection

from stoplist.core.decide import AMBIGUOUS, Reason, Verdict
from stoplist.core.wire.heads import MAX_HEAD, RequestHead, find_end
from stoplist.page.answers import Answer
from stoplist.page.asker import Asker, Kind, asker_in
from stoplist.page.refusals import Cause, Obstacle
from stoplist.proxy.judge import Judge
from stoplist.proxy.mitm.private_names import (
    ChunkedReader,
    ErrorCode,
    Http1Server,
    Http2Server,
    HttpEvent,
    ReceiveBuffer,
    ReceiveHttp,
    RequestHeaders,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseProtocolError,
    make_body_reader,
)
from stoplist.proxy.outbound.connector import NO_ADDRESS, OWN_ADDRESS

_OWN_ADDRESS_OF_MITMPROXY = "Unable to figure out where this request should be forwarded to."
"""The end of mitmproxy's error for a connection to itself, in its add-on `proxyserver`."""


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
    """mitmproxy's HTTP layer, with `Http1` as its parser of HTTP/1, and `Http2` for HTTP/2."""
    made = _Http(context, mode)
    if context.client.alpn == b"h2":
        made.connections[context.client] = Http2(context.fork(), judge)
    elif not (context.client.alpn or b"").startswith(b"h3"):
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


def cause_of(error: str) -> Cause:
    """The cause that the text of an error stands for: all that mitmproxy keeps of a connection that failed.

    >>> cause_of("the name has no address").name, cause_of("[Errno 111] Connection refused").name
    ('NO_ADDRESS', 'SILENT')
    """
    if error.startswith(("Connection killed", Reason.DENIED.value)):  # a hook or `outbound` did not permit it
        return Reason.DENIED
    if error == NO_ADDRESS:
        return Obstacle.NO_ADDRESS
    is_of_tls = error.startswith(("Certificate verify failed", "OpenSSL", "The remote server does not speak TLS"))
    return Obstacle.UNSAFE if is_of_tls else Obstacle.SILENT


def _cause_of(event: ResponseProtocolError, *, is_for_gate: bool) -> Cause | None:
    """The cause for an answer in place of mitmproxy's error page; None if mitmproxy would only end the stream.

    `is_for_gate` says that the request may be for the gate itself, and not for a site.
    """
    if event.code is ErrorCode.DESTINATION_UNKNOWN:
        return Obstacle.GATE
    if event.code is ErrorCode.CONNECT_FAILED:
        cause = cause_of(event.message)
        is_own = event.message.endswith((OWN_ADDRESS, _OWN_ADDRESS_OF_MITMPROXY))
        return Obstacle.GATE if is_own or (is_for_gate and cause is Obstacle.NO_ADDRESS) else cause
    status = event.code.http_status_code()
    if status is None:
        return None
    return AMBIGUOUS.reason if status < 500 else Obstacle.SILENT


def answer_of_gate(judge: Judge, asker: Asker, path: bytes) -> Answer:
    """The answer to a request for the gate itself: it has one page only."""
    answer = judge.answer(Obstacle.GATE, asker)
    return answer if path.partition(b"?")[0] == b"/" else replace(answer, status=404)


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
        self._is_for_gate = False
        """Whether the request names no host as a request to a proxy does (RFC 9112, section 3.2.2)."""

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        cause = None
        if isinstance(event, ResponseProtocolError) and not self.response and self.request is not None:
            cause = _cause_of(event, is_for_gate=self._is_for_gate)
        if cause is None:
            yield from super().send(event)
        elif self.conn.state & ConnectionState.CAN_WRITE:
            assert self.request is not None
            asker = Asker.of(self.request.method, self.request.path, self.request.headers)
            if cause is Obstacle.GATE:
                answer = answer_of_gate(self._judge, asker, self.request.data.path)
            else:
                answer = self._judge.answer(cause, asker)
            data = answer.as_http1()
            if self.request.method == "HEAD":
                data = data[: data.index(b"\r\n\r\n") + 4]
            yield commands.SendData(self.conn, data)
            yield commands.CloseConnection(self.conn)

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
            yield commands.SendData(self.conn, self._judge.refuse(head, asker_in(data)).as_http1())
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        self.buf.maybe_extract_at_most(find_end(data) or 0)
        self.request = request(head)
        is_tunnel = self.context.server.address is not None
        self._is_for_gate = head.target is None and not is_tunnel
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, head.length == 0))
        self.body_reader = _Chunks() if head.length is None else make_body_reader(head.length)
        self.state = self.read_body
        yield from self.state(event)


class Http2(Http2Server):
    """The client's side of HTTP/2. For each open stream it keeps how its client wants to be answered."""

    def __init__(self, context: Context, judge: Judge) -> None:
        super().__init__(context)
        self._judge = judge
        self._askers: dict[int, Asker] = {}

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError | ResponseEndOfMessage):
            asker = self._askers.pop(event.stream_id, Asker(Kind.TEXT))
            cause = _cause_of(event, is_for_gate=False) if isinstance(event, ResponseProtocolError) else None
            if cause is not None and self._has_no_head(event.stream_id):
                yield from self._answer(event.stream_id, self._judge.answer(cause, asker))
                return
        for command in super()._handle_event(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                asked = command.event.request
                self._askers[command.event.stream_id] = Asker.of(asked.method, asked.path, asked.headers)
            elif isinstance(command, ReceiveHttp) and isinstance(command.event, RequestProtocolError):
                self._askers.pop(command.event.stream_id, None)  # the client has reset the stream
            yield command

    def _has_no_head(self, stream_id: int) -> bool:
        """Whether the stream is open and has no response head yet."""
        return self.is_open_for_us(stream_id) and not self.h2_conn.streams[stream_id].state_machine.headers_sent

    def _answer(self, stream_id: int, answer: Answer) -> CommandGenerator[None]:
        fields = [(name.lower(), value) for name, value in answer.headers if name != b"Connection"]  # RFC 9113, 8.2.2
        self.h2_conn.send_headers(stream_id, [(b":status", b"%d" % answer.status), *fields])
        self.h2_conn.send_data(stream_id, answer.body, end_stream=True)
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())
