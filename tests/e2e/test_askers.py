"""The right answer for each asker: kinds of requests, by every protocol that a client speaks to the gate."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

import pytest
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded

from stoplist.core.counts import Outcome
from tests.e2e.conftest import EITHER_WAY
from tests.e2e.desk import Desk
from tests.e2e.network import Gate, Network, wait_until
from tests.e2e.ways import Secured, secure

FIREFOX = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.8"
)
CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
COMMON = {
    "cache-control": "no-store",
    "vary": "Accept, Accept-Language, Sec-Fetch-Dest",
    "proxy-status": "stoplist; error=http_request_denied",
    "link": '<mailto:complaints@school.example>; rel="blocked-by"',
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
NEVER = {"set-cookie", "strict-transport-security", "location", "server", "via", "alt-svc"}


@dataclass
class Seen:
    """An answer as a client sees it; names of header fields in lower case."""

    status: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.fields)


@dataclass(frozen=True)
class Asked:
    """A kind of request, and what must come back."""

    fields: dict[str, str]
    media_type: str | None
    body: bytes | None = None
    """The whole body; None where `says` tells what is in it."""
    says: str = ""
    method: str = "GET"
    status: int = 403
    language: str | None = "en"
    more: dict[str, str] = field(default_factory=dict)


HTML, TEXT, PROBLEM = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/problem+json"
STOPPED = "Access to this site was stopped"
CORS = {"access-control-allow-origin": "*"}
ASKED = {
    "Firefox": Asked(
        {
            "accept": FIREFOX,
            "sec-fetch-dest": "document",
            "sec-fetch-mode": "navigate",
            "accept-language": "en-US,en;q=0.5",
        },
        HTML,
        says=f"<h1>{STOPPED}</h1>",
    ),
    "Firefox in French": Asked(
        {"accept": FIREFOX, "sec-fetch-dest": "document", "accept-language": "fr,fr-FR;q=0.8,en-US;q=0.5,en;q=0.3"},
        HTML,
        says="<h1>L’accès à ce site a été bloqué</h1>",
        language="fr",
    ),
    "Chromium in Arabic": Asked(
        {"accept": CHROMIUM, "sec-fetch-dest": "document", "accept-language": "ar-EG,ar;q=0.9,en;q=0.8"},
        HTML,
        says='<html lang="ar" dir="rtl">',
        language="ar",
    ),
    "an old browser in Spanish": Asked(
        {"accept": FIREFOX, "accept-language": "es"}, HTML, says="Se ha bloqueado el acceso a este sitio", language="es"
    ),
    "a browser in a language that there is not": Asked(
        {"accept": FIREFOX, "accept-language": "xh"}, HTML, says=f"<h1>{STOPPED}</h1>"
    ),
    "curl": Asked({"accept": "*/*", "user-agent": "curl/8.0"}, TEXT, says=STOPPED),
    "curl in French": Asked({"accept": "*/*", "accept-language": "fr"}, TEXT, says="été bloqué", language="fr"),
    "a client that says nothing": Asked({}, TEXT, says=STOPPED),
    "an API client": Asked({"accept": "application/json"}, PROBLEM, says='"status": 403', more=CORS),
    "fetch": Asked(
        {"accept": "*/*", "sec-fetch-dest": "empty", "sec-fetch-mode": "cors", "origin": "https://pass.test"},
        PROBLEM,
        says='"type": "tag:stoplist.invalid,2026:stopped"',
        more=CORS,
    ),
    "fetch with POST": Asked(
        {"accept": "*/*", "sec-fetch-dest": "empty", "content-length": "0"},
        PROBLEM,
        method="POST",
        says=STOPPED,
        more=CORS,
    ),
    "an image": Asked(
        {"accept": "image/avif,image/webp,*/*", "sec-fetch-dest": "image"}, "image/gif", says="GIF89a", language=None
    ),
    "a script": Asked(
        {"accept": "*/*", "sec-fetch-dest": "script"}, "text/javascript; charset=utf-8", b"", language=None
    ),
    "a style": Asked(
        {"accept": "text/css,*/*;q=0.1", "sec-fetch-dest": "style"}, "text/css; charset=utf-8", b"", language=None
    ),
    "a frame": Asked(
        {"accept": FIREFOX, "sec-fetch-dest": "iframe", "accept-language": "en"},
        HTML,
        says="<p>This part of the page was stopped",
    ),
    "a font": Asked({"accept": "*/*", "sec-fetch-dest": "font"}, None, b"", language=None),
    "a video": Asked({"accept": "*/*", "sec-fetch-dest": "video", "range": "bytes=0-"}, None, b"", language=None),
    "HEAD of a browser": Asked({"accept": FIREFOX}, HTML, b"", method="HEAD"),
    "HEAD of curl": Asked({"accept": "*/*"}, TEXT, b"", method="HEAD"),
    "a preflight": Asked(
        {
            "origin": "https://pass.test",
            "access-control-request-method": "PUT",
            "access-control-request-headers": "x-a",
        },
        None,
        b"",
        method="OPTIONS",
        status=204,
        language=None,
        more={**CORS, "access-control-allow-headers": "*, Authorization", "access-control-max-age": "0"},
    ),
    "OPTIONS": Asked({"accept": "*/*"}, TEXT, says=STOPPED, method="OPTIONS"),
    "server-sent events": Asked(
        {"accept": "text/event-stream", "sec-fetch-dest": "empty"},
        "text/event-stream",
        b"retry: 86400000\n\n",
        language=None,
        more=CORS,
    ),
    "gRPC": Asked(
        {"content-type": "application/grpc+proto", "te": "trailers", "content-length": "0"},
        "application/grpc",
        b"",
        method="POST",
        status=200,
        more={"grpc-status": "7", "grpc-message": f"{STOPPED} (Example School)"},
    ),
    "gRPC-Web": Asked(
        {"content-type": "application/grpc-web+proto", "content-length": "0"},
        "application/grpc-web",
        b"",
        method="POST",
        status=200,
        more={"grpc-status": "7", **CORS},
    ),
}
"""WebSocket is of HTTP/1.1 only, and has a test of its own."""


def _ask_http1(connection: Secured, version: str, target: str, method: str, fields: dict[str, str]) -> Seen:
    lines = [
        f"{method} {target} HTTP/{version}",
        "Host: listed.test",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    received = b""
    while data := _receive(connection):
        received += data
        if _is_whole(received, method):
            break
    return _read(received, method)


def _receive(connection: Secured) -> bytes:
    try:
        return connection.recv(65536)
    except (ConnectionError, ssl.SSLError):
        return b""


def _is_whole(received: bytes, method: str) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return method == "HEAD" or not length or len(body) >= int(length[0].split(b":")[1])


def _read(received: bytes, method: str) -> Seen:
    class Socket:
        def makefile(self, *_: object) -> io.BytesIO:
            return io.BytesIO(received)

    response = HTTPResponse(Socket(), method=method)
    response.begin()
    fields = [(name.lower(), value.encode("latin-1").decode()) for name, value in response.getheaders()]
    return Seen(response.status, fields, response.read())


def _plain(version: str) -> Callable[[Gate, str, dict[str, str]], Seen]:
    def ask(gate: Gate, method: str, fields: dict[str, str]) -> Seen:
        with gate.connect() as connection:
            return _ask_http1(connection, version, "http://listed.test/", method, fields)

    return ask


def _tunnel(gate: Gate, protocol: str) -> Secured:
    connection = gate.connect()
    connection.sendall(b"CONNECT listed.test:443 HTTP/1.1\r\nHost: listed.test:443\r\n\r\n")
    assert b" 200 " in connection.recv(65536)
    context = ssl.create_default_context(cafile=gate.ca)
    context.set_alpn_protocols([protocol])
    secured = secure(connection, "listed.test", context)
    assert secured.tls.selected_alpn_protocol() == protocol
    return secured


def _http1_in_tls(gate: Gate, method: str, fields: dict[str, str]) -> Seen:
    tunnel = _tunnel(gate, "http/1.1")
    with tunnel._tunnel:
        return _ask_http1(tunnel, "1.1", "/", method, fields)


def _http2(gate: Gate, method: str, fields: dict[str, str]) -> Seen:
    tunnel, connection, seen = _tunnel(gate, "h2"), H2Connection(), Seen(0)
    with tunnel._tunnel:
        connection.initiate_connection()
        pseudo = [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "listed.test")]
        connection.send_headers(1, [*pseudo, *fields.items()], end_stream=True)
        tunnel.sendall(connection.data_to_send())
        while True:
            for event in connection.receive_data(tunnel.recv(65536)):
                if isinstance(event, ResponseReceived):
                    seen.fields = [(name.decode(), value.decode()) for name, value in event.headers]
                    seen.status = int(seen.headers[":status"])
                elif isinstance(event, DataReceived):
                    seen.body += event.data
                elif isinstance(event, StreamEnded):
                    return seen
            tunnel.sendall(connection.data_to_send())


PROTOCOLS = {"HTTP/1.0": _plain("1.0"), "HTTP/1.1": _plain("1.1"), "HTTP/1.1 in TLS": _http1_in_tls, "HTTP/2": _http2}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ASKED)
def test_each_asker_gets_its_answer(net: Network, gate: Gate, kind: str, protocol: str):
    asked = ASKED[kind]
    with net.nothing_reaches_the_origin():
        seen = PROTOCOLS[protocol](gate, asked.method, asked.fields)
    assert seen.status == asked.status
    assert seen.headers.get("content-type") == asked.media_type
    assert seen.headers.get("content-language") == asked.language
    assert {name: seen.headers.get(name) for name in COMMON} == COMMON
    assert {name: seen.headers.get(name) for name in asked.more} == asked.more
    assert not NEVER & seen.headers.keys()
    names = [name for name, _ in seen.fields]
    assert len(names) == len(set(names))
    if asked.body is not None:
        assert seen.body == asked.body
    assert asked.says in seen.body.decode("utf-8", "replace")
    everything = seen.body + "\n".join(f"{name}: {value}" for name, value in seen.fields).encode()
    assert b"listed.test" not in everything
    assert (seen.headers.get("content-security-policy", "").startswith("default-src 'none'")) == (
        asked.media_type == HTML
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_head_of_a_head_request_is_that_of_a_get(gate: Gate, protocol: str):
    ask, fields = PROTOCOLS[protocol], {"accept": FIREFOX}
    got, head = ask(gate, "GET", fields), ask(gate, "HEAD", fields)
    assert [each for each in head.fields if each[0] != "date"] == [each for each in got.fields if each[0] != "date"]
    assert int(head.headers["content-length"]) == len(got.body) > 1000


def test_a_websocket_is_not_opened(net: Network, gate: Gate):
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "origin": "https://pass.test",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for protocol in ("HTTP/1.1", "HTTP/1.1 in TLS"):
        with net.nothing_reaches_the_origin():
            seen = PROTOCOLS[protocol](gate, "GET", upgrade)
        assert (seen.status, seen.headers["content-type"]) == (403, TEXT)
        assert not {"upgrade", "sec-websocket-accept"} & seen.headers.keys()
        assert STOPPED in seen.body.decode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_problem_is_json_with_what_a_program_can_show(gate: Gate, protocol: str):
    problem = json.loads(PROTOCOLS[protocol](gate, "GET", {"accept": "application/json", "accept-language": "es"}).body)
    assert problem["title"] == "Se ha bloqueado el acceso a este sitio"
    assert problem["operator"] == "Example School"
    assert {line["topic"] for line in problem["help"]} == {"report", "worry", "thoughts"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_curl_shows_text_and_can_be_asked_for_the_page(gate: Gate, scheme: str):
    text, page = gate.curl(f"{scheme}://listed.test/"), gate.curl(f"{scheme}://listed.test/", "-H", "Accept: text/html")
    assert text.body.startswith(f"{STOPPED}\n\nYou are not in trouble.")
    assert page.body.startswith("<!doctype html>")
    failing = gate.curl(f"{scheme}://listed.test/", "--fail")
    assert failing.exit_code == 22


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_link_on_the_page_switches_the_language(gate: Gate, scheme: str):
    page = gate.curl(f"{scheme}://listed.test/a/page?q=1", "-H", f"Accept: {FIREFOX}", "-H", "Accept-Language: en").body
    assert '<a href="?stoplist-language=ar" hreflang="ar" lang="ar" dir="rtl">' in page
    options = ("-H", f"Accept: {FIREFOX}", "-H", "Accept-Language: en")
    switched = gate.curl(f"{scheme}://listed.test/a/page?stoplist-language=ar", *options)
    assert '<html lang="ar" dir="rtl">' in switched.body
    assert switched.status == 403


def test_the_same_page_in_another_language_is_not_counted_again(net: Network, desk: Desk, tmp_path: Path):
    gate = net.gate(desk.policy, tmp_path / "state")
    for query in ("", "?stoplist-language=fr", "?stoplist-language=ar", "?stoplist-language=xx", "?q=1"):
        for scheme in ("http", "https"):
            assert gate.curl(f"{scheme}://listed.test/{query}", "-H", f"Accept: {FIREFOX}").status == 403
    gate.process.end()
    assert gate.counts()["test", Outcome.STOPPED] == 6


def test_the_check_host_says_that_the_filter_works_and_is_not_counted(net: Network, desk: Desk, tmp_path: Path):
    desk.serial = 86753
    desk.publish(["listed.test", "stopped.example"])
    gate = net.gate(desk.policy, tmp_path / "state")
    with net.nothing_reaches_the_origin():
        for scheme in ("http", "https"):
            url = f"{scheme}://check.stoplist.invalid/"
            page = gate.curl(url, "-H", f"Accept: {FIREFOX}", "-H", "Accept-Language: es")
            problem = gate.curl(url, "-H", "Accept: application/json")
            text = gate.curl(url)
            assert (page.status, problem.status, text.status) == (403, 403, 403)
            assert "El filtro funciona" in page.body
            assert "Antigüedad de la lista en días: 0." in page.body
            assert "Age of the list in days: 0." in text.body
            found = json.loads(problem.body)
            assert (found["type"], found["list_age_days"]) == ("tag:stoplist.invalid,2026:works", 0)
            for answer in (page, problem, text):
                assert str(desk.serial) not in answer.body + answer.headers
    gate.process.end()
    assert not any(gate.counts().values())


@pytest.mark.parametrize("workers", EITHER_WAY)
def test_a_template_is_taken_up_when_it_changes_and_a_broken_one_is_refused(
    net: Network, desk: Desk, tmp_path: Path, workers: tuple[str, ...]
):
    template = desk.folder / "page.html"
    good = '{% extends "stop.html" %}{% block foot %}<p>Room 12</p>{% endblock %}'
    template.write_text(good)
    text = desk.policy.read_text().replace("stop_page:\n", "stop_page:\n  template: page.html\n")
    desk.policy.write_text(text)
    gate = net.gate(desk.policy, tmp_path / "state", *workers)

    def shows(words: str) -> bool:
        return words in gate.curl("https://listed.test/", "-H", f"Accept: {FIREFOX}").body

    try:
        assert shows("Room 12")
        template.write_text(good.replace("12", "13"))
        wait_until(lambda: shows("Room 13"), "the new template")
        template.write_text(good.replace("Room 12", '<img src="https://pass.test/x.png">'))
        gate.process.wait_for(r"page.html: has src= in <img>")
        assert shows("Room 13")
    finally:
        gate.process.end()
