"""What is refused, or leads nowhere, is told by the gate itself, and is no stop page."""

from __future__ import annotations

import pytest

from stoplist.core.decide import Reason
from stoplist.core.policy.text import PolicyText
from stoplist.page import languages, rendering
from stoplist.page.answers import StopPage
from stoplist.page.asker import Asker, Kind, asker_in
from stoplist.page.refusals import Cause, Obstacle, refusal
from stoplist.page.template import Page
from tests.page.test_rendering import POLICY

CAUSES = [*rendering._CAUSES]


@pytest.fixture(scope="module")
def page() -> StopPage:
    policy = PolicyText.parse(POLICY.encode(), "test").policy
    return rendering.render(policy, {tag: languages.of_package(tag) for tag in languages.included()})


@pytest.mark.parametrize(
    ("cause", "status", "error", "words"),
    [
        (Reason.FAULT, 503, b"proxy_internal_error", b"the gate has a fault"),
        (Reason.AMBIGUOUS, 400, b"http_request_error", b"can be read in two ways"),
        (Reason.SCHEME, 400, b"http_request_error", b"neither http nor https"),
        (Reason.DENIED, 403, b"destination_ip_prohibited", b"no client may reach this address"),
        (Obstacle.NO_ADDRESS, 502, b"dns_error", b"its name has no address"),
        (Obstacle.SILENT, 502, b"destination_unavailable", b"cannot reach this host"),
        (Obstacle.UNSAFE, 502, b"tls_certificate_error", b"does not accept the certificate"),
        (Obstacle.PASSWORD, 407, b"http_request_denied", b"a name and a password"),
    ],
)
def test_a_refusal_is_no_stop_page(cause: Cause, status: int, error: bytes, words: bytes):
    answer = refusal(cause)
    assert answer.status == status
    assert dict(answer.headers)[b"Proxy-Status"] == b"stoplist; error=" + error
    assert words in answer.body
    assert b"stopped" not in answer.body


def test_every_reason_to_refuse_has_its_answer():
    passing = {Reason.NOT_LISTED, Reason.ADDRESS, Reason.EXCEPTION}
    stopping = {Reason.LISTED, Reason.CHECK_HOST}
    assert set(CAUSES) == {*Reason, *Obstacle} - passing - stopping
    assert all(400 <= refusal(cause).status < 600 for cause in CAUSES if cause is not Obstacle.GATE)


@pytest.mark.parametrize("language", languages.included())
@pytest.mark.parametrize("cause", CAUSES)
def test_a_person_gets_a_page_in_their_language(page: StopPage, cause: Cause, language: str):
    answer = page.refusal(cause, Asker(Kind.PAGE, (language,)))
    assert answer == page.refusal(cause, Asker(Kind.FRAME, (language, "en")))
    shown, headers = Page(answer.body.decode()), dict(answer.headers)
    assert not shown.faults
    assert answer.status == refusal(cause).status
    assert headers[b"Content-Language"] == language.encode()
    assert headers[b"Cache-Control"] == b"no-store"
    assert headers.get(b"Proxy-Status") == dict(refusal(cause).headers).get(b"Proxy-Status")
    assert headers[b"Content-Security-Policy"].startswith(b"default-src 'none'; style-src 'sha256-")
    assert 'Example <School> & "Co"' in shown.text
    assert len(shown.sentences[1]) > 20
    assert shown.links == (set() if cause is Obstacle.GATE else {"mailto:it@school.example"})


def test_titles_and_sentences_tell_causes_apart(page: StopPage):
    shown = {cause: Page(page.refusal(cause, Asker(Kind.PAGE)).body.decode()).text for cause in CAUSES}
    same = {Reason.PROTOCOL, Reason.CLOSED}  # a person sees neither: they are of tunnels
    assert len(set(shown.values())) == len(CAUSES) - len(same) + 1
    assert "This site cannot be found" in shown[Obstacle.NO_ADDRESS]
    assert "did not stop your request" in shown[Obstacle.SILENT]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.PAGE, Kind.FRAME)])
def test_a_program_gets_none_of_them(page: StopPage, kind: Kind):
    assert page.refusal(Reason.FAULT, Asker(kind)) is None


@pytest.mark.parametrize(
    ("head", "asker"),
    [
        pytest.param(b"GET ftp://a.test/ HTTP/1.1\r\nAccept: text/html\r\n\r\n", Asker(Kind.PAGE), id="accept"),
        pytest.param(
            b"GET ftp://a.test/ HTTP/1.1\r\naccept-LANGUAGE: fr\r\nSec-Fetch-Dest: document\r\n\r\n",
            Asker(Kind.PAGE, ("fr",)),
            id="fields in any case",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nX: y\r\n\r\nAccept: text/html\r\n", Asker(Kind.TEXT), id="a body is no head"),
        pytest.param(b"\xff\x00: \r\nAccept: \xff\r\n\r\n", Asker(Kind.TEXT), id="bytes that are no text"),
        pytest.param(b"", Asker(Kind.TEXT), id="nothing"),
        pytest.param(b"GET / HTTP/1.1\nAccept: text/html\n\n", Asker(Kind.PAGE), id="lines that end in LF"),
        pytest.param(b"X: y\r\n" * 4000 + b"Accept: text/html\r\n\r\n", Asker(Kind.TEXT), id="too far down"),
    ],
)
def test_an_asker_is_read_from_a_head_that_is_refused(head: bytes, asker: Asker):
    assert asker_in(head) == asker
