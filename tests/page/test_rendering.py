"""The stop page says all it must, and does nothing it must not."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from stoplist.core.policy.models import Policy
from stoplist.core.policy.text import PolicyText
from stoplist.page import languages
from stoplist.page.answers import Answer, Subject
from stoplist.page.asker import Asker, Kind
from stoplist.page.template import Page
from tests.rulesets import page_of

LANGUAGES = ("en", "fr", "es", "ar")
POLICY = """\
version: 1
lists: [{file: a, key: {file: b}, trusted_keys: [c], threshold: 1}]
stop_page:
  authority: Example Authority
  checked_by_police: true
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


def _messages_of_the_page() -> list[str]:
    return [
        str(message.id)
        for message in languages.messages()
        if message.id and any(name == "stop.html" for name, _ in message.locations)
    ]


def _answer(
    kind: Kind, language: str = "en", *, subject: Subject = Subject.STOPPED, text: str = POLICY, **asker: object
) -> Answer:
    return page_of(_policy(text)).answer(Asker(kind, (language,), **asker), subject)


@pytest.fixture
def html() -> _Page:
    return _Page(_answer(Kind.PAGE).body.decode())


@pytest.mark.parametrize(
    "words",
    [
        pytest.param('Example <School> & "Co" stopped this request', id="by whom"),
        pytest.param("list of domains that distribute severe child sexual abuse material", id="why"),
        pytest.param("comes from Example Authority", id="whose list"),
        pytest.param("what is on the domain may have changed", id="not this page"),
        pytest.param("pictures or videos that show a real child being sexually abused", id="definition"),
        pytest.param("You are not in trouble.", id="no trouble"),
        pytest.param("This page tells nobody that you saw it.", id="nobody is told"),
        pytest.param("You can close this page now.", id="it can be closed"),
        pytest.param("Helpline (+000)", id="a number to read"),
        pytest.param("Seeing this page gets nobody into trouble.", id="no case"),
        pytest.param("kept no personal data", id="no data"),
        pytest.param("how many requests were stopped in one hour for each list", id="what is counted"),
        pytest.param("below 20 are not shown, and others are rounded to multiples of 10", id="as configured"),
        pytest.param("want to report them", id="report"),
        pytest.param("You need help, or you are worried about a child", id="worry"),
        pytest.param("worried about your own thoughts", id="thoughts"),
        pytest.param("send a complaint", id="complaint"),
        pytest.param("or if the domain is yours", id="domain owners"),
        pytest.param("Police of several countries work together", id="police cooperation"),
        pytest.param("Example Act, section 1", id="law"),
        pytest.param("This page does not pass it on.", id="a complaint reveals nothing by itself"),
    ],
)
def test_page_says(html: _Page, words: str):
    assert words in re.sub(r"\s+", " ", html.text)


