"""recognise: what a client opens a tunnel with, and the same answer however its bytes are cut."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoplist.core.wire.openings import MAX_LINE, Opening, RequestSearch, asks, is_text, recognise
from tests.examples import examples
from tests.pace import million_steps

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
HTTP = b"GET / HTTP/1.1\r\nHost: listed.test\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "opening"),
    [
        # TLS: the type of a handshake and the major version, RFC 8446, section 5.1
        pytest.param(b"\x16", Opening.INCOMPLETE, id="the first byte of TLS"),
        pytest.param(b"\x16\x03", Opening.TLS, id="two bytes of TLS"),
        pytest.param(CLIENT_HELLO, Opening.TLS, id="a ClientHello"),
        pytest.param(b"\x16\x03\x00\x00\x00", Opening.TLS, id="SSL 3.0"),
        pytest.param(b"\x16\x03\xff\x00\x00", Opening.TLS, id="TLS of a minor version to come"),
        pytest.param(b"\x16\x03\x01\x00\x00" + CLIENT_HELLO, Opening.TLS, id="an empty record before a ClientHello"),
        pytest.param(b"\x16\x03\x01\x00\x01\x01" + CLIENT_HELLO, Opening.TLS, id="a ClientHello in records of a byte"),
        pytest.param(b"\x16\x03\nGET / HTTP/1.1\r\n", Opening.TLS, id="TLS that looks like HTTP further on"),
        pytest.param(b"\x16\x02", Opening.OTHER, id="another major version"),
        pytest.param(b"\x16\xfe\xff", Opening.OTHER, id="DTLS in a TCP tunnel"),
        pytest.param(b"\x16GET / HTTP/1.1\r\n", Opening.OTHER, id="the first byte of TLS, then HTTP"),
        pytest.param(b"\x80\x2e\x01\x03\x01\x00\x15", Opening.OTHER, id="a ClientHello of SSL 2.0"),
        # HTTP/1
        pytest.param(b"", Opening.INCOMPLETE, id="nothing"),
        pytest.param(b"G", Opening.INCOMPLETE, id="a letter"),
        pytest.param(b"GET", Opening.INCOMPLETE, id="a method"),
        pytest.param(b"GET ", Opening.INCOMPLETE, id="a method and a space"),
        pytest.param(b"GET / HTTP/1.1", Opening.INCOMPLETE, id="a request line without its end"),
        pytest.param(b"GET / HTTP/1.1\r", Opening.INCOMPLETE, id="a request line with half of its end"),
        pytest.param(b"GET / HTTP/1.1\r\n", Opening.HTTP1, id="a request line"),
        pytest.param(HTTP, Opening.HTTP1, id="a request"),
        pytest.param(b"GET / HTTP/1.1\n", Opening.HTTP1, id="LF alone"),
        pytest.param(b"get / http/1.1\r\n", Opening.HTTP1, id="lower case"),
        pytest.param(b"GET / hTTp/1.1\r\n", Opening.HTTP1, id="mixed case"),
        pytest.param(b"GET\t/\tHTTP/1.1\r\n", Opening.HTTP1, id="tabs for spaces"),
        pytest.param(b"GET  /  HTTP/1.1  \r\n", Opening.HTTP1, id="more than one space"),
        pytest.param(b"GET\r/\rHTTP/1.1\r\n", Opening.HTTP1, id="CRs for spaces"),
        pytest.param(b"GET\x0b/\x0bHTTP/1.1\r\n", Opening.HTTP1, id="vertical tabs for spaces (RFC 9112, section 3)"),
        pytest.param(b"GET\x0c/ HTTP/1.1\r\n", Opening.HTTP1, id="a form feed for a space (RFC 9112, section 3)"),
        pytest.param(b"GET \x0b/ HTTP/1.1\r\n", Opening.HTTP1, id="a vertical tab after a space"),
        pytest.param(b"GET / HTTP/1.1\rHost: listed.test\r\r\n", Opening.HTTP1, id="CRs for line ends"),
        pytest.param(b"\r\n" + HTTP, Opening.HTTP1, id="an empty line before it"),
        pytest.param(b"\n\n\r\n" + HTTP, Opening.HTTP1, id="empty lines before it"),
        pytest.param(b"\r" + HTTP, Opening.HTTP1, id="a CR before it"),
        pytest.param(b" " + HTTP, Opening.HTTP1, id="a space before it"),
        pytest.param(b" \t\r\n \r\n" + HTTP, Opening.HTTP1, id="white space before it"),
        pytest.param(b"\x0b" + HTTP, Opening.HTTP1, id="a vertical tab before it"),
        pytest.param(b"\r\n\x0c" + HTTP, Opening.HTTP1, id="an empty line and a form feed before it"),
        pytest.param(b" \t\r\n", Opening.INCOMPLETE, id="white space alone"),
        pytest.param(b"GET / HTTP/0.9\r\n", Opening.HTTP1, id="HTTP/0.9 by name"),
        pytest.param(b"GET /\r\n", Opening.HTTP1, id="no version, and a Host may follow"),
        pytest.param(b"get /\r\n", Opening.HTTP1, id="no version, in lower case"),
        pytest.param(b"GET http://listed.test/\r\n", Opening.HTTP1, id="a URL without a version"),
        pytest.param(b"GET / RTSP/1.1\r\n", Opening.HTTP1, id="a version that llhttp takes for HTTP's"),
        pytest.param(b"GET / ICE/1.0\r\n", Opening.HTTP1, id="another one"),
        pytest.param(b"OPTIONS *\r\n", Opening.HTTP1, id="an asterisk without a version"),
        pytest.param(b"GET / HTTP/2.0\r\n", Opening.HTTP1, id="HTTP/2.0 by name"),
        pytest.param(b"GET / HTTP/1.1x\r\n", Opening.HTTP1, id="a version with a letter"),
        pytest.param(b"GET http://listed.test/ HTTP/1.1\r\n", Opening.HTTP1, id="absolute-form"),
        pytest.param(b"CONNECT listed.test:443 HTTP/1.1\r\n", Opening.HTTP1, id="CONNECT in a tunnel"),
        pytest.param(b"M-SEARCH * HTTP/1.1\r\n", Opening.HTTP1, id="another method"),
        pytest.param(b"!#$%&'*+-.^_`|~0 / HTTP/1.1\r\n", Opening.HTTP1, id="every character of a token"),
        pytest.param(b"GET /\xff\x00 HTTP/1.1\r\n", Opening.HTTP1, id="bytes that no target may hold"),
        pytest.param(b"GET / HTTP/1.1\r\nPRI", Opening.HTTP1, id="a request, then the start of a preface"),
        pytest.param(b"GET /" + b"a" * (MAX_LINE - 16) + b" HTTP/1.1\r\n", Opening.HTTP1, id="the longest line"),
        # HTTP/2 with prior knowledge, RFC 9113, section 3.4
        pytest.param(b"P", Opening.INCOMPLETE, id="a byte of the preface"),
        pytest.param(PREFACE[:16], Opening.INCOMPLETE, id="the first line of the preface"),
        pytest.param(PREFACE[:-1], Opening.INCOMPLETE, id="the preface but for a byte"),
        pytest.param(PREFACE, Opening.HTTP2, id="the preface"),
        pytest.param(PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", Opening.HTTP2, id="the preface and a frame"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", Opening.HTTP1, id="a preface with a wrong end"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n", Opening.HTTP1, id="a preface, then HTTP/1"),
        pytest.param(b"PRI * HTTP/2.0\n\nSM\n\n", Opening.HTTP1, id="a preface with LF alone"),
        pytest.param(b"pri * http/2.0\r\n\r\nsm\r\n\r\n", Opening.HTTP1, id="a preface in lower case"),
        # Neither
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", Opening.OTHER, id="SSH"),
        pytest.param(b"EHLO client.example\r\n", Opening.OTHER, id="SMTP"),
        pytest.param(b"a001 LOGIN user word\r\n", Opening.OTHER, id="IMAP"),
        pytest.param(b"USER anonymous\r\n", Opening.OTHER, id="FTP"),
        pytest.param(b"*1\r\n$4\r\nPING\r\n", Opening.OTHER, id="Redis"),
        pytest.param(b"PING\r\n", Opening.OTHER, id="Redis, inline"),
        pytest.param(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", Opening.OTHER, id="MQTT"),
        pytest.param(b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Opening.OTHER, id="PostgreSQL asks for TLS"),
        pytest.param(b"<?xml version='1.0'?><stream:stream", Opening.OTHER, id="XMPP"),
        pytest.param(b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00", Opening.OTHER, id="RDP"),
        pytest.param(b"AMQP\x00\x00\x09\x01", Opening.OTHER, id="AMQP"),
        pytest.param(b"\x05\x01\x00", Opening.OTHER, id="SOCKS 5 in a tunnel"),
        pytest.param(b"OPTIONS rtsp://h.test/ RTSP/1.0\r\n", Opening.OTHER, id="RTSP"),
        pytest.param(b"OPTIONS * RTSP/1.0\r\n", Opening.OTHER, id="RTSP, of no stream"),
        pytest.param(b"0032git-upload-pack /p\0host=h.test\0", Opening.OTHER, id="git"),
        pytest.param(b"<13>Nov 27 h x: GET / HTTP/1.1\n", Opening.OTHER, id="a log of requests"),
        pytest.param(b"52 <13>1 - h x - - - GET / HTTP/1.1\n", Opening.OTHER, id="a log with counted octets"),
        pytest.param(b"SET a /b\r\n", Opening.OTHER, id="memcached, or Redis"),
        pytest.param(b"\x00", Opening.OTHER, id="NUL"),
        pytest.param(b"\xef\xbb\xbfGET", Opening.OTHER, id="a byte order mark"),
        pytest.param(b"G\x00T / HTTP/1.1\r\n", Opening.OTHER, id="a method that is no token"),
        pytest.param(b"\r\n\x00", Opening.OTHER, id="an empty line, then NUL"),
        pytest.param(b" \x16\x03\x01", Opening.OTHER, id="a space, then TLS"),
        # A line that does not end
        pytest.param(b"A" * MAX_LINE, Opening.INCOMPLETE, id="a line that may still end"),
        pytest.param(b"A" * (MAX_LINE + 1), Opening.ENDLESS, id="an endless word"),
        pytest.param(b"GET /" + b"a" * MAX_LINE, Opening.ENDLESS, id="an endless target"),
        pytest.param(b"GET / HTTP/1.1" + b" " * MAX_LINE, Opening.ENDLESS, id="an endless end"),
        pytest.param(b" " * (MAX_LINE + 1), Opening.ENDLESS, id="endless white space"),
        pytest.param(b"\r\n" * MAX_LINE, Opening.ENDLESS, id="endless empty lines"),
        pytest.param(b"\0" * (MAX_LINE + 1), Opening.OTHER, id="many bytes of another protocol"),
    ],
)
def test_an_opening_is_told_from_the_first_bytes(data: bytes, opening: Opening) -> None:
    assert recognise(data) is opening


# However the bytes are cut

WORDS = st.sampled_from([b"GET", b"get", b"CONNECT", b"PRI", b"SSH-2.0-x", b"EHLO", b"PING", b"*1", b"AMQP", b"<xml"])
SPACES = st.sampled_from([b"", b" ", b"\t", b"\r", b"\x0b", b"\x0c", b"  "])
LINE_ENDS = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\r\n", b""])
TARGETS = st.sampled_from([b"/", b"*", b"h.test:443", b"http://h.test/", b"/\xff", b""])
VERSIONS = st.sampled_from([b"HTTP/1.1", b"http/1.0", b"HTTP/2.0", b"HTTP/", b"HTTP", b"RTSP/1.0", b""])
HTTP_LIKE = st.tuples(
    LINE_ENDS | SPACES, WORDS, SPACES, TARGETS, SPACES, VERSIONS, LINE_ENDS, st.binary(max_size=8)
).map(b"".join)
TLS_LIKE = st.tuples(
    st.sampled_from([b"", b" ", b"\r\n"]), st.sampled_from([b"\x16", b"\x15", b"\x14"]), st.binary(max_size=12)
).map(b"".join)
PREFACES = st.builds(
    lambda end, more: PREFACE[:end] + more, st.integers(0, len(PREFACE)), st.binary(max_size=3) | LINE_ENDS
)
OTHERS = st.sampled_from(
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"EHLO client.example\r\nMAIL FROM:<a@h.test>\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f\x16\x03\x01",
        b"<?xml version='1.0'?><stream:stream to='h.test'>",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
        CLIENT_HELLO,
        HTTP,
        PREFACE,
    ]
)
ANY = st.tuples(
    HTTP_LIKE | TLS_LIKE | PREFACES | OTHERS | st.binary(max_size=30), st.binary(max_size=6) | HTTP_LIKE
).map(b"".join)


@settings(max_examples=examples(500))
@given(ANY)
@example(PREFACE + b"x")
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx")
@example(b"\r\n \r\nGET / HTTP/1.1\r\n")
@example(b"\x16\x03")
def test_a_decision_never_changes_with_more_bytes(data: bytes) -> None:
    """A client that sends its bytes one by one is read no differently from one that sends them at once."""
    whole = recognise(data)
    for length in range(len(data)):
        assert recognise(data[:length]) in (Opening.INCOMPLETE, whole)


LONG = [
    pytest.param(b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\n", id="a long request line"),
    pytest.param(b"a" * (MAX_LINE + 1) + b"\r\n", id="a long line of another protocol"),
    pytest.param(b"a" * (MAX_LINE + 1) + b"\0", id="a long word, then NUL"),
    pytest.param(b" " * (MAX_LINE + 1) + HTTP, id="long white space, then a request"),
    pytest.param(b"\r\n" * MAX_LINE + HTTP, id="many empty lines, then a request"),
    pytest.param(b"\n" * (MAX_LINE + 1) + b"\0", id="many empty lines, then NUL"),
    pytest.param(b" " * (MAX_LINE - 5) + PREFACE, id="long white space, then the preface"),
    pytest.param(b"\r\n" + b"GET /" + b"a" * (MAX_LINE - 20) + b" HTTP/1.1\r\n", id="a line at the bound"),
]


@pytest.mark.parametrize("data", LONG)
def test_a_decision_never_changes_with_more_bytes_where_a_line_is_too_long(data: bytes) -> None:
    whole = recognise(data)
    around = range(MAX_LINE - 40, MAX_LINE + 40)
    for length in {*range(40), *around, *range(max(0, len(data) - 60), len(data))}:
        assert recognise(data[:length]) in (Opening.INCOMPLETE, whole)


@given(ANY, st.binary(max_size=10))
def test_what_no_byte_can_change_is_not_waited_for(data: bytes, more: bytes) -> None:
    """Other protocols begin with a few bytes and wait for an answer: the gate must not wait too."""
    if recognise(data) is Opening.INCOMPLETE:
        text = data.lstrip(b" \t\r\n\x0b\x0c")
        assert data in (b"\x14", b"\x15", b"\x16") or b"\n" not in text or PREFACE.startswith(text)


BLANKS = st.lists(st.sampled_from([b" ", b"\t", b"\r", b"\x0b", b"\x0c"]), min_size=1, max_size=3).map(b"".join)
REQUEST_LINES = st.tuples(
    st.lists(BLANKS | st.sampled_from([b"\r\n", b"\n"]), max_size=3).map(b"".join),
    st.sampled_from([b"GET", b"get", b"POST", b"X-y"]),
    BLANKS,
    st.from_regex(rb"[!-~]{1,10}", fullmatch=True),
    BLANKS,
    st.sampled_from([b"HTTP/1.1", b"http/1.0", b"HTTP/1.1 ", b"Http/9"]),
    st.sampled_from([b"\n", b"\r\n"]),
).map(b"".join)


@settings(max_examples=examples(300))
@given(REQUEST_LINES)
def test_whatever_a_lenient_server_takes_for_http_is_http(data: bytes) -> None:
    """RFC 9112, section 3, lets a server split the line at any white space: SP, HTAB, VT, FF and CR."""
    assert recognise(data) is Opening.HTTP1


@pytest.mark.parametrize("data", LONG)
def test_an_opening_is_told_at_once_however_long(data: bytes) -> None:
    assert million_steps(lambda: recognise(data)) < 6


# Whatever stands around it


@pytest.mark.parametrize(
    "before", [b"", b"\x05hello\n", b"FOO\r\n\r\n", b"\xa0", b"\x1c", b"\0\0", b"bytes \xff\xfe\n\x85"]
)
@pytest.mark.parametrize("space", [b" ", b"\xa0", b"\x85", b"\x1c", b"\x7f", b"\0", b"\t \x0b"])
@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"get /", b"GET / RTSP/1.0", b"X-y a HTTP/3", b"PUT http://listed.test/"]
)
def test_a_request_line_is_seen_wherever_it_stands(before: bytes, space: bytes, line: bytes) -> None:
    assert asks(before + line.replace(b" ", space) + b"\r\nHost: listed.test\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"GET %2F FOO/1.0",
        b"GET %2F \xff",
        b"GET ?",
        b"GET x\xff",
        b"GX:ET y",
        b"GET \x01",
        b"GET9 a",
        b"a b",
        b"GET\r\0",
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("host", [b"Host: listed.test", b"hOST :listed.test", b"X: y\r\n Host\t: listed.test"])
def test_a_line_and_later_a_host_are_a_request(line: bytes, end: bytes, host: bytes) -> None:
    assert asks(line + end + host + end)
    assert not asks(line + end)


PIECES = (
    b"\xff\nGET / x\n",
    b"\xff\nGET / HTTP/1.1\r\n",
    b"a b\r\nHost: listed.test\r\n",
    b"a b\rHost: listed.test\r",
    b"a b\r \t host : listed.test\r\n",
    b"GET http://l/\r\n",
    b"GET ht%74p%3a//l/\xff\r\n",
    b"\xff\nPUT *\n",
    b"GET x y HTTP/1.1\n",
    b"\xff\x1b http://l/ HTTP/0.9\n",
    b"1 x HTTP/0.9\n",
    b"A\x7fB x HTTP/0.9\n",
    b"A\x1cB x HTTP/0.9\n",
    b"\x7f \x7f\nHost: l\n",
    b"GET \x7f\nHost: l\n",
    b"GET\x85\x7f\nHost: l\n",
    b"( HTTP/1.0\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"(" * 12 + b"GET http://l/\n",
)


@pytest.mark.parametrize("data", PIECES)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_request_is_found_wherever_its_bytes_are_cut(data: bytes, size: int) -> None:
    search = RequestSearch()
    assert any(search.finds(data[start : start + size]) for start in range(0, len(data), size))


@pytest.mark.parametrize("much", [b"x: " + b"a" * 3000 + b"\n", b"\r\n", b"\xff" * 999, b"\xff\xff \n"])
@pytest.mark.parametrize("data", PIECES[:5])
def test_a_request_is_found_however_much_came_before(much: bytes, data: bytes) -> None:
    search = RequestSearch()
    for _ in range(200_000 // len(much)):
        assert not search.finds(much)
    assert search.finds(b"\n" + data)


@pytest.mark.parametrize("before", [b"GET x\xff\r\nX:", b"\xff x:"], ids=["a line before", "the same line"])
@pytest.mark.parametrize("size", [1, 36, 40, 50, 1000, 70_000])
def test_a_host_is_found_where_a_line_has_become_too_long(before: bytes, size: int) -> None:
    """Some servers end a line at a bare return."""
    search = RequestSearch()
    assert not search.finds(before + b"a" * (MAX_LINE - 40))
    data = b"a" * 36 + b"\rHost: listed.test\r" + b"b" * 2000
    assert any(search.finds(data[start : start + size]) for start in range(0, len(data), size))


@pytest.mark.parametrize("much", [b"a" * 999, b" " * 999, b" GET" + b" " * 999], ids=["a word", "space", "a method"])
def test_a_line_that_never_ends_and_may_begin_a_request_is_taken_for_one(much: bytes) -> None:
    search = RequestSearch()
    assert any(search.finds(much.lstrip() if count == 1 and much.strip() else much) for count in range(70))


@pytest.mark.parametrize(
    "piece",
    [
        b"\r" * 65_000,
        b"\n " * 32_000,
        b"host " * 13_000,
        b"x " * 32_000,
        b" HTTP/" * 10_000,
        b"GET " + b" " * 60_000,
        b"GET a" + b"%3A" * 20_000,
    ],
    ids=["returns", "lines", "hosts", "words", "versions", "spaces", "a scheme"],
)
def test_what_is_made_to_be_slow_is_looked_at_in_one_go(piece: bytes) -> None:
    search = RequestSearch()

    def look() -> None:
        search.finds(b"\xff" + piece)
        for _ in range(50):
            search.finds(b":")
        search.finds(b"\n")

    assert million_steps(look) < 20


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", id="SSH"),
        pytest.param(b"EHLO client.example\r\nMAIL FROM:<a@h.test>\r\n", id="SMTP"),
        pytest.param(b"NICK b\r\nUSER b 0 * :http://h.test/\r\n", id="IRC"),
        pytest.param(b"OPTIONS rtsp://h.test/ RTSP/1.0\r\nCSeq: 1\r\n\r\n", id="RTSP"),
        pytest.param(b"0032git-upload-pack /p\0host=h.test\0", id="git"),
        pytest.param(b'<13>Nov 27 h x: "GET / HTTP/1.1" 200\n', id="a log of requests"),
        pytest.param(b"52 <13>1 - h x - - - GET / HTTP/1.1\n", id="a log with counted octets"),
        pytest.param(b"WA\x06\x03\0\0\x10/", id="a messenger"),
        pytest.param(b"\0\x0e8" + bytes(range(0x40, 0x4B)), id="OpenVPN"),
        pytest.param(b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0", id="RDP"),
        pytest.param(b"\x10\x17\0\4MQTT\4\2\0*\0\x0babcdefghijk", id="MQTT with a keep-alive of 42 seconds"),
        pytest.param(b'1.2.3.4 - - [now] "GET / HTTP/1.1" 200\n', id="the log of a server"),
        pytest.param(b"Release notes\nWe now use HTTP/2 everywhere.\n", id="prose"),
        pytest.param(b"CONNECT\naccept-version:1.2\nhost:a.test\n\n\0", id="STOMP"),
        pytest.param(b"path.to.metric 42 1700000000\n", id="Graphite"),
    ],
)
def test_what_is_no_request_line_is_none(data: bytes) -> None:
    assert not asks(data)


def test_what_is_encrypted_is_hardly_ever_taken_for_a_request() -> None:
    chance = random.Random(1)
    assert sum(asks(chance.randbytes(500)) for _ in range(20_000)) < 10


@pytest.mark.parametrize(
    ("data", "is_it"),
    [
        (b"", True),
        (b"SSH-2.0-x\r\n", True),
        (b"FOO\n\xff", True),
        (b"\r\nFOO \tx", True),
        (b"WA\x06\x03", False),
        (b"\xff", False),
        (b"FOO\0\n", False),
        (b"GET\xa0/", False),
    ],
)
def test_text_is_told_by_the_first_line(data: bytes, is_it: bool) -> None:
    assert is_text(data) is is_it
