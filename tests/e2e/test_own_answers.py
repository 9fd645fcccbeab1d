"""Answers of the gate itself that a person sees: in their language, without mitmproxy, errors or versions."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded

from stoplist import __version__
from stoplist.page import languages
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, NO_ADDRESS, ORIGIN_ADDRESS, Gate, Network, need
from tests.e2e.ways import Door, View, ask, get, read_answer, read_head, secure, view

FRENCH = b"Accept-Language: fr-CH, fr;q=0.9\r\n"
EXPLICIT = ["regular", "secure"]
GONE = f"www.{NO_ADDRESS}".encode()
SILENT_PORT = 8191
"""Where a server of the origin's address accepts, and closes without a word."""
NEVER = re.compile(rb"mitmproxy|errno|traceback|%s" % re.escape(__version__).encode(), re.IGNORECASE)


def _shows(answer: bytes, status: int, message: str, language: str = "fr") -> bool:
    """Whether an answer is the gate's page with this message in this language."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert not NEVER.search(answer), answer
    assert b" %d " % status in head.split(b"\r\n")[0], answer
    assert b"content-type: text/html; charset=utf-8" in head.lower()
    assert b"content-language: %b" % language.encode() in head.lower()
    assert b"cache-control: no-store" in head.lower()
    assert b"\r\nserver:" not in head.lower()
    return languages.of_package(language).gettext(message) in body.decode()


@pytest.fixture(scope="module")
def closing(net: Network) -> Iterator[None]:
    """A server that closes each connection once it has been asked."""
    server = net.world.call(lambda: socket.create_server((ORIGIN_ADDRESS, SILENT_PORT)))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)

    threading.Thread(target=serve, daemon=True).start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    server.close()


# Names and sites


@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_name_without_an_address_is_said(doors: Callable[[str], Door], mode: str):
    with doors(mode).connect() as connection:
        answer = ask(connection, get(GONE, target=b"http://%b/secret" % GONE, more=FRENCH))
    assert _shows(answer, 502, "This site cannot be found")
    assert GONE not in answer
    assert b"proxy-status: stoplist; error=dns_error" in answer.lower()


@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_site_that_is_down_is_said(doors: Callable[[str], Door], mode: str):
    with doors(mode).connect() as connection:
        answer = ask(connection, get(b"down.test:4444", target=b"http://down.test:4444/", more=FRENCH))
    assert _shows(answer, 502, "This site does not answer")


@pytest.mark.parametrize("mode", [*EXPLICIT, "socks5"])
def test_a_site_that_closes_without_an_answer_is_said(closing: None, doors: Callable[[str], Door], mode: str):
    name = b"pass.test:%d" % SILENT_PORT
    door, target = doors(mode), b"/" if mode == "socks5" else b"http://%b/" % name
    with door.enter(b"pass.test", SILENT_PORT) if mode == "socks5" else door.connect() as connection:
        answer = ask(connection, get(name, target=target, more=FRENCH))
    assert _shows(answer, 502, "This site does not answer")


@pytest.mark.parametrize("mode", EXPLICIT)
def test_an_address_that_nobody_may_reach_is_said(net: Network, doors: Callable[[str], Door], mode: str):
    with net.nothing_reaches_the_origin(), doors(mode).connect() as connection:
        answer = ask(connection, get(b"169.254.7.7", target=b"http://169.254.7.7/", more=FRENCH))
    assert _shows(answer, 403, "This address is closed")


@pytest.mark.parametrize("mode", EXPLICIT)
@pytest.mark.parametrize(
    ("host", "status"),
    [(GONE, b"502"), (b"down.test", b"502"), (b"169.254.7.7", b"403")],
    ids=["gone", "down", "denied"],
)
def test_a_tunnel_that_leads_nowhere_is_answered_by_the_gate(
    doors: Callable[[str], Door], mode: str, host: bytes, status: bytes
):
    """Browsers show a page of their own; other clients print the gate's line."""
    with doors(mode).connect() as connection:
        answer = ask(connection, b"CONNECT %b:4444 HTTP/1.1\r\nHost: %b:4444\r\n%b\r\n" % (host, host, FRENCH))
    assert answer.split()[1] == status
    assert not NEVER.search(answer), answer
    assert b"content-type: text/plain" in answer.lower()
    assert b"gate" in answer.partition(b"\r\n\r\n")[2]


