"""Conversations, and the known findings: each was read by some server as a request for a listed host, and by some gate
as something else.

In a byte string, {port} stands for the port that the server is asked on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

PASS_HOST = "www.pass.test"
LISTED_HOST = "www.listed.test"
PASS = PASS_HOST.encode()
LISTED = LISTED_HOST.encode()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Conversation:
    """What a client sends on one connection. After each part it waits for an answer, or for a short pause.

    An empty part only waits: the server may speak first. One that is `always` tried goes through the gate even if no
    server takes it for a listed host when asked directly: what the gate makes of it is another matter.
    """

    sends: tuple[bytes, ...]
    always: bool = False

    def to(self, port: int) -> tuple[bytes, ...]:
        """What is sent to a server on this port."""
        return tuple(send.replace(b"{port}", b"%d" % port) for send in self.sends)

    def __str__(self) -> str:
        return f"Conversation({self.sends!r}{', always=True' * self.always})"


def get(host: bytes = LISTED, *, line: bytes = b"GET / HTTP/1.1", more: bytes = b"", body: bytes = b"") -> bytes:
    """A request; `more` are whole header lines."""
    return b"%b\r\nHost: %b\r\n%b\r\n%b" % (line, host, more, body)


def h2(
    authority: bytes = LISTED,
    path: bytes = b"/",
    *,
    body: bytes | None = None,
    method: bytes = b"GET",
    more: Sequence[tuple[bytes, bytes]] = (),
    stream: int = 1,
    preface: bool = True,
) -> bytes:
    """A request in HTTP/2, as a client with prior knowledge sends it."""
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority), *more]
    headers = HeadersFrame(stream, Encoder().encode(fields), flags=["END_HEADERS"])
    if body is None:
        headers.flags.add("END_STREAM")
    frames: list[Frame] = [headers]
    if body is not None:
        frames.append(DataFrame(stream, body, flags=["END_STREAM"]))
    start = PREFACE + SettingsFrame(0).serialize() if preface else b""
    return start + b"".join(frame.serialize() for frame in frames)


def ordinary(speaks: str, host: str) -> Conversation:
    """What a browser would send, nearly."""
    return Conversation((h2(host.encode()) if speaks == "h2" else get(host.encode()),))


def hello(random: bytes = b"r" * 32, first: bytes = b"") -> bytes:
    """A ClientHello for the unlisted host: the same one every time. `first` is in an extension before all others."""

    def counted(data: bytes) -> bytes:
        return len(data).to_bytes(2) + data

    def extension(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(2) + counted(data)

    extensions = (
        (extension(0xFF77, first) if first else b"")
        + extension(0, counted(b"\0" + counted(PASS)))
        + extension(10, counted(b"\x00\x1d"))
        + extension(13, counted(b"\x08\x04\x04\x03"))
        + extension(43, b"\x04\x03\x04\x03\x03")
        + extension(51, counted(b"\x00\x1d" + counted(b"k" * 32)))
    )
    body = b"\x03\x03" + random + b"\0" + counted(b"\x13\x01\xc0\x2f") + b"\x01\0" + counted(extensions)
    return b"\x16\x03\x01" + counted(b"\x01" + len(body).to_bytes(3) + body)


HELLO = hello()
_REQUEST = get()
_SMUGGLED = _REQUEST
_LENGTH = b"Content-Length: %d\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_POST = b"POST / HTTP/1.1"
_ABSOLUTE = b"http://www.listed.test/"


def _chunked(body: bytes, *, line: bytes = _POST, more: bytes = b"") -> bytes:
    """A request for the unlisted host with a chunked body, as it is given."""
    return get(PASS, line=line, more=_CHUNKED + more, body=body)


def _first_lines() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Request lines that a server takes for one, and a gate for another protocol."""
    for line in (
        *(b"GET / RTSP/1.1", b"GET / RTSP/1.0", b"OPTIONS * RTSP/1.0", b"OPTIONS / RTSP/1.0", b"GET / rtsp/1.1"),
        *(b"GET / HTTPX/1.1", b"GET / ICY", b"GET / ICY/1.1", b"ICY / HTTP/1.1", b"GET / http/1.1", b"GET / SIP/2.0"),
        *(b"GET / HTTP/1.10", b"GET / HTTP/01.1", b"GET / HTTP/1.1 ", b"GET / HTTP/1", b"GET / HTTP/1.2"),
        *(b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET / HTTP/+1.1", b"GET / HTTP/1.1.1", b"GET / HTTP /1.1"),
        *(b"GET / TTP/1.1", b"get / HTTP/1.1", b"GET /", b"GET / ", b"GET", b"G\tT / HTTP/1.1"),
        *(
            b"GET %2F FOO/1.0",
            b"GET %2F \xff",
            b"GET %2F \x01",
            b"GET ?",
            b"GET x\xff",
            b"GET ?\x01",
            b"GET http:%2f%2fx",
        ),
        *(b"GET\x0c?\xff", b"GX:ET / HTTP/1.0", b"GET9 /", b"/ / HTTP/1.1", b"GET / HTTP1.1", b"GET / HTT\t/1.1"),
        *(b"SOURCE / ICE/1.0", b"GET  /  HTTP/1.1", b"GET / x HTTP/1.1", b"*GET / HTTP/1.1", b"GET: / HTTP/1.1"),
    ):
        yield f"the line {line!r}", (get(line=line),)
    for line in (b"GET /", b"GET / ", b"GET " + _ABSOLUTE, b"GET", b"GET /\t"):
        yield f"no version in {line!r}, more fields", (get(line=line, more=b"Accept: */*\r\nConnection: close\r\n"),)
        yield f"no version in {line!r}, the fields later", (line + b"\r\n", get()[16:])


def _separators() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Bytes that some reader takes for white space, or leaves out."""
    for byte in (b"\xa0", b"\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f", b"\0", b"\x7f", b"\t", b"\r"):
        name = repr(byte)[2:-1]
        yield f"{name} after the method", (get(line=b"GET" + byte + b"/ HTTP/1.1"),)
        yield f"{name} around the target", (get(line=b"GET" + byte + b"/" + byte + b"HTTP/1.1"),)
        yield f"{name} before the version", (get(line=b"GET /" + byte + b"HTTP/1.1"),)
        yield f"{name} before the method", (get(line=byte + b"GET / HTTP/1.1"),)
        yield f"{name} behind the version", (get(line=b"GET / HTTP/1.1" + byte),)
    yield "a space before the method", (get(line=b" GET / HTTP/1.1"),)
    yield "white space before the method", (get(line=b" \t \r\n GET / HTTP/1.1"),)
    yield "UTF-8 white space before the method", (get(line="\u3000GET / HTTP/1.1".encode()),)
    yield "empty lines first", (b"\r\n\r\n\r\n" + _REQUEST,)
    yield "LF lines first", (b"\n\n" + _REQUEST,)
    yield "an empty line, and the request later", (b"\r\n", _REQUEST)


def _after_an_error() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Something that is answered with an error, or that a gate takes for another protocol; then an ordinary request."""
    for first in (
        *(b"FOO\r\n\r\n", b"FOO\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"BREW / HTTP/1.1\r\nHost: www.pass.test\r\n\r\n"),
        *(b"GET / HTTP/9.9\r\nHost: www.pass.test\r\n\r\n", b"GET / RTSP/1.0\r\n\r\n", b"a line of anything\r\n"),
        *(b"a line of anything\r\n\r\n", b"220 mail.test ESMTP\r\n", b"SSH-2.0-x\r\n", b"EHLO a\r\n\r\n", b"\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n", b"OPTIONS * HTTP/1.1\r\nHost: www.pass.test\r\n\r\n", b"\n", b"x"),
        *(b"GET / HTTP/1.1\r\nHost: www.pass.test\r\nHost: x\r\n\r\n", b"\x16", b"\0", b"\0\r\n\r\n"),
        *(b"GET / HTTP/1.1\r\nHost: www.pass.test\r\nExpect: x\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",  # SSL 2
        b"\x05\x01\x00",  # SOCKS
        b"\x13BitTorrent protocol" + bytes(8),
        bytes(range(0x80, 0x100)) + b"\r\n\r\n",
        bytes(range(0x100)),
        HELLO,
        HELLO[:20],
        HELLO + b"\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        PREFACE,
        PREFACE[:18],
    ):
        name = repr(first) if len(first) < 60 else f"{first[:20]!r}... ({len(first)} bytes)"
        yield f"{name}, then a request", (first, _REQUEST)
        yield f"{name}, then a request at once", (first + _REQUEST,)
    yield "a request without end, then another", (b"GET / HTTP/1.1\r\nX: ", b"\r\nHost: www.listed.test\r\n\r\n")
    yield "the first byte, then the rest", (_REQUEST[:1], _REQUEST[1:])
    yield "the method, then the rest", (_REQUEST[:3], _REQUEST[3:])
    yield "byte by byte", (*(_REQUEST[place : place + 1] for place in range(20)), _REQUEST[20:])
    yield "after waiting", (b"", _REQUEST)


def _bodies() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Requests inside bodies, and bodies whose end two readers see in two places."""
    size = len(_SMUGGLED)
    for line in (
        b"GET / HTTP/1.1",
        _POST,
        b"PUT / HTTP/1.1",
        b"OPTIONS / HTTP/1.1",
        b"GET http://www.pass.test/ HTTP/1.1",
    ):
        yield (
            f"a request as the body of {line!r}",
            (get(PASS, line=line, more=_LENGTH % size, body=_SMUGGLED),),
        )
        yield (
            f"a request as the body of {line!r}, later",
            (get(PASS, line=line, more=_LENGTH % size), _SMUGGLED),
        )
        yield (
            f"the start of a request as the body of {line!r}",
            (get(PASS, line=line, more=_LENGTH % (size + 1), body=_SMUGGLED[:-2] + b"X: "), get(PASS)),
        )
        yield f"a request in a chunk of {line!r}", (_chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (size, _SMUGGLED), line=line),)
        yield (
            f"Content-Length with Transfer-Encoding in {line!r}",
            (_chunked(b"0\r\n\r\n" + _SMUGGLED, line=line, more=_LENGTH % (size + 5)),),
        )
    yield "a body after Expect", (get(PASS, line=_POST, more=b"Expect: 100-continue\r\n" + _LENGTH % size), _SMUGGLED)
    for coding in (
        *(b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding : chunked\r\n"),
        *(
            b"Transfer-Encoding:\x0bchunked\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding: \r\n",
        ),
        *(
            b"Transfer-Encoding: identity, chunked\r\n",
            b"X: a\rTransfer-Encoding: chunked\r\n",
            b"Transfer_Encoding: chunked\r\n",
        ),
        *(
            b"Transfer-Encoding:\r\n chunked\r\n",
            b"Transfer-Encoding: CHUNKED\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
        ),
    ):
        body = b"0\r\n\r\n" + _SMUGGLED
        yield f"{coding!r} with Content-Length", (get(PASS, line=_POST, more=coding + _LENGTH % len(body), body=body),)
        yield f"{coding!r} alone", (get(PASS, line=_POST, more=coding, body=body),)
    for length in (b"+%d", b"0%d", b"%d,%d", b" %d", b"%d ", b"0x%x", b"%d\0", b"-%d", b"%d_0", b"0, %d", b"%d\x0b"):
        value = length.replace(b"%d", b"%d" % size).replace(b"%x", b"%x" % size)
        more = b"Content-Length: " + value + b"\r\n"
        yield f"Content-Length {value!r}", (get(PASS, line=_POST, more=more, body=_SMUGGLED),)
    two = b"Content-Length: 0\r\n" + _LENGTH % size
    yield "two Content-Lengths, 0 first", (get(PASS, line=_POST, more=two, body=_SMUGGLED),)
    yield (
        "two Content-Lengths, 0 last",
        (get(PASS, line=_POST, more=_LENGTH % size + b"Content-Length: 0\r\n", body=_SMUGGLED),),
    )
    for chunks in (
        *(
            b"0\r\n\r\n",
            b"00\r\n\r\n",
            b"0;a=b\r\n\r\n",
            b'0;a="\r\n\r\n',
            b"0 \r\n\r\n",
            b"0\n\n",
            b"0\r\nX: a\r\n\r\n",
        ),
        *(
            b"0\r\nHost: www.listed.test\r\n\r\n",
            b"+0\r\n\r\n",
            b"0x0\r\n\r\n",
            b"-0\r\n\r\n",
            b"\r\n\r\n",
            b"1\r\na0\r\n\r\n",
        ),
        *(
            b"1\r\na\r\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1;\n\r\na\r\n0\r\n\r\n",
            b"g\r\n\r\n",
            b"10000000000000000\r\n\r\n",
        ),
        *(
            b"1;a\nb\r\nx\r\n0\r\n\r\n",
            b"1_0\r\n\r\n",
            b"0\r\n",
            b"0\r\nX\r\n\r\n",
            b"1\n\na\n0\n\n",
            b"0;\r\r\n\r\n",
            b"0\r\r\n\r\n",
        ),
        *(b"5\r\nhello\r\n0\r\n X: a\r\n\r\n", b"ffffffffffffffff1\r\na\r\n0\r\n\r\n", b"0\t\r\n\r\n", b"0\0\r\n\r\n"),
    ):
        yield f"chunks {chunks!r}, then a request", (_chunked(chunks + _SMUGGLED),)
        yield f"chunks {chunks!r}, then a request later", (_chunked(chunks), _SMUGGLED)


def _hosts() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Which host a request is for."""
    yield "an ordinary request", (_REQUEST,)
    yield "an unlisted request, then a listed one", (get(PASS), _REQUEST)
    yield "pipelined", (get(PASS) + _REQUEST,)
    yield "pipelined three times", (get(PASS) * 2 + _REQUEST,)
    yield "pipelined, the second one cut", (get(PASS) + _REQUEST[:10], _REQUEST[10:])
    yield "a pipelined request after a POST", (get(PASS, line=_POST, more=_LENGTH % 3, body=b"abc") + _REQUEST,)
    for line in (
        *(b"GET http://www.listed.test/ HTTP/1.1", b"GET http://www.listed.test:{port}/ HTTP/1.1"),
        *(
            b"GET HTTP://WWW.LISTED.TEST/ HTTP/1.1",
            b"GET https://www.listed.test/ HTTP/1.1",
            b"GET //www.listed.test/ HTTP/1.1",
        ),
        *(
            b"GET http:www.listed.test/ HTTP/1.1",
            b"GET http:/www.listed.test/ HTTP/1.1",
            b"GET http:///www.listed.test/ HTTP/1.1",
        ),
        *(
            b"GET x://www.listed.test/ HTTP/1.1",
            b"GET www.listed.test/ HTTP/1.1",
            b"GET http://a@www.listed.test/ HTTP/1.1",
        ),
        *(
            b"GET http://www.listed.test HTTP/1.1",
            b"GET http://www.listed.test?a HTTP/1.1",
            b"GET http://www.listed.test/ RTSP/1.0",
        ),
        *(
            b"GET http://www.listed.test/",
            b"CONNECT www.listed.test:80 HTTP/1.1",
            b"GET http://www.listed.test\\/ HTTP/1.1",
        ),
        *(
            b"GET http://www.listed.test:/ HTTP/1.1",
            b"GET http://www.listed.test#/ HTTP/1.1",
            b"GET http://%77ww.listed.test/ HTTP/1.1",
        ),
        b"GET http://www.listed.test/ HTTP/1.0",
    ):
        yield f"Host is unlisted in {line!r}", (get(PASS, line=line),)
        yield f"Host is missing in {line!r}", (line + b"\r\n\r\n",)
    yield "Host is listed, the target is not", (get(line=b"GET http://www.pass.test/ HTTP/1.1"),)
    for fields in (
        *(b"Host: www.pass.test\r\nHost: www.listed.test\r\n", b"Host: www.listed.test\r\nHost: www.pass.test\r\n"),
        *(b"Host: www.pass.test\r\n\tX: a\r\nHost: www.listed.test\r\n", b"Host:\r\n www.listed.test\r\n"),
        *(b"Host: www.pass.test\r\nX: a\r\n\tHost: www.listed.test\r\n", b"Host:\r\n\twww.listed.test\r\nX: b\r\n"),
        *(b"X: a\rHost: www.listed.test\r\n", b"Host: www.pass.test\r\nX: a\rHost: www.listed.test\r\n"),
        *(
            b"X: a\nHost: www.listed.test\n",
            b"Host : www.listed.test\r\n",
            b" Host: www.listed.test\r\n",
            b"\tHost: www.listed.test\r\n",
        ),
        *(b"X: a\r\n Host: www.listed.test\r\n", b"Host\t: www.listed.test\r\n", b"Host\0: www.listed.test\r\n"),
        *(b"Host: www.listed.test\0\r\n", b"Host: \x0bwww.listed.test\r\n", b"Host:\xa0www.listed.test\r\n"),
        *(
            b"Host: www.listed.test\x0c\r\n",
            b"Host: www.listed.test:x\r\n",
            b"Host: WWW.LISTED.TEST.\r\n",
            b"HOST:www.listed.test\r\n",
        ),
        *(
            b"Host: www.listed.test, www.pass.test\r\n",
            b"Host: www.pass.test, www.listed.test\r\n",
            b"Host: a@www.listed.test\r\n",
        ),
        *(
            b"Host: www.listed.test:80:80\r\n",
            b"Host: www.listed.test www.pass.test\r\n",
            b"Host: www.listed.test#\r\n",
        ),
        *(b"X-Forwarded-Host: www.listed.test\r\nHost: www.pass.test\r\n", b"Forwarded: host=www.listed.test\r\n"),
        *(
            b"X\r\nHost: www.listed.test\r\n",
            b": x\r\nHost: www.listed.test\r\n",
            b"X: \xff\0\r\nHost: www.listed.test\r\n",
        ),
        *(
            b"Host: www.listed.test/\r\n",
            b"Host: www.listed.test?\r\n",
            b"Host: www.listed.test\\\r\n",
            b"\rHost: www.listed.test\r\n",
        ),
        *(b"GET / HTTP/1.1\r\nHost: www.listed.test\r\n", b"H\xf6st: a\r\nHost: www.listed.test\r\n"),
        *(
            b"Host: www.pass.test\r\n\r\n" + _REQUEST[:-2],
            b"HTTP_HOST: www.listed.test\r\n",
            b"X:" + b"a" * 70000 + b"\r\nHost: www.listed.test\r\n",
        ),
    ):
        yield f"the fields {fields[:80]!r}", (b"GET / HTTP/1.1\r\n" + fields + b"\r\n",)
    yield "LF only", (_REQUEST.replace(b"\r\n", b"\n"),)
    yield "CR only", (_REQUEST.replace(b"\r\n", b"\r"),)
    yield "CR only, then LF", (_REQUEST.replace(b"\r\n", b"\r") + b"\n\n",)
    yield "CRCRLF", (_REQUEST.replace(b"\r\n", b"\r\r\n"),)
    yield "LFCR", (_REQUEST.replace(b"\r\n", b"\n\r"),)
    for version in (b"1.0", b"1.1"):
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        name = version.decode()
        line = b"GET / HTTP/" + version
        yield f"HTTP/{name} with Upgrade: h2c", (get(line=line, more=upgrade),)
        yield (
            f"HTTP/{name} with Upgrade: h2c, then HTTP/2",
            (get(PASS, line=line, more=upgrade), h2(stream=3)),
        )
        yield (
            f"HTTP/{name} with Upgrade: h2c, then HTTP/2 at once",
            (get(PASS, line=line, more=upgrade) + h2(stream=3),),
        )
    for protocol in (b"websocket", b"x", b"TLS/1.0", b"HTTP/2.0"):
        more = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        if protocol == b"websocket":
            more += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        yield f"Upgrade: {protocol.decode()}, then a request", (get(PASS, more=more), _REQUEST)
        yield f"Upgrade: {protocol.decode()}, then a request at once", (get(PASS, more=more) + _REQUEST,)
    yield (
        "a tunnel in the tunnel, then a request",
        (
            get(b"www.pass.test:80", line=b"CONNECT www.pass.test:80 HTTP/1.1"),
            _REQUEST,
        ),
    )
    yield "HEAD, then a request", (get(PASS, line=b"HEAD / HTTP/1.1"), _REQUEST)
    yield "Connection: close, then a request", (get(PASS, more=b"Connection: close\r\n") + _REQUEST,)
    yield (
        "HTTP/1.0 with keep-alive, then a request",
        (
            get(PASS, line=b"GET / HTTP/1.0", more=b"Connection: keep-alive\r\n"),
            _REQUEST,
        ),
    )
    yield "HTTP/1.0 without keep-alive, then a request", (get(PASS, line=b"GET / HTTP/1.0") + _REQUEST,)


def _http2() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """HTTP/2 without TLS, to servers that know it."""
    yield "h2c", (h2(),)
    yield "h2c after waiting for SETTINGS", (b"", h2())
    yield "h2c, the preface first", (PREFACE, h2()[len(PREFACE) :])
    yield "h2c, SETTINGS first", (PREFACE + SettingsFrame(0).serialize(), h2(preface=False))
    yield "h2c, the preface cut", (h2()[:10], h2()[10:])
    yield "h2c, the first byte first", (h2()[:1], h2()[1:])
    yield "h2c, an unlisted stream first", (h2(PASS) + h2(stream=3, preface=False),)
    yield "h2c, an unlisted stream first, answered", (h2(PASS), h2(stream=3, preface=False))
    yield "h2c, a host field", (h2(PASS, more=[(b"host", LISTED)]),)
    yield "h2c, a listed authority and an unlisted host field", (h2(more=[(b"host", PASS)]),)
    yield "h2c, an upper-case authority", (h2(b"WWW.Listed.Test"),)
    yield "h2c, a trailing dot", (h2(LISTED + b"."),)
    yield "h2c, an authority with a port", (h2(LISTED + b":{port}"),)
    yield "h2c, userinfo", (h2(b"a@" + LISTED),)
    yield "h2c, no authority, a host field", (_h2_fields([(b":path", b"/"), (b"host", LISTED)]),)
    yield "h2c, two authorities", (_h2_fields([(b":path", b"/"), (b":authority", PASS), (b":authority", LISTED)]),)
    yield "h2c, a second HEADERS frame", (h2(PASS, body=b"") + h2(stream=1, preface=False),)
    yield "h2c, padding", (_padded(),)
    yield "h2c, in CONTINUATION frames", (_continued(),)
    yield "h2c, CONNECT", (h2(LISTED + b":80", method=b"CONNECT"),)
    yield "HTTP/1.1 after h2c", (h2(PASS), _REQUEST)
    yield "h2c after HTTP/1.1", (get(PASS), h2())
    yield "h2c after an empty line", (b"\r\n" + h2(),)
    yield "h2c behind a ClientHello", (HELLO, h2())


def _h2_to_http1() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """HTTP/2 that becomes a request for a listed host only once a gate has turned it into HTTP/1."""
    yield "h2c, a listed URL as :path", (h2(PASS, _ABSOLUTE),)
    yield "h2c, a listed URL as :path without slash", (h2(PASS, b"http://www.listed.test"),)
    yield "h2c, //listed as :path", (h2(PASS, b"//www.listed.test/"),)
    yield "h2c, a body without a length", (h2(PASS, body=_SMUGGLED),)
    yield "h2c, POST with a body without a length", (h2(PASS, body=_SMUGGLED, method=b"POST"),)
    yield "h2c, a chunk that ends in the body", (h2(PASS, body=b"0\r\n\r\n" + _SMUGGLED, method=b"POST"),)
    yield "h2c, content-length 0 and a body", (h2(PASS, body=_SMUGGLED, more=[(b"content-length", b"0")]),)
    yield (
        "h2c, transfer-encoding and a body",
        (h2(PASS, body=b"0\r\n\r\n" + _SMUGGLED, more=[(b"transfer-encoding", b"chunked")]),),
    )
    for name, value in (
        *(
            (b"x", b"a\r\nHost: www.listed.test"),
            (b"x: a\r\nhost", b"www.listed.test"),
            (b"x", b"a\r\n\r\n" + _SMUGGLED),
        ),
    ):
        yield f"h2c, CRLF in a field {name!r}: {value[:10]!r}", (h2(PASS, more=[(name, value)]),)
    injected = b"/ HTTP/1.1\r\nHost: www.listed.test\r\nX: "
    yield "h2c, CRLF in :path", (h2(PASS, injected),)
    yield "h2c, a space in :path", (h2(PASS, b"http://www.listed.test/ HTTP/1.1 "),)
    yield "h2c, CRLF in :method", (h2(PASS, method=b"GET / HTTP/1.1\r\nHost: www.listed.test\r\n\r\nGET"),)
    yield "h2c, a space in :method", (h2(PASS, method=b"GET http://www.listed.test/ HTTP/1.1"),)
    yield (
        "h2c, :scheme with a host",
        (
            _h2_fields(
                [(b":scheme", b"http://www.listed.test/?"), (b":path", b"/"), (b":authority", PASS)], scheme=False
            ),
        ),
    )
    yield "h2c, a listed :authority", (h2(),)
    yield "h2c, a listed host field", (h2(PASS, more=[(b"host", LISTED)]),)


def _h2_fields(fields: Sequence[tuple[bytes, bytes]], *, scheme: bool = True) -> bytes:
    fields = [(b":method", b"GET"), *([(b":scheme", b"http")] if scheme else []), *fields]
    headers = HeadersFrame(1, Encoder().encode(fields), flags=["END_HEADERS", "END_STREAM"])
    return PREFACE + SettingsFrame(0).serialize() + headers.serialize()


_LISTED_FIELDS = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", LISTED))


def _padded() -> bytes:
    block = Encoder().encode(list(_LISTED_FIELDS))
    frame = HeadersFrame(1, block, pad_length=20, flags=["END_HEADERS", "END_STREAM", "PADDED"])
    return PREFACE + SettingsFrame(0).serialize() + frame.serialize()


def _continued() -> bytes:
    block = Encoder().encode(list(_LISTED_FIELDS))
    first = HeadersFrame(1, block[:3], flags=["END_STREAM"]).serialize()
    rest = b"".join(
        (1).to_bytes(3) + b"\x09" + (b"\4" if place == len(block) - 1 else b"\0") + (1).to_bytes(4) + block[place:][:1]
        for place in range(3, len(block))
    )
    return PREFACE + SettingsFrame(0).serialize() + first + rest


def _found_in_an_hour() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """What a tester found who had an hour."""
    for host in (b",", b",x", b",x.example", b",:{port}", b";x", b"$x"):
        yield f"listed{host.decode()} as Host", (get(LISTED + host),)
    yield (
        "h2c, listed,x as host field",
        (_h2_fields([(b":scheme", b"http"), (b":path", b"/"), (b"host", LISTED + b",x")], scheme=False),),
    )
    yield "NUL as the second word", (b"GET\r\0\nHost: " + LISTED + b"\r\n\r\n",)
    much = b"".join(b"X%d: " % number + b"a" * 3800 + b"\r\n" for number in range(18))
    for line in (b"GET x\xff", b"GET x", b"GET %2F FOO\xff", b"GET %2F FOO"):
        yield f"Host after 64 KiB, {line!r}", (line + b"\r\n" + much, b"Host: " + LISTED + b"\r\n\r\n")
    yield "a URL after 64 KiB of empty lines", (b"\r\n" * 20, b"", b"\r\n" * 33_000, b"GET " + _ABSOLUTE + b"\r\n")
    for scheme in (b"ht%74p:", b"http%3a", b"%68ttp%3A"):
        for end in (b"\xff\r\n\r\n", b"\r\n\r\n"):
            yield f"{scheme.decode()}// as target, {end!r}", (b"GET " + scheme + b"//" + LISTED + b"/" + end,)


def _found_in_the_second_hour() -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """And another tester: a server answers HTTP/0.9 with a body alone, and some go on then."""
    for target in (b"x", b"\x7f", b"\xff\0", b"x\xff", b"%2F\xff", b"*x\xff", b"\xa0x"):
        yield f"HTTP/0.9, {target!r}", (b"GET " + target + b"\r\nConnection: keep-alive\r\n\r\n", get())
    for method in (b"\xff", b"\x01A", b"A\x01", b"\x1b", b"1", b"(", b'"GET"', b"GET/", b"{GET", b"A\x7fB", b"A\x1cB"):
        yield f"any word as method, {method!r}", (method + b" " + _ABSOLUTE + b" HTTP/0.9\r\n\r\n",)
    yield "0x7f as the second word", (b"GET \x7f\r\nHost: " + LISTED + b"\r\n\r\n",)
    for version in (b"HTTP/0.9", b"HTTP/1.0"):
        line = (b" / " + version + b"\r\nX:").ljust(32, b"a")
        yield f"a hello with a request line in it, {version!r}", (_hello_with_a_line(line),)
    for line in (b"GET %2F FOO\xff", b"GET %2F FOO"):
        long = line + b"\r\nX:" + b"a" * 65_532
        yield (
            f"a bare return, Host and much in one piece, {line!r}",
            (
                *(long, b"\rHost: " + LISTED + b"\rY:" + b"b" * 1390),
                b"\r\n\r\n",
            ),
        )


def _hello_with_a_line(random: bytes) -> bytes:
    """A ClientHello whose bytes before the random ones are a word to Python, and one of whose fields is a Host."""
    host = b"\r\nHost: " + LISTED + b"\r\n\r\n"
    hellos = (hello(random, host + b"p" * size) for size in range(600))
    return next(each for each in hellos if len(each[:11].decode("latin-1").split()) == 1)


def _all() -> Iterator[tuple[str, Conversation]]:
    groups = (_first_lines, _separators, _after_an_error, _bodies, _hosts, _http2)
    for group in (*groups, _found_in_an_hour, _found_in_the_second_hour):
        for name, sends in group():
            yield name, Conversation(sends)
    for name, sends in _h2_to_http1():
        yield f"{name}, always", Conversation(sends, always=True)


SEEDS: dict[str, Conversation] = dict(_all())
