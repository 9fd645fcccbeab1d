"""RequestHead: one reading of a request's head, and an error for whatever has two.

Each table follows RFC 9112, the section is named above it. The cases run whole, byte by byte, and with
trailing data.
"""

from __future__ import annotations

import traceback

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoplist.core.hosts import Host, HostError
from stoplist.core.wire.heads import HeadError, RequestHead, SchemeError, find_end
from tests.examples import examples
from tests.pace import million_steps

H = Host("h.test")


def head(*fields: bytes, first: bytes = b"GET / HTTP/1.1", end: bytes = b"\r\n") -> bytes:
    """A whole head: the request line, the fields, the empty line."""
    return end.join((first, *fields, b"", b""))


def get(target: bytes = b"/", version: bytes = b"1.1", *, method: bytes = b"GET") -> bytes:
    return head(b"Host: h.test", first=method + b" " + target + b" HTTP/" + version)


def expected(
    method: bytes = b"GET",
    path: bytes = b"/",
    fields: tuple[tuple[bytes, bytes], ...] = ((b"Host", b"h.test"),),
    *,
    scheme: bytes = b"",
    target: Host | None = None,
    port: int = 0,
    version: bytes = b"1.1",
    field: Host | None = H,
    length: int | None = 0,
) -> RequestHead:
    return RequestHead(method, scheme, target, port, path, version, fields, field, length)


def read(data: bytes) -> RequestHead:
    """A head as a layer reads it: up to where it ends."""
    end = find_end(data)
    assert end is not None
    return RequestHead.parse(data[:end])


# Heads that have one reading

