"""An operator's own template leaves nothing out, brings nothing in, and shows nothing raw."""

from __future__ import annotations

import base64
import hashlib

import pytest

from stoplist.core.policy.text import PolicyText
from stoplist.errors import StoplistError
from stoplist.page import languages, rendering
from stoplist.page.answers import StopPage
from stoplist.page.asker import Asker, Kind
from stoplist.page.template import MAX_TEMPLATE_SIZE, Page, Template, security_policy
from tests.page.test_rendering import POLICY

PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
GOOD = """\
{% extends "stop.html" %}
{% block style %}body{background:#fff url("PICTURE")}{% endblock %}
{% block header %}<img src="PICTURE" alt="Example School">{{ super() }}{% endblock %}
{% block foot %}<footer><p>Room 12 <a href="https://school.example/it">IT</a></p></footer>{% endblock %}
""".replace("PICTURE", PICTURE)


def _render(text: str) -> StopPage:
    policy = PolicyText.parse(POLICY.encode(), "test").policy
    spoken = {tag: languages.of_package(tag) for tag in policy.stop_page.languages}
    return rendering.render(policy, spoken, Template("page.html", text))


def test_a_template_can_add_rearrange_and_restyle():
    page = _render(GOOD)
    for language in ("en", "fr", "es", "ar"):
        answer = page.answer(Asker(Kind.PAGE, (language,)))
        assert b"Room 12" in answer.body
        style = Page(answer.body.decode()).styles[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert dict(answer.headers)[b"Content-Security-Policy"].decode() == (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; font-src data:; "
            "base-uri 'none'; form-action 'none'"
        )
    assert b"Room 12" not in page.answer(Asker(Kind.TEXT)).body


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param("{{ super() }}", "", "leaves out: You are not in trouble.", id="the header is left out"),
        pytest.param(
            "{% block foot %}", "{% block you %}{% endblock %}{% block foot %}", "leaves out: You", id="a part"
        ),
        pytest.param("{% block foot %}", "{% block main %}{% endblock %}{% block foot %}", "leaves out", id="all"),
        pytest.param(GOOD, "<p>hello</p>", "leaves out", id="it stands alone"),
        pytest.param("<footer>", "<footer><script>x</script>", "has <script>", id="a script"),
        pytest.param("<footer>", '<footer><iframe src="x"></iframe>', "has <iframe>", id="a frame"),
        pytest.param("<footer>", '<footer><form action="x"></form>', "has <form>", id="a form"),
        pytest.param("<footer>", '<footer><img src="https://school.example/x.png">', "has src=", id="a picture"),
        pytest.param("<footer>", '<footer><img srcset="x.png 2x">', "has srcset= in <img>", id="pictures"),
        pytest.param("<footer>", '<footer onclick="x()">', "has onclick= in <footer>", id="a handler"),
        pytest.param("<footer>", '<footer style="color:red">', "has style=", id="a style that would not be shown"),
        pytest.param("<footer>", '<footer><a href="javascript:x()">x</a>', "javascript: URI", id="a link that runs"),
        pytest.param("<footer>", '<footer><a href="x" ping="/">x</a>', "has ping= in <a>", id="a ping"),
        pytest.param("<footer>", '<footer><svg><use xlink:href="https://x.example/#a"></svg>', "href=", id="of SVG"),
        pytest.param("<footer>", '<footer><meta http-equiv="refresh" content="0">', "http-equiv", id="a refresh"),
        pytest.param("<footer>", '<footer><base href="https://x.example/">', "has <base>", id="a base"),
        pytest.param("#fff url", "url(https://x.example/a), url", "has a style that loads", id="a style that loads"),
        pytest.param("body{", "@import 'x.css';body{", "has a style that loads", id="a style that imports"),
        pytest.param("Room 12", "{{ oprator }}", "'oprator' is undefined", id="a name that is unknown"),
        pytest.param("Room 12", "{{ 1 / 0 }}", "cannot be rendered", id="what cannot be computed"),
        pytest.param("Room 12", "{% if %}", "cannot be read as a template", id="what is no template"),
        pytest.param("Room 12", "{% include 'other.html' %}", "other.html", id="a template that there is not"),
        pytest.param("Room 12", "{{ ''.__class__.__mro__ }}", "cannot be rendered", id="a way out of the sandbox"),
        pytest.param("Room 12", "x" * MAX_TEMPLATE_SIZE, "makes a page of more than", id="too large"),
    ],
)
def test_a_broken_template_is_refused_with_a_remedy(old: str, new: str, fault: str):
    assert old in GOOD
    with pytest.raises(StoplistError) as told:
        _render(GOOD.replace(old, new))
    assert fault in told.value.message
    assert told.value.hint
    assert told.value.place.startswith("page.html")


def test_a_text_of_the_policy_that_is_not_escaped_is_refused():
    raw = "{% autoescape false %}{{ contact.striptags() }}{% endautoescape %}"
    with pytest.raises(StoplistError, match="shows a text of the policy as HTML"):
        _render(GOOD.replace("Room 12", raw))


def test_a_page_without_styles_may_have_none():
    assert dict(security_policy("<p>x"))[b"Content-Security-Policy"].startswith(b"default-src 'none'; style-src 'none'")
