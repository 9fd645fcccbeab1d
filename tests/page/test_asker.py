"""Who asks is known by the head of the request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.page.asker import Asker, Kind, switch_of

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        pytest.param({}, Kind.TEXT, id="nothing said"),
        pytest.param({"accept": "*/*"}, Kind.TEXT, id="curl"),
        pytest.param({"accept": BROWSER}, Kind.PAGE, id="a browser without Sec-Fetch"),
        pytest.param({"accept": BROWSER, "sec-fetch-dest": "document"}, Kind.PAGE, id="a browser"),
        pytest.param({"accept": BROWSER, "sec-fetch-dest": "iframe"}, Kind.FRAME, id="a frame"),
        pytest.param({"accept": "TEXT/HTML"}, Kind.PAGE, id="upper case"),
        pytest.param({"accept": "text/html;q=0.5"}, Kind.PAGE, id="with a weight"),
        pytest.param({"accept": "text/html;level=1;q=0.5, application/json;q=0.4"}, Kind.PAGE, id="with parameters"),
        pytest.param({"accept": "text/html;q=0, text/plain"}, Kind.TEXT, id="HTML is not acceptable"),
        pytest.param({"accept": "text/html;q=0.1, application/json"}, Kind.PROBLEM, id="JSON is better"),
        pytest.param({"accept": "application/json, text/plain, */*"}, Kind.PROBLEM, id="an API client"),
        pytest.param({"accept": "application/vnd.example+json"}, Kind.PROBLEM, id="JSON of another name"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "empty"}, Kind.PROBLEM, id="fetch"),
        pytest.param({"accept": BROWSER, "sec-fetch-dest": "empty"}, Kind.PROBLEM, id="fetch that takes HTML"),
        pytest.param({"accept": "*/*", "x-requested-with": "XMLHttpRequest"}, Kind.PROBLEM, id="XMLHttpRequest"),
        pytest.param({"accept": "image/avif,image/webp,*/*;q=0.8"}, Kind.IMAGE, id="an image without Sec-Fetch"),
        pytest.param({"accept": "image/*", "sec-fetch-dest": "image"}, Kind.IMAGE, id="an image"),
        pytest.param({"accept": "text/css,*/*;q=0.1"}, Kind.STYLE, id="a style without Sec-Fetch"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "style"}, Kind.STYLE, id="a style"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "script"}, Kind.SCRIPT, id="a script"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "serviceworker"}, Kind.SCRIPT, id="a service worker"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "font"}, Kind.NOTHING, id="a font"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "video"}, Kind.NOTHING, id="a video"),
        pytest.param({"accept": "*/*", "sec-fetch-dest": "of 2030"}, Kind.TEXT, id="a destination of the future"),
        pytest.param({"accept": "text/event-stream", "sec-fetch-dest": "empty"}, Kind.EVENTS, id="EventSource"),
        pytest.param({"accept": "text/event-stream"}, Kind.EVENTS, id="server-sent events without a browser"),
        pytest.param({"upgrade": "websocket", "connection": "Upgrade"}, Kind.TEXT, id="WebSocket"),
        pytest.param({"content-type": "application/grpc+proto"}, Kind.GRPC, id="gRPC"),
        pytest.param({"content-type": "application/grpc"}, Kind.GRPC, id="gRPC without a codec"),
        pytest.param({"content-type": "application/grpc-web-text"}, Kind.GRPC_WEB, id="gRPC-Web"),
        pytest.param({"content-type": "application/grpcish"}, Kind.TEXT, id="no gRPC"),
        pytest.param({"accept": "application/pdf"}, Kind.TEXT, id="what there is nothing for"),
    ],
)
def test_kind(fields: dict[str, str], kind: Kind):
    assert Asker.of("GET", "/", fields).kind is kind


def test_a_preflight_is_an_options_request_that_asks_for_a_method():
    assert Asker.of("OPTIONS", "/", {"access-control-request-method": "PUT"}).kind is Kind.PREFLIGHT
    assert Asker.of("OPTIONS", "/", {}).kind is Kind.TEXT
    assert Asker.of("GET", "/", {"access-control-request-method": "PUT"}).kind is Kind.TEXT


@pytest.mark.parametrize(
    ("header", "languages"),
    [
        ("", ()),
        ("fr", ("fr",)),
        ("fr-CH, fr;q=0.9, en;q=0.8", ("fr-ch", "fr", "en")),
        ("en;q=0.1, ar", ("ar", "en")),
        ("en;q=0, es", ("es",)),
        ("en;q=2, es;q=x, fr;q=0.5", ("fr",)),
        (",, ;q=1,", ()),
    ],
)
def test_languages_are_ranked_by_weight(header: str, languages: tuple[str, ...]):
    assert Asker.of("GET", "/", {"accept-language": header}).languages == languages


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("/?stoplist-language=fr", "fr"),
        ("/a/b?stoplist-language=pt-BR", "pt-br"),
        ("/", None),
        ("/?stoplist-language=", None),
        ("/?q=1&stoplist-language=fr", None),
        ("/?stoplist-language=fr&q=1", None),
        ("/stoplist-language=fr", None),
        ("/?stoplist-language=<b>", None),
    ],
)
def test_a_switch_is_the_whole_query(path: str, language: str | None):
    assert switch_of(path) == language


@given(st.text(max_size=500), st.text(max_size=500), st.text(max_size=100))
def test_whatever_is_asked_there_is_a_kind(accept: str, languages: str, path: str):
    asker = Asker.of("GET", path, {"accept": accept, "accept-language": languages})
    assert isinstance(asker.kind, Kind)
    assert len(asker.languages) <= 32


def test_a_long_header_costs_little():
    asker = Asker.of("GET", "/", {"accept": ",".join(["a/b;q=0.5"] * 20_000), "accept-language": "en," * 20_000})
    assert len(asker.languages) <= 32