ACCEPTED = [
    # The four forms of a target, section 3.2
    pytest.param(get(), expected(), id="origin-form"),
    pytest.param(get(b"/a/b?c=d&e"), expected(path=b"/a/b?c=d&e"), id="origin-form with a query"),
    pytest.param(get(b"//other.test/"), expected(path=b"//other.test/"), id="a path that looks like an authority"),
    pytest.param(get(b"/http://other.test/"), expected(path=b"/http://other.test/"), id="a URL inside a path"),
    pytest.param(get(b"/%2e%2E/%00"), expected(path=b"/%2e%2E/%00"), id="a path is never decoded"),
    pytest.param(
        get(b"/?a=b\\c|d^e{f}\"'<>`"), expected(path=b"/?a=b\\c|d^e{f}\"'<>`"), id="a query as browsers send it"
    ),
    pytest.param(
        get(b"http://h.test/a?b"),
        expected(scheme=b"http", target=H, port=80, path=b"/a?b"),
        id="absolute-form",
    ),
    pytest.param(get(b"https://h.test/"), expected(scheme=b"https", target=H, port=443), id="absolute-form, https"),
    pytest.param(get(b"http://h.test"), expected(scheme=b"http", target=H, port=80), id="absolute-form without a path"),
    pytest.param(
        get(b"http://h.test?x"),
        expected(scheme=b"http", target=H, port=80, path=b"/?x"),
        id="absolute-form with a query and no path",
    ),
    pytest.param(
        get(b"HTTP://H.Test.:8080/A"),
        expected(scheme=b"http", target=H, port=8080, path=b"/A"),
        id="absolute-form in upper case, with a dot and a port",
    ),
    pytest.param(
        get(b"hTTps://h.test:/"),
        expected(scheme=b"https", target=H, port=443),
        id="absolute-form with an empty port",
    ),
    pytest.param(
        get(b"http://h.test:65535/@/:0"),
        expected(scheme=b"http", target=H, port=65535, path=b"/@/:0"),
        id="absolute-form with the highest port, a path with an at sign",
    ),
    pytest.param(
        get(b"http://[2001:DB8::1]:8080/"),
        expected(scheme=b"http", target=Host("[2001:db8::1]", is_address=True), port=8080),
        id="absolute-form, IPv6",
    ),
    pytest.param(
        get(b"http://b\xc3\xbccher.test/"),
        expected(scheme=b"http", target=Host("xn--bcher-kva.test"), port=80),
        id="absolute-form with a host in UTF-8",
    ),
    pytest.param(
        head(b"Host: h.test:443", first=b"CONNECT h.test:443 HTTP/1.1"),
        expected(b"CONNECT", b"", ((b"Host", b"h.test:443"),), target=H, port=443),
        id="authority-form",
    ),
    pytest.param(
        head(first=b"CONNECT h.test:22 HTTP/1.0"),
        expected(b"CONNECT", b"", (), target=H, port=22, version=b"1.0", field=None),
        id="authority-form in 1.0, without Host",
    ),
    pytest.param(
        head(first=b"CONNECT [::FFFF:192.0.2.1]:443 HTTP/1.1"),
        expected(b"CONNECT", b"", (), target=Host("[::ffff:c000:201]", is_address=True), port=443, field=None),
        id="authority-form, IPv6",
    ),
    pytest.param(get(b"*", method=b"OPTIONS"), expected(b"OPTIONS", b"*"), id="asterisk-form"),
    # Lines, section 2.2
    pytest.param(head(b"Host: h.test", end=b"\n"), expected(), id="LF alone ends a line"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: h.test\n\r\n", expected(), id="LF alone ends the last field"),
    pytest.param(b"GET / HTTP/1.1\nHost: h.test\r\n\n", expected(), id="LF alone is the empty line"),
    pytest.param(b"\r\n\r\n" + get(), expected(), id="empty lines before it"),
    pytest.param(b"\n\r\n\n" + get(), expected(), id="empty lines before it, some of LF alone"),
    pytest.param(head(), expected(fields=(), field=None), id="no field at all"),
    pytest.param(get(version=b"1.0"), expected(version=b"1.0"), id="HTTP/1.0"),
    pytest.param(get(method=b"M-SEARCH"), expected(b"M-SEARCH"), id="an unknown method"),
    pytest.param(get(method=b"get"), expected(b"get"), id="methods keep their case"),
    pytest.param(get(method=b"!#$%&'*+-.^_`|~0"), expected(b"!#$%&'*+-.^_`|~0"), id="every character of a token"),
    pytest.param(get(b"/caf\xe9\xff"), expected(path=b"/caf\xe9\xff"), id="obs-text in the path"),
    # Fields, section 5
    pytest.param(
        head(b"hOST: h.test", b"X_y:z", b"A:", b"B: \t ", b"C: \t d e\tf \t"),
        expected(
            fields=((b"hOST", b"h.test"), (b"X_y", b"z"), (b"A", b""), (b"B", b""), (b"C", b"d e\tf")),
        ),
        id="empty values, white space around values and inside",
    ),
    pytest.param(
        head(b"Host:h.test", b"A: caf\xc3\xa9\xff", b"A: :b: c", b"A: caf\xc3\xa9\xff"),
        expected(
            fields=((b"Host", b"h.test"), (b"A", b"caf\xc3\xa9\xff"), (b"A", b":b: c"), (b"A", b"caf\xc3\xa9\xff")),
        ),
        id="obs-text and colons in values, the same field more than once, in order",
    ),
    pytest.param(
        head(b"Host:  h.test:8080  "),
        expected(fields=((b"Host", b"h.test:8080"),)),
        id="spaces at the ends of Host, and a port",
    ),
    pytest.param(
        head(b"Host: H.TEST.:"), expected(fields=((b"Host", b"H.TEST.:"),)), id="Host is read as browsers read it"
    ),
    pytest.param(
        head(b"Host: [::1]:80"),
        expected(fields=((b"Host", b"[::1]:80"),), field=Host("[::1]", is_address=True)),
        id="Host, IPv6",
    ),
    pytest.param(
        head(b"X-Host: a.test", b"Host: h.test", b"Hosts: b.test", b"Forwarded: host=c.test"),
        expected(
            fields=(
                (b"X-Host", b"a.test"),
                (b"Host", b"h.test"),
                (b"Hosts", b"b.test"),
                (b"Forwarded", b"host=c.test"),
            )
        ),
        id="fields that only look like Host",
    ),
    # The length of the body, section 6
    pytest.param(
        head(b"Host: h.test", b"Content-Length: 0"),
        expected(fields=((b"Host", b"h.test"), (b"Content-Length", b"0"))),
        id="no body, said so",
    ),
    pytest.param(
        head(b"Host: h.test", b"content-length:  00018 "),
        expected(fields=((b"Host", b"h.test"), (b"content-length", b"00018")), length=18),
        id="a length with zeros before it",
    ),
    pytest.param(
        head(b"Host: h.test", b"Content-Length: 999999999999999999"),
        expected(
            fields=((b"Host", b"h.test"), (b"Content-Length", b"999999999999999999")), length=999_999_999_999_999_999
        ),
        id="the greatest length",
    ),
    pytest.param(
        head(b"Host: h.test", b"Transfer-Encoding: chunked"),
        expected(fields=((b"Host", b"h.test"), (b"Transfer-Encoding", b"chunked")), length=None),
        id="chunked",
    ),
    pytest.param(
        head(b"Host: h.test", b"TRANSFER-ENCODING:\tChunKED \t"),
        expected(fields=((b"Host", b"h.test"), (b"TRANSFER-ENCODING", b"ChunKED")), length=None),
        id="chunked, in another case",
    ),
    pytest.param(
        head(b"Host: h.test", b"TE: trailers, gzip", b"X-Content-Length: 5", b"Trailer: x"),
        expected(
            fields=(
                (b"Host", b"h.test"),
                (b"TE", b"trailers, gzip"),
                (b"X-Content-Length", b"5"),
                (b"Trailer", b"x"),
            )
        ),
        id="fields that only look like a length",
    ),
]


@pytest.mark.parametrize(("data", "parsed"), ACCEPTED)
def test_what_rfc_9112_allows_is_read(data: bytes, parsed: RequestHead) -> None:
    assert RequestHead.parse(data) == parsed


@pytest.mark.parametrize(("data", "parsed"), ACCEPTED)
def test_the_empty_line_may_be_missing(data: bytes, parsed: RequestHead) -> None:
    """find_end has seen it; parse does not need it."""
    assert RequestHead.parse(data.rstrip(b"\r\n")) == parsed
    assert RequestHead.parse(data.rstrip(b"\r\n") + b"\r\n") == parsed


@pytest.mark.parametrize(("data", "parsed"), ACCEPTED)
def test_a_head_that_comes_byte_by_byte_ends_with_its_last_byte(data: bytes, parsed: RequestHead) -> None:
    assert [find_end(data[:length]) for length in range(len(data) + 1)] == [None] * len(data) + [len(data)]


TRAILING = [
    pytest.param(b"x", id="a byte"),
    pytest.param(b"\n", id="a line feed"),
    pytest.param(b"\r\n", id="an empty line"),
    pytest.param(b"\r", id="a carriage return"),
    pytest.param(b" folded\r\n\r\n", id="what would be a folded line"),
    pytest.param(b"Host: listed.test\r\n\r\n", id="what would be another field"),
    pytest.param(b"GET /second HTTP/1.1\r\nHost: listed.test\r\n\r\n", id="a second request"),
    pytest.param(bytes(range(256)) * 4, id="a body"),
]


@pytest.mark.parametrize("trailing", TRAILING)
@pytest.mark.parametrize(("data", "parsed"), ACCEPTED)
def test_what_follows_a_head_is_no_part_of_it(data: bytes, parsed: RequestHead, trailing: bytes) -> None:
    assert find_end(data + trailing) == len(data)
    assert read(data + trailing) == parsed


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n\r\n\r\n", id="empty lines alone"),
        pytest.param(b"\n\n\n\n", id="line feeds alone"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="a line alone"),
        pytest.param(b"GET / HTTP/1.1\r\n\r", id="half of the empty line"),
        pytest.param(b"GET / HTTP/1.1\r\r", id="carriage returns"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\r\n", id="a line that holds a carriage return is not empty"),
        pytest.param(b"GET / HTTP/1.1\r\n \r\n", id="a line that holds a space is not empty"),
        pytest.param(b"GET / HTTP/1.1\r\n\0\r\n", id="a line that holds NUL is not empty"),
    ],
)
def test_a_head_without_its_empty_line_is_not_whole(data: bytes) -> None:
    assert find_end(data) is None


