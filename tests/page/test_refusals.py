"""What is refused is told to people who repair things, and is no stop page."""

from __future__ import annotations

import pytest

from stoplist.core.decide import Reason
from stoplist.page.refusals import refusal


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