def test_page_links_law_complaints_help_languages_and_nothing_else(html: _Page):
    assert sorted(html.links) == [
        *(f"?stoplist-language={tag}" for tag in sorted(LANGUAGES)),
        "https://advice.example/",
        "https://hotline.example/",
        "https://law.example/act",
        "https://school.example/complaints?a=1&b=2",
        "mailto:it@school.example",
        "mailto:list@authority.example",
        "tel:+000",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("subject", list(Subject))
@pytest.mark.parametrize("kind", [Kind.PAGE, Kind.FRAME])
def test_page_runs_and_loads_nothing(language: str, subject: Subject, kind: Kind):
    answer = _answer(kind, language, subject=subject)
    assert not Page(answer.body.decode()).faults
    headers = dict(answer.headers)
    assert re.fullmatch(
        rb"default-src 'none'; style-src '(sha256-[A-Za-z0-9+/=]{44}|none)'; base-uri 'none'; form-action 'none'",
        headers[b"Content-Security-Policy"],
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("subject", list(Subject))
def test_page_says_which_language_it_is_in(language: str, subject: Subject):
    answer = _answer(Kind.PAGE, language, subject=subject)
    direction = "rtl" if language == "ar" else "ltr"
    assert f'<html lang="{language}" dir="{direction}">'.encode() in answer.body
    assert dict(answer.headers)[b"Content-Language"] == language.encode()
    assert answer.body.count(b'aria-current="true"') == 1


def test_headings_do_not_skip_a_level(html: _Page):
    levels = [int(heading[1]) for heading in html.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_answer_is_under_15_kb():
    assert max(len(answer.body) for answer in page_of(_policy()).answers.values()) < 15_000


def test_every_answer_is_never_cached_and_says_so_to_machines():
    for answer in page_of(_policy()).answers.values():
        headers = dict(answer.headers)
        assert answer.status in (403, 204, 200)
        assert headers[b"Cache-Control"] == b"no-store"
        assert headers[b"Proxy-Status"] == b"stoplist; error=http_request_denied"
        assert headers[b"Vary"] == b"Accept, Accept-Language, Sec-Fetch-Dest"
        assert headers[b"X-Content-Type-Options"] == b"nosniff"
        assert headers[b"Link"] == b'<https://school.example/complaints?a=1&b=2>; rel="blocked-by"'
        assert not {b"Set-Cookie", b"Strict-Transport-Security"} & set(headers)


def test_a_legal_demand_is_451():
    assert _answer(Kind.PAGE, text=POLICY.replace("  authority:", "  status: 451\n  authority:")).status == 451


def test_a_link_beyond_ascii_stands_percent_encoded_in_a_header():
    text = POLICY.replace("https://school.example/complaints?a=1&b=2", "https://school.example/réclamation")
    assert dict(_answer(Kind.TEXT, text=text).headers)[b"Link"].startswith(b"<https://school.example/r%C3%A9clamation>")


def test_what_may_be_kept_elsewhere_is_not_promised():
    for kind in (Kind.PAGE, Kind.TEXT):
        assert b"kept no personal data" in _answer(kind).body
        assert b"personal data" not in _answer(kind, subject=Subject.RECORDED).body
        assert b"tells nobody" in _answer(kind).body
        assert b"tells nobody" not in _answer(kind, subject=Subject.RECORDED).body
        assert b"not in trouble" in _answer(kind, subject=Subject.RECORDED).body


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_says_the_same_as_the_page(language: str):
    text = " ".join(_answer(Kind.TEXT, language).body.decode().split())
    for link in ("https://hotline.example/", "+000", "https://advice.example/", "list@authority.example"):
        assert link in text
    page = Page(_answer(Kind.PAGE, language).body.decode())
    said = [
        message
        for message in _messages_of_the_page()
        if "%" not in message and len(message) > 20 and "in one day" not in message
    ]
    assert len(said) > 10
    for message in said:
        translated = " ".join(languages.of_package(language).gettext(message).split())
        assert translated in page.text
        if message not in ("What this means for you", "How the numbers are shown"):
            assert translated in text


def test_problem_details_hold_what_a_program_can_use():
    problem = json.loads(_answer(Kind.PROBLEM).body)
    assert (problem["type"], problem["status"]) == ("tag:stoplist.invalid,2026:stopped", 403)
    assert problem["title"] == "Access to this site was stopped"
    assert (problem["operator"], problem["contact"]) == ('Example <School> & "Co"', "it@school.example")
    assert problem["complaints"] == "https://school.example/complaints?a=1&b=2"
    assert problem["legislation"] == {"name": "Example Act, section 1", "link": "https://law.example/act"}
    assert [line["topic"] for line in problem["help"]] == ["report", "worry", "thoughts"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_check_host_says_that_the_filter_works_and_how_old_its_list_is(language: str):
    page = page_of(_policy())
    answers = {kind: page.answer(Asker(kind, (language,)), Subject.CHECK, 17) for kind in Kind}
    for kind in (Kind.PAGE, Kind.TEXT):
        assert " 17" in answers[kind].body.decode()
        assert "\N{OBJECT REPLACEMENT CHARACTER}" not in answers[kind].body.decode()
    problem = json.loads(answers[Kind.PROBLEM].body)
    assert (problem["type"], problem["list_age_days"]) == ("tag:stoplist.invalid,2026:works", 17)
    assert answers[Kind.IMAGE] == page.answer(Asker(Kind.IMAGE))


@pytest.mark.parametrize(("mode", "observes"), [("enforce", False), ("observe", True)])
def test_the_check_page_says_where_the_filter_only_observes(mode: str, observes: bool):
    answer = _answer(Kind.PAGE, subject=Subject.CHECK, text=f"mode: {mode}\n{POLICY}")
    assert (b"only observes" in answer.body) is observes


def test_grpc_is_told_in_trailers_only():
    answer = _answer(Kind.GRPC)
    headers = dict(answer.headers)
    assert (answer.status, answer.body, headers[b"Content-Type"]) == (200, b"", b"application/grpc")
    assert headers[b"grpc-status"] == b"7"
    assert headers[b"grpc-message"] == b'Access to this site was stopped (Example <School> & "Co")'
    assert b"%" in dict(_answer(Kind.GRPC, "ar").headers)[b"grpc-message"]


HELP = """\
    - {topic: worry, name: Swiss line, link: "tel:+001", country: CH}
    - {topic: worry, name: Ligne suisse, link: "tel:+002", country: CH, language: fr}
    - {topic: worry, name: Ligne, link: "tel:+003", language: fr}
    - {topic: worry, name: French line, link: "tel:+004", country: FR}
counts:"""


@pytest.mark.parametrize(
    ("ranges", "shown"),
    [
        pytest.param(("en",), ["+000", "+001", "+004"], id="no country: those of all"),
        pytest.param(("en-ch",), ["+000", "+001"], id="one country"),
        pytest.param(("fr",), ["+000", "+001", "+002", "+003", "+004"], id="one language"),
        pytest.param(("fr-ch", "en"), ["+000", "+001", "+002", "+003"], id="language and country"),
        pytest.param(("en-gb",), ["+000", "+001", "+004"], id="a country without lines"),
        pytest.param(("de-ch", "en"), ["+000", "+001"], id="a language that the page is not in"),
    ],
)
def test_help_is_for_the_language_and_the_country(ranges: tuple[str, ...], shown: list[str]):
    page = page_of(_policy(POLICY.replace("counts:", HELP, 1)))
    html = _Page(page.answer(Asker(Kind.PAGE, ranges)).body.decode())
    assert [link.removeprefix("tel:") for link in html.links if link.startswith("tel:")] == shown
    problem = json.loads(page.answer(Asker(Kind.PROBLEM, ranges)).body)
    assert len(problem["help"]) == len(shown) + 2


def test_the_country_of_a_line_is_named_where_the_clients_is_not_known():
    page = page_of(_policy(POLICY.replace("counts:", HELP, 1)))
    assert "Swiss line (Switzerland)" in page.answer(Asker(Kind.PAGE)).body.decode()
    assert "Swiss line (Suisse)" in page.answer(Asker(Kind.PAGE, ("fr",))).body.decode()
    assert "Swiss line (" not in page.answer(Asker(Kind.PAGE, ("en-ch",))).body.decode()


def test_a_text_in_the_language_of_the_page_is_taken():
    text = POLICY.replace("contact: it@school.example", "contact: {en: it@school.example, fr: aide@school.example}")
    page = page_of(_policy(text))
    assert b"mailto:aide@school.example" in page.answer(Asker(Kind.PAGE, ("fr",))).body
    assert b"mailto:it@school.example" in page.answer(Asker(Kind.PAGE, ("es",))).body