# Heads that have two readings, or none


@pytest.mark.parametrize(
    "data",
    [
        # The request line, section 3
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n\r\n", id="only empty lines"),
        pytest.param(head(b"Host: h.test", first=b"GET /"), id="no version: HTTP/0.9"),
        pytest.param(head(b"Host: h.test", first=b"GET"), id="a method alone"),
        pytest.param(head(b"Host: h.test", first=b"/ HTTP/1.1"), id="no method"),
        pytest.param(head(b"Host: h.test", first=b"GET HTTP/1.1"), id="no target"),
        pytest.param(head(b"Host: h.test", first=b"GET  HTTP/1.1"), id="an empty target"),
        pytest.param(head(b"Host: h.test", first=b"GET  / HTTP/1.1"), id="two spaces before the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /  HTTP/1.1"), id="two spaces after the target"),
        pytest.param(head(b"Host: h.test", first=b"GET\t/ HTTP/1.1"), id="a tab before the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /\tHTTP/1.1"), id="a tab after the target"),
        pytest.param(head(b"Host: h.test", first=b"GET\x0b/ HTTP/1.1"), id="a vertical tab before the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /\x0cHTTP/1.1"), id="a form feed after the target"),
        pytest.param(head(b"Host: h.test", first=b"GET\xa0/ HTTP/1.1"), id="a space of Latin-1"),
        pytest.param(head(b"Host: h.test", first=b"GET / HTTP/1.1 "), id="a space at the end"),
        pytest.param(head(b"Host: h.test", first=b"GET / HTTP/1.1\t"), id="a tab at the end"),
        pytest.param(head(b"Host: h.test", first=b" GET / HTTP/1.1"), id="a space at the start"),
        pytest.param(head(b"Host: h.test", first=b"GET / HTTP/1.1 HTTP/1.1"), id="two versions"),
        pytest.param(head(b"Host: h.test", first=b"GET /a b HTTP/1.1"), id="a space in the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /a\tb HTTP/1.1"), id="a tab in the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /a\0b HTTP/1.1"), id="NUL in the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /a\x7fb HTTP/1.1"), id="DEL in the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /a\x1bb HTTP/1.1"), id="ESC in the target"),
        pytest.param(head(b"Host: h.test", first=b"GET /\rHTTP/1.1"), id="a CR for a space"),
        pytest.param(head(b"Host: h.test", first=b"GET / HTTP/1.1\rHost: listed.test"), id="a CR for a line end"),
        pytest.param(head(b"Host: h.test", first=b"G(T / HTTP/1.1"), id="a method that is no token"),
        pytest.param(head(b"Host: h.test", first=b"GET: / HTTP/1.1"), id="a method with a colon"),
        pytest.param(head(b"Host: h.test", first=b"G\0T / HTTP/1.1"), id="NUL in the method"),
        pytest.param(head(b"Host: h.test", first=b"G\xcbT / HTTP/1.1"), id="obs-text in the method"),
        pytest.param(b"\xef\xbb\xbf" + get(), id="a byte order mark"),
        pytest.param(b"\0" + get(), id="NUL before it"),
        # The version, section 2.3
        pytest.param(get(version=b"0.9"), id="version 0.9"),
        pytest.param(get(version=b"1.2"), id="version 1.2"),
        pytest.param(get(version=b"2.0"), id="version 2.0"),
        pytest.param(get(version=b"2"), id="version 2"),
        pytest.param(get(version=b"1"), id="version 1"),
        pytest.param(get(version=b"1.10"), id="version 1.10"),
        pytest.param(get(version=b"01.1"), id="version 01.1"),
        pytest.param(get(version=b"1,1"), id="version 1,1"),
        pytest.param(get(version=b"+1.1"), id="version +1.1"),
        pytest.param(get(version=b""), id="version empty"),
        pytest.param(head(b"Host: h.test", first=b"GET / http/1.1"), id="version in lower case"),
        pytest.param(head(b"Host: h.test", first=b"GET / Http/1.1"), id="version in mixed case"),
        pytest.param(head(b"Host: h.test", first=b"GET / HTTPS/1.1"), id="another protocol's version"),
        pytest.param(head(b"Host: h.test", first=b"GET / HTTP/ 1.1"), id="a space in the version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="the preface of HTTP/2"),
        # The target, section 3.2
        pytest.param(get(b"h.test"), id="a host for a target"),
        pytest.param(get(b"h.test/"), id="a host and a path for a target"),
        pytest.param(get(b"h.test:80"), id="authority-form without CONNECT"),
        pytest.param(get(b"*"), id="an asterisk without OPTIONS"),
        pytest.param(get(b"**", method=b"OPTIONS"), id="two asterisks"),
        pytest.param(get(b"*", method=b"options"), id="an asterisk with options in lower case"),
        pytest.param(get(b"?a=b"), id="a query for a target"),
        pytest.param(get(b"\\"), id="a backslash for a path"),
        pytest.param(get(b"#"), id="a fragment for a target"),
        pytest.param(get(b"http:/h.test/"), id="one slash after the scheme"),
        pytest.param(get(b"http:h.test/"), id="no slash after the scheme"),
        pytest.param(get(b"http:\\\\h.test/"), id="backslashes after the scheme"),
        pytest.param(get(b"://h.test/"), id="an empty scheme"),
        pytest.param(get(b"ftp://h.test/"), id="ftp"),
        pytest.param(get(b"ws://h.test/"), id="ws"),
        pytest.param(get(b"file:///etc/passwd"), id="file"),
        pytest.param(get(b"httpss://h.test/"), id="a scheme that begins with https"),
        pytest.param(get(b"xhttp://h.test/"), id="a scheme that ends in http"),
        pytest.param(get(b"url:http://h.test/"), id="a URL in a URL"),
        pytest.param(get(b"view-source:http://h.test/"), id="another URL in a URL"),
        pytest.param(get(b"http://h.test\\@listed.test/"), id="a backslash ends the host for some"),
        pytest.param(get(b"http://h.test\\.listed.test/"), id="a backslash inside the host"),
        pytest.param(get(b"http://h.test#@listed.test/"), id="a fragment ends the host for some"),
        pytest.param(get(b"http://h.test#"), id="an empty fragment"),
        pytest.param(get(b"http://h.test/a#b"), id="a fragment after the path"),
        pytest.param(get(b"http://h.test?a#b"), id="a fragment after the query"),
        pytest.param(get(b"/a#b"), id="a fragment in origin-form"),
        pytest.param(get(b"h.test", method=b"CONNECT"), id="CONNECT without a port"),
        pytest.param(get(b"h.test:", method=b"CONNECT"), id="CONNECT with an empty port"),
        pytest.param(get(b"[::1]", method=b"CONNECT"), id="CONNECT without a port, IPv6"),
        # Fields, section 5
        pytest.param(head(b"Host: h.test", b" folded"), id="obs-fold with a space"),
        pytest.param(head(b"Host: h.test", b"\tfolded"), id="obs-fold with a tab"),
        pytest.param(head(b"Host:", b" h.test"), id="obs-fold in Host"),
        pytest.param(head(b" Host: h.test"), id="a space before the first field"),
        pytest.param(head(b"\tHost: h.test"), id="a tab before the first field"),
        pytest.param(head(b"A: b", b" Host: listed.test", b"Host: h.test"), id="a Host that is a folded line for some"),
        pytest.param(head(b"Host: h.test", b" "), id="a line of a space"),
        pytest.param(head(b"Host: h.test", b"\t", b"A: b"), id="a line of a tab"),
        pytest.param(head(b"Host: h.test", b"\x0b", b"A: b"), id="a line of a vertical tab"),
        pytest.param(head(b"Host : h.test"), id="a space before the colon"),
        pytest.param(head(b"Host\t: h.test"), id="a tab before the colon"),
        pytest.param(head(b"Host\0: h.test"), id="NUL before the colon"),
        pytest.param(head(b"Content-Length : 5", b"Host: h.test"), id="a space before the colon of a length"),
        pytest.param(head(b"Transfer-Encoding\x0b: chunked", b"Host: h.test"), id="a vertical tab before a colon"),
        pytest.param(head(b"Host h.test"), id="no colon"),
        pytest.param(head(b": h.test"), id="no name"),
        pytest.param(head(b":"), id="a colon alone"),
        pytest.param(head(b"H(st: h.test"), id="a name that is no token"),
        pytest.param(head(b"Ho st: h.test"), id="a space in a name"),
        pytest.param(head(b'"Host": h.test'), id="a name in quotes"),
        pytest.param(head(b"H\xf6st: h.test"), id="obs-text in a name"),
        pytest.param(head(b"A: b\0c"), id="NUL in a value"),
        pytest.param(head(b"A: \0"), id="NUL as a value"),
        pytest.param(head(b"A: b\x0bc"), id="a vertical tab in a value"),
        pytest.param(head(b"A: \x0c"), id="a form feed as a value"),
        pytest.param(head(b"A: b\x1bc"), id="ESC in a value"),
        pytest.param(head(b"A: b\x7fc"), id="DEL in a value"),
        pytest.param(head(b"A: b\x7f"), id="DEL at the end of a value"),
        pytest.param(head(b"A: b\rHost: listed.test", b"Host: h.test"), id="a CR in a value"),
        pytest.param(head(b"Host: h.test\r", b"A: b"), id="two CRs end a line"),
        pytest.param(head(b"Host: h.test", b"\r", b"A: b"), id="a line of a CR"),
        pytest.param(head(b"\rHost: h.test"), id="a CR before a name"),
        pytest.param(head(b"Host:\r h.test"), id="a CR before a value"),
        pytest.param(head(b"Host: h.test\r"), id="two CRs end the last line"),
        pytest.param(head(b"Host: h.test", b"\r"), id="a line of a CR is the last"),
        pytest.param(head(first=b"GET / HTTP/1.1\r"), id="two CRs end the only line"),
        pytest.param(b"\r" + get(), id="a CR before it"),
        pytest.param(b"\r\r\n" + get(), id="a line of a CR before it"),
        pytest.param(get() + get(), id="two heads for one"),
        # Host, section 3.2
        pytest.param(head(b"Host: h.test", b"Host: listed.test"), id="two Hosts"),
        pytest.param(head(b"Host: h.test", b"Host: h.test"), id="two Hosts that are equal"),
        pytest.param(head(b"Host: h.test", b"hOST: listed.test"), id="two Hosts in different case"),
        pytest.param(head(b"Host: h.test", b"A: b", b"HOST:"), id="two Hosts, one of them empty"),
        pytest.param(head(b"Host:\th.test"), id="a tab before the host"),
        pytest.param(head(b"Host: h.test\t"), id="a tab after the host"),
        pytest.param(head(b"host:\t h.test"), id="a tab and a space before the host"),
        # The length of the body, section 6
        pytest.param(head(b"Content-Length: 5", b"Content-Length: 5"), id="two lengths that are equal"),
        pytest.param(head(b"Content-Length: 5", b"content-length: 6"), id="two lengths"),
        pytest.param(head(b"Content-Length: 5", b"Content-Length:"), id="two lengths, one of them empty"),
        pytest.param(head(b"Content-Length: 5, 5"), id="a list of lengths"),
        pytest.param(head(b"Content-Length: 5,5"), id="a list of lengths without a space"),
        pytest.param(head(b"Content-Length: 5,"), id="a list of one length"),
        pytest.param(head(b"Content-Length:"), id="an empty length"),
        pytest.param(head(b"Content-Length: +5"), id="a length with a plus"),
        pytest.param(head(b"Content-Length: -1"), id="a negative length"),
        pytest.param(head(b"Content-Length: 5 5"), id="a length with a space in it"),
        pytest.param(head(b"Content-Length: 5\t5"), id="a length with a tab in it"),
        pytest.param(head(b"Content-Length: 0x5"), id="a hexadecimal length"),
        pytest.param(head(b"Content-Length: 5.0"), id="a length with a fraction"),
        pytest.param(head(b"Content-Length: 1e1"), id="a length with an exponent"),
        pytest.param(head(b"Content-Length: 1_0"), id="a length with an underscore"),
        pytest.param(head(b"Content-Length: 5;"), id="a length with a parameter"),
        pytest.param(head(b'Content-Length: "5"'), id="a length in quotes"),
        pytest.param(head("Content-Length: ٥".encode()), id="a length in digits of another script"),
        pytest.param(head(b"Content-Length: \xb2"), id="a length in a digit of Latin-1"),
        pytest.param(head(b"Content-Length: " + b"1" * 20), id="a length of 20 digits"),
        pytest.param(head(b"Content-Length: " + b"0" * 19 + b"5"), id="a length of 20 digits, zeros"),
        pytest.param(head(b"Content-Length: " + b"9" * 5000), id="a length of 5000 digits"),
        pytest.param(head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), id="a length and chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"Content-Length: 0"), id="chunked and no length"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"content-length:"), id="chunked and an empty length"),
        pytest.param(head(b"Transfer-Encoding: identity", b"Content-Length: 5"), id="identity and a length"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), id="chunked in two fields"),
        pytest.param(head(b"Transfer-Encoding: gzip", b"transfer-encoding: chunked"), id="two codings in two fields"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"Transfer-Encoding:"), id="chunked and an empty coding"),
        pytest.param(head(b"Transfer-Encoding: chunked, chunked"), id="chunked twice"),
        pytest.param(head(b"Transfer-Encoding: gzip, chunked"), id="gzip, chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked, identity"), id="chunked, identity"),
        pytest.param(head(b"Transfer-Encoding: identity"), id="identity"),
        pytest.param(head(b"Transfer-Encoding: gzip"), id="gzip"),
        pytest.param(head(b"Transfer-Encoding:"), id="an empty coding"),
        pytest.param(head(b"Transfer-Encoding: ,chunked"), id="a comma and chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked,"), id="chunked and a comma"),
        pytest.param(head(b"Transfer-Encoding: xchunked"), id="a coding that ends in chunked"),
        pytest.param(head(b"Transfer-Encoding: chunkedx"), id="a coding that begins with chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked;q=1"), id="chunked with a parameter"),
        pytest.param(head(b"Transfer-Encoding: chunked foo"), id="chunked and a word"),
        pytest.param(head(b'Transfer-Encoding: "chunked"'), id="chunked in quotes"),
        pytest.param(head(b"Transfer-Encoding: \x0bchunked"), id="a vertical tab before chunked"),
        pytest.param(head(b"Transfer-Encoding: chun\xebed"), id="chunked with obs-text"),
        pytest.param(head("Transfer-Encoding: chun\u212aed".encode()), id="chunked with a letter that lowers to k"),
        pytest.param(
            head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), id="chunked in HTTP/1.0, which has none"
        ),
    ],
)
def test_a_head_that_has_two_readings_is_refused(data: bytes) -> None:
    with pytest.raises(HeadError):
        RequestHead.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(get(b"http://user@h.test/"), id="userinfo"),
        pytest.param(get(b"http://user:word@h.test/"), id="userinfo with a password"),
        pytest.param(get(b"http://@h.test/"), id="empty userinfo"),
        pytest.param(get(b"http://h.test:80@listed.test/"), id="a host and a port as userinfo"),
        pytest.param(get(b"http://h.test%40listed.test/"), id="percent-encoded userinfo"),
        pytest.param(get(b"http://h.test:0/"), id="port 0"),
        pytest.param(get(b"http://h.test:65536/"), id="port 65536"),
        pytest.param(get(b"http://h.test:+80/"), id="a signed port"),
        pytest.param(get(b"http://h.test:80:80/"), id="two ports"),
        pytest.param(get(b"http:///"), id="an empty authority"),
        pytest.param(get(b"http://"), id="nothing after the scheme"),
        pytest.param(get(b"http://?h.test"), id="a query for an authority"),
        pytest.param(get(b"http://:80/"), id="a port for an authority"),
        pytest.param(get(b"http:////h.test/"), id="an authority after an empty one"),
        pytest.param(get(b"http://./"), id="a dot for a host"),
        pytest.param(get(b"http://::1/"), id="IPv6 without brackets"),
        pytest.param(get(b"http://[::1/"), id="IPv6 with one bracket"),
        pytest.param(get(b"http://[fe80::1%25eth0]/"), id="a zone id"),
        pytest.param(get(b"http://h.test%00.listed.test/"), id="percent-encoded NUL"),
        pytest.param(get(b"http://h.test%2f.listed.test/"), id="percent-encoded slash"),
        pytest.param(get(b"http://h.test%5c.listed.test/"), id="percent-encoded backslash"),
        pytest.param(get(b"http://\xff.test/"), id="a host that is not UTF-8"),
        pytest.param(get("http://h.test／@listed.test/".encode()), id="a full-width slash"),
        pytest.param(get(b"user@h.test:443", method=b"CONNECT"), id="CONNECT with userinfo"),
        pytest.param(get(b"h.test:443/", method=b"CONNECT"), id="CONNECT with a path"),
        pytest.param(get(b"h.test/:443", method=b"CONNECT"), id="CONNECT with a path before the port"),
        pytest.param(get(b"h.test:443?a", method=b"CONNECT"), id="CONNECT with a query"),
        pytest.param(get(b"/", method=b"CONNECT"), id="CONNECT to a path"),
        pytest.param(get(b":443", method=b"CONNECT"), id="CONNECT to a port"),
        pytest.param(get(b"http://h.test:443", method=b"CONNECT"), id="CONNECT to a URL"),
        pytest.param(get(b"http://h.test/", method=b"CONNECT"), id="CONNECT to a URL without a port"),
        pytest.param(get(b"h.test:443:443", method=b"CONNECT"), id="CONNECT with two ports"),
        pytest.param(get(b"h.test:0", method=b"CONNECT"), id="CONNECT with port 0"),
        pytest.param(get(b"h.test:65536", method=b"CONNECT"), id="CONNECT with port 65536"),
        pytest.param(get(b"h.test:https", method=b"CONNECT"), id="CONNECT with a port by name"),
        pytest.param(get(b"h.test\\:443", method=b"CONNECT"), id="CONNECT with a backslash"),
        pytest.param(get(b"::1:443", method=b"CONNECT"), id="CONNECT to IPv6 without brackets"),
        pytest.param(head(b"Host: user@h.test"), id="Host with userinfo"),
        pytest.param(head(b"Host: listed.test@h.test"), id="Host with a host as userinfo"),
        pytest.param(head(b"Host: h.test listed.test"), id="Host with a space in it"),
        pytest.param(head(b"Host: h.test :80"), id="Host with a space before the port"),
        pytest.param(head(b"Host: h.test: 80"), id="Host with a space after the colon"),
        pytest.param(head(b"Host: h.test, listed.test"), id="Host with a list"),
        pytest.param(head(b"Host: h.test/"), id="Host with a path"),
        pytest.param(head(b"Host: http://h.test"), id="Host with a URL"),
        pytest.param(head(b"Host: h.test?"), id="Host with a query"),
        pytest.param(head(b"Host: h.test#"), id="Host with a fragment"),
        pytest.param(head(b"Host: h.test\\"), id="Host with a backslash"),
        pytest.param(head(b"Host: h.test:0"), id="Host with port 0"),
        pytest.param(head(b"Host: h.test:65536"), id="Host with port 65536"),
        pytest.param(head(b"Host: h.test:80:80"), id="Host with two ports"),
        pytest.param(head(b"Host:"), id="Host that is empty"),
        pytest.param(head(b"Host:   "), id="Host of spaces"),
        pytest.param(head(b"Host: :80"), id="Host of a port"),
        pytest.param(head(b"Host: h.test.."), id="Host with two trailing dots"),
        pytest.param(head(b"Host: \xff.test"), id="Host that is not UTF-8"),
        pytest.param(head(b"Host: h.test:80", first=b"GET http://\xff.test/ HTTP/1.1"), id="a good Host, a bad target"),
        pytest.param(head(b"Host: [::1"), id="Host with an open bracket"),
        pytest.param(head(b"Host: ::1"), id="Host with IPv6 without brackets"),
        pytest.param(head(b"Host: " + b"a" * 5000), id="Host that is too long"),
    ],
)
def test_a_head_with_a_host_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(HostError):
        RequestHead.parse(data)