def test_a_program_gets_a_line_of_text(doors: Callable[[str], Door]):
    with doors("regular").connect() as connection:
        connection.sendall(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\n%b\r\n" % (GONE, GONE, FRENCH))
        answer = read_answer(connection)
    assert answer.endswith(b"\r\n\r\nThe gate cannot reach this host: its name has no address.\n")


def test_the_head_of_an_answer_comes_alone_for_head(doors: Callable[[str], Door]):
    with doors("regular").connect() as connection:
        connection.sendall(get(GONE, method=b"HEAD", target=b"http://%b/" % GONE))
        head, body = read_head(connection), connection.recv(1)
    assert b" 502 " in head
    assert body == b""


# What is no request for a site


@pytest.mark.parametrize("mode", EXPLICIT)
@pytest.mark.parametrize("host", [b"pass.test", b"listed.test"])
@pytest.mark.parametrize("scheme", [b"ftp", b"gopher", b"HTTPX"])
def test_a_scheme_that_is_not_served_is_said(
    net: Network, doors: Callable[[str], Door], mode: str, host: bytes, scheme: bytes
):
    """Also for a listed host: what cannot be served is judged by nobody, and contacts nobody."""
    with net.nothing_reaches_the_origin(), doors(mode).connect() as connection:
        answer = ask(connection, get(host, target=b"%b://%b/file" % (scheme, host), more=FRENCH))
    assert _shows(answer, 400, "This kind of address is not served")
    assert host not in answer


@pytest.mark.parametrize("mode", EXPLICIT)
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get(b"%b:%%d" % GATEWAY_ADDRESS.encode(), more=FRENCH), id="its address"),
        pytest.param(get(GONE, more=FRENCH), id="a name that only clients know"),
        pytest.param(b"GET / HTTP/1.0\r\nAccept: text/html\r\n" + FRENCH + b"\r\n", id="no name"),
    ],
)
def test_the_gate_says_what_it_is(net: Network, doors: Callable[[str], Door], mode: str, request_: bytes):
    door = doors(mode)
    request_ = request_.replace(b"%d", b"%d" % door.port)
    with nullcontext() if GONE in request_ else net.nothing_reaches_the_origin(), door.connect() as connection:
        answer = ask(connection, request_)
    assert _shows(answer, 200, "This is a web filter")
    assert b"<a " not in answer
    assert b"href" not in answer.partition(b"</style>")[2]
    with door.connect() as connection:
        answer = ask(connection, request_.replace(b"/ HTTP", b"/x HTTP"))
    assert _shows(answer, 404, "This is a web filter")


@pytest.mark.parametrize("target", [b"/", b"/x", b"http://pass.test/", b"http://listed.test/", b"ftp://listed.test/"])
def test_the_gate_says_what_it_is_where_it_speaks_socks(net: Network, doors: Callable[[str], Door], target: bytes):
    with net.nothing_reaches_the_origin(), doors("socks5").connect() as connection:
        answer = ask(
            connection, get(b"listed.test" if b"listed" in target else b"pass.test", target=target, more=FRENCH)
        )
    if target.startswith(b"ftp"):
        assert _shows(answer, 400, "This kind of address is not served")
    else:
        assert _shows(answer, 200 if target == b"/" else 404, "This is a web filter")


@pytest.mark.parametrize("mode", EXPLICIT)
def test_a_listed_name_is_stopped_in_origin_form_as_well(net: Network, doors: Callable[[str], Door], mode: str):
    with net.nothing_reaches_the_origin(), doors(mode).connect() as connection:
        assert view(ask(connection, get(b"listed.test"))) is View.PAGE


@pytest.mark.parametrize("mode", [*EXPLICIT, "upstream"])
def test_a_request_that_cannot_be_read_is_said(doors: Callable[[str], Door], mode: str):
    with doors(mode).connect() as connection:
        answer = ask(connection, get(b"pass.test", target=b"http://pass.test/", more=b"Host: other.test\r\n" + FRENCH))
    assert _shows(answer, 400, "This request cannot be served")


# Passwords


