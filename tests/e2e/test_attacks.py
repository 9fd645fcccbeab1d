"""Attacks: every way in, form of a name, protocol and mode we know, against real processes.

Each case asserts three views: what the client sees, what reached the origin, what was asked of the
DNS server. The gate stands between a client and a world, with every mode at once; a real Squid is the
parent proxy of `upstream`. docs/threat-model.md names these tests row by row.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import MODES
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, Network
from tests.e2e.ways import (
    Door,
    View,
    ask,
    ask_h2,
    ask_inside_tls,
    ask_slowly,
    client_hello,
    get,
    hello_with_names,
    in_small_records,
    read_all,
    read_answer,
    read_head,
    secure,
    seen,
    view,
)

FRONT = b"pass.test"
"""The unlisted host that a client names first, where it hides behind one."""
EXPLICIT = ("regular", "secure", "upstream")


@contextmanager
def no_contact(net: Network) -> Iterator[None]:
    """Nothing at all goes out."""
    with net.nothing_reaches_the_origin():
        yield


@contextmanager
def front_only(net: Network) -> Iterator[None]:
    """The front, which is not listed, may be resolved and connected to; it is asked nothing but for itself."""
    requests, queries = net.journal(), net.queries()
    yield
    new = net.journal()[len(requests) :]
    assert all(line.startswith("connection ") or re.match(r"request \S+ pass\.test /first", line) for line in new), new
    asked = {query.split()[1] for query in net.queries()[len(queries) :]}
    assert asked <= {FRONT.decode()}, asked


# The forms of a name. Every reader of hosts that a browser is takes them for one that is listed.
FORMS = [
    pytest.param(b"listed.test", id="as listed"),
    pytest.param(b"LiSTeD.TeST", id="mixed case"),
    pytest.param(b"listed.test.", id="trailing dot"),
    pytest.param(b"www.listed.test", id="subdomain"),
    pytest.param(b"a.b.c.d.e.f.g.listed.test", id="deep subdomain"),
    pytest.param(b"_x._y.listed.test", id="underscores"),
    pytest.param(b"xn--bcher-kva.example", id="punycode"),
    pytest.param(b"XN--BCHER-KVA.EXAMPLE", id="punycode in upper case"),
    pytest.param(b"xn--fa-hia.example", id="punycode of a sharp s"),
]
# Forms that a request line or a header field can hold.
HTTP_FORMS = [
    *FORMS,
    pytest.param(b"%6cisted.test", id="percent-encoded letter"),
    pytest.param(b"%6C%69%73%74%65%64%2E%74%65%73%74", id="percent-encoded whole"),
    pytest.param("ｌｉｓｔｅｄ.test".encode(), id="full width"),
    pytest.param("lis\u00adted.test".encode(), id="soft hyphen"),
    pytest.param("lis\u200bted.test".encode(), id="zero width space"),
    pytest.param("listed。test".encode(), id="ideographic full stop"),
    pytest.param("listed．test".encode(), id="full-width full stop"),
    pytest.param("ʟɪsted.test".replace("ʟɪ", "Ⓛⓘ").encode(), id="circled letters"),
    pytest.param(b"%E2%93%81isted.test", id="percent-encoded circled letter"),
    pytest.param("bücher.example".encode(), id="Unicode"),
    pytest.param("BÜCHER.example".encode(), id="Unicode in upper case"),
    pytest.param("bu\u0308cher.example".encode(), id="Unicode, not composed"),
    pytest.param("faß.example".encode(), id="sharp s"),
]


def test_the_listed_forms_are_many_enough():
    assert len(HTTP_FORMS) >= 20


@pytest.mark.parametrize("form", HTTP_FORMS)
@pytest.mark.parametrize("mode", EXPLICIT)
def test_an_absolute_target_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, form: bytes):
    with no_contact(net), doors(mode).connect() as connection:
        assert seen(lambda: ask(connection, get(form, target=b"http://" + form + b"/"))) is View.PAGE


@pytest.mark.parametrize("form", HTTP_FORMS)
@pytest.mark.parametrize("mode", ["regular", "upstream"])
def test_plain_http_in_a_tunnel_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, form: bytes):
    def way() -> bytes:
        with doors(mode).enter(form, 80) as tunnel:
            return ask(tunnel, get(form))

    with no_contact(net):
        assert seen(way) is View.PAGE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["regular", "secure", "upstream", "socks5"])
def test_tls_in_a_tunnel_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, form: bytes):
    def way() -> bytes:
        door = doors(mode)
        with door.enter(form, 443) as tunnel:
            return ask_inside_tls(tunnel, form.decode(), door.ca, get(form))

    with no_contact(net):
        assert seen(way) is View.PAGE


@pytest.mark.parametrize("form", FORMS)
def test_plain_http_through_socks_is_stopped(net: Network, doors: Callable[[str], Door], form: bytes):
    def way() -> bytes:
        with doors("socks5").enter(form, 80) as tunnel:
            return ask(tunnel, get(form))

    with no_contact(net):
        assert seen(way) is View.PAGE


@pytest.mark.parametrize("form", HTTP_FORMS)
@pytest.mark.parametrize("mode", ["transparent"])
def test_a_redirected_request_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, form: bytes):
    def way() -> bytes:
        with doors(mode).enter(b"", 80) as tunnel:
            return ask(tunnel, get(form))

    with no_contact(net):
        assert seen(way) is View.PAGE


@pytest.mark.parametrize("form", FORMS)
def test_redirected_tls_is_stopped(net: Network, doors: Callable[[str], Door], form: bytes):
    def way() -> bytes:
        door = doors("transparent")
        with door.enter(b"", 443) as tunnel:
            return ask_inside_tls(tunnel, form.decode(), door.ca, get(form))

    with no_contact(net):
        assert seen(way) is View.PAGE


# Behind a front: the client names an unlisted host first, and a listed one where a hook may not look.
FRONTED: dict[str, Callable[[Door, socket.socket], bytes]] = {
    "Host": lambda door, t: ask(t, get(b"listed.test")),
    "Host with a port": lambda door, t: ask(t, get(b"listed.test:80")),
    "Host, LF only": lambda door, t: ask(t, get(b"listed.test").replace(b"\r\n", b"\n")),
    "Host after empty lines": lambda door, t: ask(t, b"\r\n\r\n" + get(b"listed.test")),
    "Host in lower case": lambda door, t: ask(t, get(b"listed.test").replace(b"Host:", b"host:")),
    "Host without a space": lambda door, t: ask(t, get(b"listed.test").replace(b"Host: ", b"Host:")),
    "Host, byte by byte": lambda door, t: ask_slowly(t, get(b"listed.test")),
    "absolute target": lambda door, t: ask(t, get(b"listed.test", target=b"http://listed.test/")),
    "HTTP/1.0": lambda door, t: ask(t, get(b"listed.test", version=b"1.0")),
    "unknown method": lambda door, t: ask(t, get(b"listed.test", method=b"FETCH")),
    "the second request of a connection": lambda door, t: (
        ask(t, get(FRONT, target=b"/first")) + ask(t, get(b"listed.test"))
    ),
    "a pipelined request": lambda door, t: ask(t, get(FRONT, target=b"/first") + get(b"listed.test")) + read_answer(t),
    "WebSocket": lambda door, t: ask(t, get(b"listed.test", more=UPGRADE)),
    "HTTP/2 without TLS": lambda door, t: ask_h2(t, b"listed.test"),
    "HTTP/2 without TLS, :authority in upper case": lambda door, t: ask_h2(t, b"LISTED.test."),
    "HTTP/2 without TLS, host field": lambda door, t: ask_h2(t, b"listed.test", host=b"listed.test"),
    "POST": lambda door, t: ask(t, get(b"listed.test", method=b"POST", more=b"Content-Length: 3\r\n") + b"abc"),
}
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
FRONTED_TLS: dict[str, Callable[[Door, socket.socket], bytes]] = {
    "SNI": lambda door, t: ask_inside_tls(t, "listed.test", door.ca, get(b"listed.test")),
    "SNI in upper case": lambda door, t: ask_inside_tls(t, "LISTED.TEST", door.ca, get(b"listed.test")),
    "SNI of a subdomain": lambda door, t: ask_inside_tls(t, "www.listed.test", door.ca, get(b"listed.test")),
    "SNI, one byte first": lambda door, t: ask_inside_tls(t, "listed.test", door.ca, get(b"listed.test"), pieces=1),
    "SNI, in segments of 100 bytes": lambda door, t: ask_inside_tls(
        t, "listed.test", door.ca, get(b"listed.test"), pieces=100
    ),
    "SNI, another Host inside": lambda door, t: ask_inside_tls(t, "listed.test", door.ca, get(FRONT)),
    "HTTP/2 inside TLS": lambda door, t: ask_inside_tls(t, "listed.test", door.ca, b"", protocols=("h2",)),
}
CUT_OFF: dict[str, Callable[[Door, socket.socket], bytes]] = {
    "ClientHello in records of one byte": lambda door, t: _send(t, in_small_records(client_hello("listed.test"))),
    "a ClientHello after an alert": lambda door, t: _send(t, b"\x15\x03\x01\0\x02\x01\0" + client_hello("listed.test")),
    "a ClientHello with a listed name behind another": lambda door, t: _send(
        t, hello_with_names(FRONT, b"listed.test")
    ),
    "a ClientHello with a listed name before another": lambda door, t: _send(
        t, hello_with_names(b"listed.test", FRONT)
    ),
    "a ClientHello with two unlisted names": lambda door, t: _send(t, hello_with_names(FRONT, b"www.pass.test")),
    "a long ClientHello": lambda door, t: _send(t, client_hello("listed.test", padding=12000)),
    "two Host fields": lambda door, t: _send(t, b"GET / HTTP/1.1\r\nHost: pass.test\r\nHost: listed.test\r\n\r\n"),
    "a folded Host": lambda door, t: _send(t, b"GET / HTTP/1.1\r\nHost:\r\n listed.test\r\n\r\n"),
    "a tab before the version": lambda door, t: _send(t, b"GET /\tHTTP/1.1\r\nHost: listed.test\r\n\r\n"),
    "a lower-case version": lambda door, t: _send(t, b"GET / http/1.1\r\nHost: listed.test\r\n\r\n"),
    "a vertical tab for a space": lambda door, t: _send(t, b"GET\x0b/ HTTP/1.1\r\nHost: listed.test\r\n\r\n"),
    "white space before the method": lambda door, t: _send(t, b" GET / HTTP/1.1\r\nHost: listed.test\r\n\r\n"),
    "a NUL in the path": lambda door, t: _send(t, b"GET /\0 HTTP/1.1\r\nHost: listed.test\r\n\r\n"),
    "a first line without end": lambda door, t: _send(t, b"GET /" + b"a" * 70000),
    "HTTP/2, :authority against host": lambda door, t: ask_h2(t, FRONT, host=b"nothing.test"),
}


def _send(tunnel: socket.socket, data: bytes) -> bytes:
    tunnel.sendall(data)
    tunnel.settimeout(0.7)
    return read_all(tunnel)


def _fronted(doors: Callable[[str], Door], mode: str, port: int, way: Callable[[Door, socket.socket], bytes]) -> View:
    def whole() -> bytes:
        door = doors(mode)
        with door.enter(FRONT, port) as tunnel:
            return way(door, tunnel)

    return seen(whole)


@pytest.mark.parametrize("way", FRONTED)
@pytest.mark.parametrize("mode", ["regular", "secure", "upstream", "socks5", "transparent"])
def test_a_listed_request_behind_a_front_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, way: str):
    with front_only(net):
        assert _fronted(doors, mode, 80, FRONTED[way]) is View.PAGE


@pytest.mark.parametrize("way", FRONTED_TLS)
@pytest.mark.parametrize("mode", ["regular", "secure", "upstream", "socks5", "transparent"])
def test_listed_tls_behind_a_front_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, way: str):
    with front_only(net):
        assert _fronted(doors, mode, 443, FRONTED_TLS[way]) is View.PAGE


@pytest.mark.parametrize("way", CUT_OFF)
@pytest.mark.parametrize("mode", ["regular", "socks5", "transparent", "upstream"])
def test_what_could_be_read_in_two_ways_behind_a_front_is_refused(
    net: Network, doors: Callable[[str], Door], mode: str, way: str
):
    with front_only(net):
        assert _fronted(doors, mode, 443 if "Hello" in way else 80, CUT_OFF[way]) is View.REFUSED


# At the door of an explicit proxy: what two readers could read in two ways.
POST = b"POST http://pass.test/ HTTP/1.1\r\nHost: pass.test\r\n"
AMBIGUOUS = {
    "two Host fields": b"GET http://pass.test/ HTTP/1.1\r\nHost: pass.test\r\nHost: listed.test\r\n\r\n",
    "two equal Host fields": b"GET http://pass.test/ HTTP/1.1\r\nHost: pass.test\r\nHost: pass.test\r\n\r\n",
    "Host against the target": b"GET http://pass.test/ HTTP/1.1\r\nHost: www.pass.test\r\n\r\n",
    "Host with userinfo": b"GET / HTTP/1.1\r\nHost: pass.test@listed.test\r\n\r\n",
    "Host with white space": b"GET / HTTP/1.1\r\nHost: pass.test listed.test\r\n\r\n",
    "Host with a tab": b"GET / HTTP/1.1\r\nHost:\tpass.test\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: pass.test/listed.test\r\n\r\n",
    "Host with two ports": b"GET / HTTP/1.1\r\nHost: pass.test:80:80\r\n\r\n",
    "Host with a comma": b"GET / HTTP/1.1\r\nHost: pass.test,listed.test\r\n\r\n",
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "a folded Host": b"GET / HTTP/1.1\r\nHost: pass.test\r\n listed.test\r\n\r\n",
    "a folded field": b"GET / HTTP/1.1\r\nHost: pass.test\r\nX: a\r\n\tHost: listed.test\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : pass.test\r\n\r\n",
    "a space before the name": b"GET / HTTP/1.1\r\n Host: pass.test\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nX: a\rHost: listed.test\r\nHost: pass.test\r\n\r\n",
    "a bare CR in the request line": b"GET http://pass.test/\rHTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "a NUL in Host": b"GET / HTTP/1.1\r\nHost: pass.test\0.listed.test\r\n\r\n",
    "Content-Length with Transfer-Encoding": POST + b"Content-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n",
    "two Content-Lengths": POST + b"Content-Length: 0\r\n"
    b"Content-Length: 50\r\n\r\nGET http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n",
    "a signed Content-Length": POST + b"Content-Length: +1\r\n\r\na",
    "another transfer coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunked in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "userinfo in the target": b"GET http://pass.test@listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n",
    "a backslash in the target": b"GET http://pass.test\\@listed.test/ HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "a fragment in the target": b"GET http://pass.test#@listed.test/ HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "a target without a scheme": b"GET pass.test/ HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "another scheme": b"GET ftp://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n",
    "white space in the target": b"GET http://pass.test/ http://listed.test/ HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "no version": b"GET http://listed.test/\r\n\r\n",
    "a later version": b"GET http://listed.test/ HTTP/2.0\r\nHost: listed.test\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a head of 70,000 bytes": b"GET http://pass.test/ HTTP/1.1\r\nHost: pass.test\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
    "connect in lower case": b"connect listed.test:443 HTTP/1.1\r\nHost: listed.test:443\r\n\r\n",
    "connect in lower case with a URL": b"connect http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n",
    "CONNECT without a port": b"CONNECT pass.test HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "CONNECT with a path": b"CONNECT pass.test:443/listed.test HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "CONNECT with userinfo": b"CONNECT pass.test@listed.test:443 HTTP/1.1\r\n\r\n",
    "CONNECT against Host": b"CONNECT pass.test:443 HTTP/1.1\r\nHost: www.pass.test:443\r\n\r\n",
    "CONNECT with two hosts": b"CONNECT pass.test:443,listed.test:443 HTTP/1.1\r\n\r\n",
    "CONNECT with port 0": b"CONNECT pass.test:0 HTTP/1.1\r\nHost: pass.test\r\n\r\n",
    "a zone id": b"CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n",
    "an address that overflows": b"CONNECT 256.256.256.256:443 HTTP/1.1\r\n\r\n",
    "invalid punycode": b"CONNECT xn--a\xcc\x88.example:443 HTTP/1.1\r\n\r\n",
    "bytes that are no UTF-8": b"CONNECT list\xffed.test:443 HTTP/1.1\r\n\r\n",
    "no HTTP at all": b"HELLO WORLD\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("mode", EXPLICIT)
def test_what_could_be_read_in_two_ways_is_refused(net: Network, doors: Callable[[str], Door], mode: str, name: str):
    def way() -> bytes:
        with doors(mode).connect() as connection:
            return _send(connection, AMBIGUOUS[name])

    with no_contact(net):
        assert seen(way) is View.REFUSED


# Listed whatever else is said: a disagreement does not hide it.
DISAGREEING = {
    "a listed Host": get(b"listed.test", target=b"http://pass.test/"),
    "a listed target": get(FRONT, target=b"http://listed.test/"),
    "a listed path-only Host": get(b"listed.test"),
    "a WebSocket": get(b"listed.test", target=b"http://listed.test/", more=UPGRADE),
    "an upgrade to HTTP/2": get(
        b"listed.test", target=b"http://listed.test/", more=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    ),
    "https without a tunnel": get(b"listed.test", target=b"https://listed.test/"),
    "HTTP/1.0 without Host": b"GET http://listed.test/ HTTP/1.0\r\nAccept: text/html\r\n\r\n",
    "an upper-case scheme": get(b"listed.test", target=b"HTTP://listed.test/"),
    "a target without a path": get(b"listed.test", target=b"http://listed.test?query"),
    "an empty port": get(b"listed.test:", target=b"http://listed.test:/"),
    "another port": get(b"listed.test:8443", target=b"http://listed.test:8443/"),
    "a tunnel to another with a listed Host": get(b"listed.test:443", method=b"CONNECT", target=b"pass.test:443"),
    "OPTIONS": get(b"listed.test", method=b"OPTIONS", target=b"http://listed.test/"),
    "OPTIONS *": get(b"listed.test", method=b"OPTIONS", target=b"*"),
    "PUT": get(b"listed.test", method=b"PUT", target=b"http://listed.test/", more=b"Content-Length: 0\r\n"),
    "Expect": get(
        b"listed.test",
        method=b"POST",
        target=b"http://listed.test/",
        more=b"Content-Length: 0\r\nExpect: 100-continue\r\n",
    ),
    "Max-Forwards": get(b"listed.test", method=b"TRACE", target=b"http://listed.test/", more=b"Max-Forwards: 0\r\n"),
}


@pytest.mark.parametrize("name", DISAGREEING)
@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_listed_name_in_any_place_is_stopped(net: Network, doors: Callable[[str], Door], mode: str, name: str):
    def way() -> bytes:
        with doors(mode).connect() as connection:
            return ask(connection, DISAGREEING[name])

    with no_contact(net):
        assert seen(way) is View.PAGE


@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_listed_host_is_stopped_after_others_on_the_same_connection(
    net: Network, doors: Callable[[str], Door], mode: str
):
    with doors(mode).connect() as connection, front_only(net):
        first = ask(connection, get(FRONT, target=b"http://pass.test/first"))
        second = ask(connection, get(b"listed.test", target=b"http://listed.test/"))
        third = ask(connection, get(FRONT, target=b"http://pass.test/first"))
    assert [view(answer) for answer in (first, second, third)] == [View.ORIGIN, View.PAGE, View.ORIGIN]


@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_tunnel_to_a_listed_host_is_stopped_after_a_request_to_another(
    net: Network, doors: Callable[[str], Door], mode: str
):
    with doors(mode).connect() as connection, front_only(net):
        assert view(ask(connection, get(FRONT, target=b"http://pass.test/first"))) is View.ORIGIN
        connection.sendall(b"CONNECT listed.test:80 HTTP/1.1\r\nHost: listed.test:80\r\n\r\n")
        assert b" 200 " in read_head(connection)
        assert view(ask(connection, get(b"listed.test"))) is View.PAGE


@pytest.mark.parametrize("mode", ["regular", "upstream", "socks5"])
def test_a_redirect_to_a_listed_host_is_stopped(net: Network, doors: Callable[[str], Door], mode: str):
    scheme = "socks5h" if mode == "socks5" else "http"
    before = net.queries()
    answer = net.curl(
        "http://pass.test/redirect?to=http://listed.test/",
        *("--location", "--proxy", f"{scheme}://{GATEWAY_ADDRESS}:{MODES[mode]}"),
        space=net.client,
    )
    assert answer.status == 403
    assert not any("listed" in query for query in net.queries()[len(before) :])
    assert net.requests()[-1] == "request GET pass.test /redirect?to=http://listed.test/"


@pytest.mark.parametrize("mode", ["regular", "upstream", "socks5"])
def test_trying_again_and_again_reaches_nobody(net: Network, doors: Callable[[str], Door], mode: str):
    scheme = "socks5h" if mode == "socks5" else "http"
    with no_contact(net):
        for url in ("http://listed.test/", "https://listed.test/"):
            answer = net.curl(
                url,
                *("--retry", "3", "--retry-all-errors", "--retry-delay", "1", "--fail"),
                *("--proxy", f"{scheme}://{GATEWAY_ADDRESS}:{MODES[mode]}"),
                space=net.client,
            )
            assert answer.status in (0, 403)


@pytest.mark.parametrize("sni", ["www.pass.test", "pass.test"])
@pytest.mark.parametrize("mode", ["regular", "secure", "upstream", "socks5"])
def test_an_unlisted_name_inside_a_listed_tunnel_changes_nothing(
    net: Network, doors: Callable[[str], Door], mode: str, sni: str
):
    """The certificate is for the listed host: a client that compares names sees no page, and nothing else either."""

    def way() -> bytes:
        door = doors(mode)
        with door.enter(b"listed.test", 443) as tunnel:
            return ask_inside_tls(tunnel, sni, door.ca, get(FRONT))

    def plain() -> bytes:
        with doors(mode).enter(b"listed.test", 80) as tunnel:
            return ask(tunnel, get(FRONT))

    with no_contact(net):
        assert seen(way) is View.REFUSED
        assert seen(plain) is View.PAGE


@pytest.mark.parametrize("mode", ["regular", "socks5"])
def test_what_is_no_request_inside_the_tls_of_a_page_goes_nowhere_and_is_no_fault(
    net: Network, first_desk: Desk, tmp_path: Path, mode: str
):
    """In a tunnel to an unlisted server that is connected already."""
    gate = net.gate(first_desk.policy, tmp_path / "state", "--mode", mode, address=GATEWAY_ADDRESS)
    door = Door(net, mode, gate.port, gate.ca, net.origin_ca)
    for said in (b"\xff\0binary", b"SSH-2.0-client\r\n", b"GET x\r\n\r\n", b"a word", client_hello("pass.test")):
        with front_only(net), door.enter(FRONT, 17) as tunnel:
            context = ssl.create_default_context(cafile=gate.ca)
            secured = secure(tunnel, "listed.test", context)
            secured.sendall(said)
            assert seen(lambda secured=secured: read_all(secured)) is View.REFUSED
    gate.process.end()
    assert '"fault"' not in gate.log()


@pytest.mark.parametrize("mode", EXPLICIT)
@pytest.mark.parametrize("target", [b"http://pass.test/mirror", b"http://pass.test:80/mirror"])
def test_a_server_is_told_the_host_of_a_request_that_has_no_host_field(
    doors: Callable[[str], Door], mode: str, target: bytes
):
    """Otherwise it serves its first site, which may be a listed one."""
    with doors(mode).connect() as connection:
        answer = ask(connection, b"GET " + target + b" HTTP/1.0\r\n\r\n")
    assert b"host: pass.test\r\n" in answer.partition(b"\r\n\r\n")[2].lower()


@pytest.mark.parametrize("upgrade", [b"h2c", b"TLS/1.0", b"h2c, websocket"])
def test_an_upgrade_that_would_hide_requests_is_not_forwarded(
    net: Network, doors: Callable[[str], Door], upgrade: bytes
):
    fields = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: " + upgrade + b"\r\n"
    with doors("regular").connect() as connection:
        answer = ask(connection, get(FRONT, target=b"http://pass.test/mirror", more=fields))
    received = answer.partition(b"\r\n\r\n")[2].lower()
    assert received.startswith(b"get /mirror")
    assert b"\nupgrade:" not in received
    assert b"http2-settings:" not in received


def test_a_silent_resolver_holds_up_nobody_else(net: Network, doors: Callable[[str], Door]):
    rule = "type filter hook input priority 0\nudp dport 53 drop"
    net.world.run("nft", "-f", "-", stdin=f"table ip mute {{\nchain queries {{\n{rule}\n}}\n}}\n")
    try:
        for number in range(5):
            with doors("regular").connect() as waiting:
                slow = b"slow%d.pass.test" % number
                waiting.sendall(get(slow, target=b"http://%b/" % slow))
                with doors("regular").connect() as connection:
                    assert view(ask(connection, get(b"listed.test", target=b"http://listed.test/"))) is View.PAGE
                is_first = not select.select([waiting], [], [], 0)[0]
                assert b" 502 " in read_head(waiting)
            if is_first:
                return
        pytest.fail("the page came after the other answer each time")
    finally:
        net.world.run("nft", "delete table ip mute")


BYTES = b"SSH-2.0-client\r\n"


def _in_tls(door: Door, tunnel: socket.socket) -> bytes:
    return ask_inside_tls(tunnel, "listed.test", door.ca, BYTES)


@pytest.mark.parametrize("mode", ["regular", "secure", "upstream", "socks5"])
@pytest.mark.parametrize("port", [22, 443])
def test_other_protocols_in_a_listed_tunnel_go_nowhere(
    net: Network, doors: Callable[[str], Door], mode: str, port: int
):
    def plain() -> bytes:
        with doors(mode).enter(b"listed.test", port) as tunnel:
            return _send(tunnel, BYTES)

    def inside_tls() -> bytes:
        door = doors(mode)
        with door.enter(b"listed.test", port) as tunnel:
            return _in_tls(door, tunnel)

    with no_contact(net):
        assert seen(plain) is View.REFUSED
        assert seen(inside_tls) is View.REFUSED


@pytest.mark.parametrize("mode", EXPLICIT)
def test_other_protocols_in_a_listed_tunnel_after_a_request_go_nowhere(
    net: Network, doors: Callable[[str], Door], mode: str
):
    with doors(mode).connect() as connection, front_only(net):
        assert view(ask(connection, get(FRONT, target=b"http://pass.test/first"))) is View.ORIGIN
        connection.sendall(b"CONNECT listed.test:22 HTTP/1.1\r\nHost: listed.test:22\r\n\r\n")
        assert b" 200 " in read_head(connection)
        assert _send(connection, BYTES) == b""