def test_a_connect_with_a_fragment_is_refused() -> None:
    with pytest.raises((HeadError, HostError)):
        RequestHead.parse(get(b"h.test:443#a", method=b"CONNECT"))


CONTROLS = [bytes([code]) for code in (*range(0x20), 0x7F) if code not in b"\t\n"]


@pytest.mark.parametrize("control", [pytest.param(c, id=f"0x{c[0]:02x}") for c in CONTROLS])
@pytest.mark.parametrize(
    "places",
    [
        pytest.param((b"%sGET / HTTP/1.1", b"A: b"), id="before the method"),
        pytest.param((b"G%sET / HTTP/1.1", b"A: b"), id="in the method"),
        pytest.param((b"GET%s / HTTP/1.1", b"A: b"), id="after the method"),
        pytest.param((b"GET %s/ HTTP/1.1", b"A: b"), id="before the target"),
        pytest.param((b"GET /a%sb HTTP/1.1", b"A: b"), id="in the target"),
        pytest.param((b"GET http://h.test%s/ HTTP/1.1", b"A: b"), id="in the authority"),
        pytest.param((b"GET / %sHTTP/1.1", b"A: b"), id="before the version"),
        pytest.param((b"GET / HTTP/1.1%s", b"A: b"), id="after the version"),
        pytest.param((b"GET / HTTP/1.1", b"%sA: b"), id="before a name"),
        pytest.param((b"GET / HTTP/1.1", b"A%s: b"), id="after a name"),
        pytest.param((b"GET / HTTP/1.1", b"A:%s b"), id="before a value"),
        pytest.param((b"GET / HTTP/1.1", b"A: b%sc"), id="in a value"),
        pytest.param((b"GET / HTTP/1.1", b"A: b%s"), id="after a value"),
        pytest.param((b"GET / HTTP/1.1", b"%s"), id="as a line"),
    ],
)
def test_a_control_character_is_refused_wherever_it_stands(places: tuple[bytes, bytes], control: bytes) -> None:
    """Two readers of it take it for white space, for a line end, for nothing or for itself."""
    first, field = (place.replace(b"%s", control) for place in places)
    with pytest.raises(HeadError):
        RequestHead.parse(head(field, b"Host: h.test", first=first))