@pytest.fixture
def asking(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Gate]:
    """A gate that asks for a password."""
    need("htpasswd")
    users = desk.folder / "users.htpasswd"
    subprocess.run(["htpasswd", "-bBc", users, "alice", "secret"], check=True, capture_output=True)
    with desk.policy.open("a") as policy:
        policy.write("proxy_auth: {htpasswd: users.htpasswd}\n")
    gate = net.gate(desk.policy, tmp_path / "state")
    yield gate
    gate.process.end()
    assert "alice" not in gate.log()
    assert "fault" not in gate.log()


@pytest.mark.parametrize("password", [b"", b"Proxy-Authorization: Basic YWxpY2U6d3Jvbmc=\r\n"], ids=["none", "wrong"])
def test_a_missing_or_wrong_password_is_said(net: Network, asking: Gate, password: bytes):
    right = b"Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"
    with net.nothing_reaches_the_origin(), asking.connect() as connection:
        answer = ask(connection, get(b"pass.test", target=b"http://pass.test/", more=FRENCH + password))
        assert _shows(answer, 407, "A name and a password are needed")
        assert b"\r\nproxy-authenticate: basic realm=" in answer.lower()
        assert b"alice" not in answer
    with asking.connect() as connection:  # the client tries again on the same connection
        ask(connection, get(b"pass.test", target=b"http://pass.test/", more=FRENCH + password))
        assert view(ask(connection, get(b"pass.test", target=b"http://pass.test/", more=right))) is View.ORIGIN
    with asking.connect() as connection:
        answer = ask(connection, b"CONNECT pass.test:443 HTTP/1.1\r\nHost: pass.test:443\r\n%b\r\n" % password)
        assert answer.endswith(b"Refused by the gate: a name and a password are needed.\n")
        connection.sendall(b"CONNECT pass.test:443 HTTP/1.1\r\nHost: pass.test:443\r\n%b\r\n" % right)
        assert b" 200 " in read_head(connection)


# Inside TLS


@contextmanager
def _tunnel(gate: Gate, host: str, protocols: list[str]) -> Iterator[object]:
    context = ssl.create_default_context(cafile=gate.ca)
    context.set_alpn_protocols(protocols)
    with gate.connect() as connection:
        connection.sendall(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in read_head(connection)
        yield secure(connection, host, context)


@pytest.fixture
def intercepting(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Gate]:
    """A gate that decrypts, and that does not know the CA of the origin's certificate."""
    with desk.policy.open("a") as policy:
        policy.write("tls: intercept\n")
    gate = net.gate(desk.policy, tmp_path / "state")
    yield gate
    gate.process.end()
    assert "fault" not in gate.log()


def test_a_site_without_a_valid_certificate_is_said_in_http1(intercepting: Gate):
    with _tunnel(intercepting, "www.pass.test", ["http/1.1"]) as tunnel:
        answer = ask(tunnel, get(b"www.pass.test", more=FRENCH))
    assert _shows(answer, 502, "There is no safe connection to this site")


def test_a_site_without_a_valid_certificate_is_said_in_http2(intercepting: Gate):
    with _tunnel(intercepting, "www.pass.test", ["h2"]) as tunnel:
        assert tunnel.tls.selected_alpn_protocol() == "h2"
        connection, answers = H2Connection(), {1: b"", 3: b""}
        connection.initiate_connection()
        for stream, language in ((1, "fr"), (3, "ar")):
            fields = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "www.pass.test")]
            more = [("accept", "text/html"), ("accept-language", language)]
            connection.send_headers(stream, fields + more, end_stream=True)
        tunnel.sendall(connection.data_to_send())
        waiting = set(answers)
        while waiting:
            for event in connection.receive_data(tunnel.recv(65536)):
                if isinstance(event, ResponseReceived):
                    status, *headers = event.headers
                    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
                    answers[event.stream_id] += b"HTTP/1.1 %b \r\n%b\r\n" % (status[1], lines)
                elif isinstance(event, DataReceived):
                    answers[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    waiting.discard(event.stream_id)
            tunnel.sendall(connection.data_to_send())
    assert _shows(answers[1], 502, "There is no safe connection to this site")
    assert _shows(answers[3], 502, "There is no safe connection to this site", "ar")
    assert b"\r\nconnection:" not in answers[1].lower()
