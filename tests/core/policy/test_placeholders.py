"""Contacts of the examples are known for what they are, and those of people are not taken for them."""

from __future__ import annotations

import pytest

from stoplist.core.policy.models import StopPagePolicy
from stoplist.core.policy.placeholders import is_placeholder, placeholders
from tests.rulesets import STOP_PAGE


@pytest.mark.parametrize(
    "contact",
    [
        *("https://helpline.example/", "http://HELPLINE.EXAMPLE", "https://a.test:8443/x", "https://gate.localhost/"),
        *("https://user@a.invalid/", "https://www.example.com/", "https://example.org", "https://a.example./"),
        *("mailto:it@school.example", "mailto:it@school.example?subject=x", "MAILTO:a@example.net", "it@school.test"),
        *("tel:+000000000", "tel:0000", "tel:", "TEL:00-00"),
    ],
)
def test_what_is_for_examples(contact: str):
    assert is_placeholder(contact)


@pytest.mark.parametrize(
    "contact",
    [
        *("tel:116111", "tel:+41 44 000 00 01", "room 12", "the example school's office", "ask at example"),
        *("https://contest/", "https://latest/", "https://notexample/", "mailto:a@mytest", "https://[2001:db8::1]/"),
        *("https://example.community/", "https://a.example.community/test.example"),
    ],
)
def test_what_is_not(contact: str):
    assert not is_placeholder(contact)


def test_each_is_found_with_its_place():
    page = StopPagePolicy.model_validate(
        {
            **STOP_PAGE,
            "contact": {"en": "it@school.example", "fr": "bureau 12"},
            "help": [
                {"topic": topic, "name": "Example hotline", "link": link}
                for topic, link in (("report", "tel:116111"), ("worry", "tel:000"), ("thoughts", "tel:116112"))
            ],
            "languages": ["en", "fr"],
        }
    )
    assert list(placeholders(page)) == [
        (("contact", "en"), "it@school.example"),
        (("complaints",), "mailto:complaints@school.example"),
        (("legislation", "link"), "https://law.example/act"),
        (("help", 1, "link"), "tel:000"),
    ]