# Names that must agree


@pytest.mark.parametrize(
    ("data", "agrees"),
    [
        pytest.param(head(), True, id="no name at all"),
        pytest.param(get(), True, id="Host alone"),
        pytest.param(head(first=b"GET http://h.test/ HTTP/1.1"), True, id="target alone"),
        pytest.param(get(b"http://h.test/"), True, id="the same"),
        pytest.param(get(b"http://H.TEST./"), True, id="the same in another spelling"),
        pytest.param(get(b"http://h.test:8080/"), True, id="the same host at another port"),
        pytest.param(get(b"h.test:443", method=b"CONNECT"), True, id="CONNECT and Host without a port"),
        pytest.param(head(b"Host: 127.0.0.1", first=b"GET http://0x7f.1/ HTTP/1.1"), True, id="the same address"),
        pytest.param(get(b"http://listed.test/"), False, id="another host"),
        pytest.param(get(b"listed.test:443", method=b"CONNECT"), False, id="CONNECT to another host"),
        pytest.param(get(b"http://www.h.test/"), False, id="a subdomain"),
        pytest.param(get(b"http://test/"), False, id="a parent"),
        pytest.param(head(b"Host: [::1]", first=b"CONNECT 127.0.0.1:80 HTTP/1.1"), False, id="loopback twice"),
        pytest.param(head(b"Host: fass.test", first="GET http://faß.test/ HTTP/1.1".encode()), False, id="ss is no ß"),
    ],
)
def test_target_and_host_agree_where_they_name_one_host(data: bytes, agrees: bool) -> None:
    assert RequestHead.parse(data).agrees is agrees


