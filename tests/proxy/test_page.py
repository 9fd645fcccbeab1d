"""The stop page says all it must, and does nothing it must not."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest

from stoplist.core.decide import Reason
from stoplist.core.policy import Policy, PolicyText
from stoplist.proxy.page import StopPage, refusal

POLICY = """\
version: 1
lists: [{file: a, key: {file: b}, trusted_keys: [c], threshold: 1}]
stop_page:
  authority: Example Authority
  operator: Example <School> & "Co"
  contact: it@school.example
  complaints: https://school.example/complaints?a=1&b=2
  authority_contact: mailto:list@authority.example
  legislation: {name: "Example Act, section 1", link: "https://law.example/act"}
  help:
    - {topic: report, name: Hotline, link: "https://hotline.example/"}
    - {topic: worry, name: Helpline, link: "tel:+000"}
    - {topic: thoughts, name: Advice, link: "https://advice.example/"}
counts: {period: hour, hide_below: 20, round_to: 10}
"""


def _policy(text: str = POLICY) -> Policy:
    return PolicyText.parse(text.encode(), "test").policy


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.headings: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def html() -> _Page:
    return _Page(StopPage.render(_policy()).html.body.decode())


@pytest.mark.parametrize(
    "words",
    [
        pytest.param('Example <School> & "Co" stopped this request', id="by whom"),
        pytest.param("list of domains that distribute severe child sexual abuse material", id="why"),
        pytest.param("comes from Example Authority", id="whose list"),
        pytest.param("what is on the domain may have changed", id="not this page"),
        pytest.param("pictures or videos that show a real child being sexually abused", id="definition"),
        pytest.param("You are not accused of anything. No criminal case arises", id="no case"),
        pytest.param("kept no personal data", id="no data"),
        pytest.param("how many requests were stopped in one hour for each list", id="what is counted"),
        pytest.param("below 20 are not shown, and others are rounded to multiples of 10", id="as configured"),
        pytest.param("want to report them", id="report"),
        pytest.param("worried about a child, or you are a child who needs help", id="worry"),
        pytest.param("worried about your own thoughts", id="thoughts"),
        pytest.param("send a complaint", id="complaint"),
        pytest.param("or if the domain is yours", id="domain owners"),
        pytest.param("Police of several countries work together", id="police cooperation"),
        pytest.param("Example Act, section 1", id="law"),
    ],
)
def test_page_says(html: _Page, words: str):
    assert words in re.sub(r"\s+", " ", html.text)


def test_page_links_law_complaints_help_and_nothing_else(html: _Page):
    assert sorted(html.links) == [
        "https://advice.example/",
        "https://hotline.example/",
        "https://law.example/act",
        "https://school.example/complaints?a=1&b=2",
        "mailto:it@school.example",
        "mailto:list@authority.example",
        "tel:+000",
    ]


def test_page_runs_and_loads_nothing(html: _Page):
    assert not html.tags & {"script", "img", "iframe", "form", "link", "object", "embed", "button", "input", "base"}
    page = StopPage.render(_policy()).html
    headers = dict(page.headers)
    style = re.search(rb"<style>(.*)</style>", page.body, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert headers[b"Content-Security-Policy"].decode().startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert not re.search(rb"url\(|@import|style=|onload=", page.body)


def test_headings_do_not_skip_a_level(html: _Page):
    levels = [int(heading[1]) for heading in html.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_page_is_under_15_kb():
    assert len(StopPage.render(_policy()).html.body) < 15_000


@pytest.mark.parametrize("name", ["html", "text"])
def test_answer_is_never_cached_and_says_so_to_machines(name: str):
    answer = getattr(StopPage.render(_policy()), name)
    headers = dict(answer.headers)
    assert answer.status == 403
    assert headers[b"Cache-Control"] == b"no-store"
    assert headers[b"Proxy-Status"] == b"stoplist; error=http_request_denied"
    assert headers[b"Content-Language"] == b"en"
    assert headers[b"Vary"] == b"Accept"
    assert not {b"Set-Cookie", b"Strict-Transport-Security"} & set(headers)


def test_legal_demand_is_451_and_names_who_stopped_it():
    answer = StopPage.render(_policy(POLICY.replace("  authority:", "  status: 451\n  authority:"))).html
    assert answer.status == 451
    assert dict(answer.headers)[b"Link"] == b'<https://school.example/complaints?a=1&b=2>; rel="blocked-by"'


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        pytest.param("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html", id="browser"),
        pytest.param("TEXT/HTML", "html", id="upper case"),
        pytest.param("text/html;q=0.5", "html", id="with a quality"),
        pytest.param("text/html;q=0, text/plain", "text", id="not wanted"),
        pytest.param("*/*", "text", id="curl"),
        pytest.param("", "text", id="none"),
        pytest.param("application/json", "text", id="an API"),
        pytest.param("image/avif,image/webp,*/*", "text", id="an image"),
    ],
)
def test_who_takes_html_gets_it(accept: str, kind: str):
    page = StopPage.render(_policy())
    assert page.answer(accept) is getattr(page, kind)


def test_text_says_the_same_in_short():
    text = StopPage.render(_policy()).text.body.decode()
    for words in (
        'stopped by Example <School> & "Co"',
        "severe child sexual abuse material",
        "no criminal case",
        "No personal data was kept",
        "in one hour for each list (numbers below 20",
        "Hotline: https://hotline.example/",
        "Helpline: tel:+000",
        "Advice: https://advice.example/",
        "https://school.example/complaints?a=1&b=2",
        "mailto:list@authority.example",
        "Example Act, section 1, https://law.example/act",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("reason", "status", "error", "words"),
    [
        (Reason.FAULT, 503, b"proxy_internal_error", b"the gate has a fault"),
        (Reason.AMBIGUOUS, 400, b"http_request_error", b"can be read in two ways"),
        (Reason.DENIED, 403, b"destination_ip_prohibited", b"no client may reach this address"),
    ],
)
def test_a_refusal_is_no_stop_page(reason: Reason, status: int, error: bytes, words: bytes):
    answer = refusal(reason)
    assert answer.status == status
    assert dict(answer.headers)[b"Proxy-Status"] == b"stoplist; error=" + error
    assert words in answer.body
    assert b"stopped" not in answer.body


@pytest.mark.parametrize("reason", [Reason.UNREADABLE, Reason.AMBIGUOUS, Reason.DENIED, Reason.EXPIRED, Reason.FAULT])
def test_every_refusal_has_its_answer(reason: Reason):
    assert 400 <= refusal(reason).status < 600