@pytest.mark.parametrize(
    ("data", "authority"),
    [
        pytest.param(get(), b"", id="no target"),
        pytest.param(get(b"http://H.test/"), b"h.test:80", id="the port of http"),
        pytest.param(get(b"https://h.test./"), b"h.test:443", id="the port of https"),
        pytest.param(get(b"H.TEST:0443", method=b"CONNECT"), b"h.test:443", id="CONNECT"),
        pytest.param(get(b"http://[0:0::1]:81/"), b"[::1]:81", id="IPv6"),
    ],
)
def test_the_authority_is_canonical(data: bytes, authority: bytes) -> None:
    assert RequestHead.parse(data).authority == authority


# Any bytes at all

TARGETS = [
    *(b"/", b"*", b"/a?b#c", b"http://h.test", b"HTTPS://[::1]:81/a", b"h.test:443", b"[::1]:443", b"http://h.test?x"),
    *(b"//a", b"http://u@h.test/", b"http://h.test\\", b"h.test", b"http://\xc3\xbc.test/", b"http://0x7f.1:080/"),
]
NAMES = [b"Host", b"hOST", b"Content-Length", b"Transfer-Encoding", b"A", b"X-y", b"Host ", b" A", b"\xff", b""]
VALUES = [
    b"h.test",
    b"h.test:80",
    b"chunked",
    b"0",
    b"5",
    b"",
    b" ",
    b"\t",
    b"caf\xe9",
    b"a b",
    b"\0",
    b"a\rb",
    b"[::1]",
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n", b"\r", b"\r\n "]
TOKENS = st.sampled_from([*TARGETS, *NAMES, *VALUES, *ENDS, b"GET", b"CONNECT", b" ", b":", b"HTTP/1.1", b"HTTP/1.0"])
LINES = st.builds(
    b"%b %b HTTP/%b%b".__mod__,
    st.tuples(
        st.sampled_from([b"GET", b"GET", b"POST", b"CONNECT", b"OPTIONS"]),
        st.sampled_from(TARGETS),
        st.sampled_from([b"1.1", b"1.1", b"1.0"]),
        st.sampled_from(ENDS),
    ),
)
FIELDS = st.builds(
    b"%b:%b%b%b".__mod__,
    st.tuples(
        st.sampled_from(NAMES[:6]) | st.sampled_from(NAMES),
        st.sampled_from([b"", b" ", b" \t"]),
        st.sampled_from(VALUES),
        st.sampled_from(ENDS),
    ),
)
FAIR = st.sampled_from([b"Host: h.test", b"host:h.test:80 ", b"A: caf\xe9\t", b"A:", b"Content-Length: 5", b"TE: x"])
HEADS = st.builds(
    lambda line, fields: line + b"".join(fields) + b"\r\n",
    LINES,
    st.lists(FAIR.map(b"%b\r\n".__mod__), max_size=3, unique=True) | st.lists(FIELDS, max_size=4),
)
GOOD = st.sampled_from([case.values[0] for case in ACCEPTED])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good head with one to three places changed."""
    data = draw(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 4, len(data))))
        data = data[:start] + draw(TOKENS | st.binary(max_size=2)) + data[end:]
    return data


ANY = st.binary(max_size=80) | st.lists(TOKENS, max_size=12).map(b"".join) | HEADS | mutated()


def parsed(data: bytes) -> RequestHead | None:
    try:
        return RequestHead.parse(data)
    except (HeadError, HostError):
        return None


def written(head: RequestHead) -> bytes:
    """A head as it would be sent on."""
    if head.method == b"CONNECT":
        target = head.authority
    else:
        target = (head.scheme + b"://" + head.authority if head.scheme else b"") + head.path
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in head.fields)
    return head.method + b" " + target + b" HTTP/" + head.version + b"\r\n" + fields + b"\r\n"


@settings(max_examples=examples(400))
@given(ANY)
@example(b"GET / HTTP/1.1\r\nHost: h.test\r\r\n\r\n")
@example(b"GET http://h.test?x HTTP/1.1\r\n\r\n")
def test_any_bytes_give_a_head_that_reads_back_or_an_error(data: bytes) -> None:
    head = parsed(data)
    if head is not None:
        assert RequestHead.parse(written(head)) == head
        assert find_end(written(head)) == len(written(head))
        assert (head.target is None) == (head.port == 0) == (head.authority == b"")
        assert (head.path == b"") == (head.method == b"CONNECT")


@settings(max_examples=examples(400))
@given(ANY)
def test_a_head_that_is_read_holds_no_character_that_could_end_it_early(data: bytes) -> None:
    head = parsed(data)
    if head is not None:
        for part in (head.method, head.path, head.version, *(part for field in head.fields for part in field)):
            assert not any(control in part for control in (b"\r", b"\n", b"\0"))


@settings(max_examples=examples(400))
@given(HEADS | mutated() | GOOD)
def test_what_h11_reads_too_it_reads_in_the_same_way(data: bytes) -> None:
    """A reader written by others, which follows the RFC as strictly."""
    head = parsed(data)
    if head is None or find_end(data) != len(data):
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(data)
    try:
        event = other.next_event()
    except h11.RemoteProtocolError:
        return
    assert isinstance(event, h11.Request)
    assert (event.method, event.http_version) == (head.method, head.version)
    assert [(name, value.lower()) for name, value in event.headers.raw_items()] == [
        (name, value.lower())
        for name, value in head.fields  # h11 lowers "chunked"
    ]
    lengths = [int(value) for name, value in event.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
    assert head.length == (None if chunked else lengths[0] if lengths else 0)


@given(ANY, st.binary(max_size=20))
def test_where_a_head_ends_does_not_depend_on_what_follows(data: bytes, more: bytes) -> None:
    end = find_end(data)
    if end is not None:
        assert find_end(data + more) == end
        assert find_end(data[:end]) == end
        assert find_end(data[: end - 1]) is None
        assert data[:end].endswith((b"\n\n", b"\n\r\n"))


SEEN = b"seen-by-nobody"


@settings(max_examples=examples(300))
@given(ANY, st.data())
@example(b"GET http://u@/ HTTP/1.1\r\n\r\n", None)
def test_an_error_never_shows_the_host(data: bytes, choice: st.DataObject | None) -> None:
    at = choice.draw(st.integers(0, len(data))) if choice else data.index(b"@") + 1
    try:
        RequestHead.parse(data[:at] + SEEN + b".test" + data[at:])
    except (HeadError, HostError) as error:
        shown = f"{error} {error!r} {error.args!r} {''.join(traceback.format_exception(error))}"
        assert SEEN.decode() not in shown


def test_a_head_does_not_show_itself() -> None:
    assert SEEN.decode() not in repr(RequestHead.parse(get(b"http://" + SEEN + b".test/" + SEEN)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(b"A:" + b" " * 12000 + b"\x01"), id="spaces before a control character"),
        pytest.param(head(b"A: b" + b" " * 12000 + b"\x01"), id="spaces inside a value"),
        pytest.param(head(b"A: " + b"b " * 16000 + b"\x01"), id="words"),
        pytest.param(head(b"A" * 32000), id="a name without an end"),
        pytest.param(head(first=b"G" * 32000), id="a method without an end"),
        pytest.param(head(first=b"GET /" + b"a" * 32000), id="a target without an end"),
        pytest.param(get(b"http://" + b"[" * 32000), id="brackets"),
        pytest.param(get(b"http://" + b":" * 32000), id="colons"),
        pytest.param(head(*[b"A:"] * 10000, b"A"), id="many fields"),
        pytest.param(b"\r\n" * 16000 + b"G", id="empty lines"),
        pytest.param(head(b"Host: h.test", b"A: b" + b"\r" * 16000), id="carriage returns"),
    ],
)
def test_a_head_made_to_be_slow_is_refused_at_once(data: bytes) -> None:
    """One request must not hold up all others: reading takes time in proportion to its length."""

    def read() -> None:
        find_end(data)
        with pytest.raises((HeadError, HostError)):
            RequestHead.parse(data)

    assert million_steps(read) < 12


@pytest.mark.parametrize(
    "target", ["ftp://site.test/", "GOPHER://site.test", "ws://site.test/", "httpx://site.test/", "a+b.c-1://x"]
)
def test_a_scheme_that_is_not_served_is_told_apart(target: str):
    with pytest.raises(SchemeError):
        RequestHead.parse(f"GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n".encode())


@pytest.mark.parametrize(
    "target",
    [
        "http:site.test",
        "https:/site.test/",
        "site.test",
        "1tp://site.test/",
        "mailto:a@site.test",
        "http:\\\\site.test",
    ],
)
def test_a_target_without_a_scheme_is_malformed(target: str):
    with pytest.raises(HeadError) as caught:
        RequestHead.parse(f"GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n".encode())
    assert not isinstance(caught.value, SchemeError)
