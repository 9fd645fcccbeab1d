"""Placeholders: contacts and links of a stop page that belong to nobody, as the examples have them.

A frightened person who turns to such an address reaches no one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from stoplist.core.policy.models import StopPagePolicy
from stoplist.core.policy.values import SpokenText

_RESERVED = re.compile(r"(?:^|\.)(?:example|test|invalid|localhost|example\.(?:com|net|org))$")
"""Names for examples and tests (RFC 2606, RFC 6761)."""


def placeholders(page: StopPagePolicy) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each placeholder of a stop page: its path in the policy, and its value."""
    spoken: dict[tuple[str | int, ...], SpokenText | None] = {
        ("contact",): page.contact,
        ("complaints",): page.complaints,
        ("authority_contact",): page.authority_contact,
        ("legislation", "link"): page.legislation.link,
    }
    for path, texts in spoken.items():
        for language, text in texts.texts if texts is not None else ():
            if is_placeholder(text):
                yield (*path, language) if language else path, text
    for number, line in enumerate(page.help):
        if is_placeholder(line.link):
            yield ("help", number, "link"), line.link


def is_placeholder(contact: str) -> bool:
    """Whether a link, an e-mail address or a telephone number is one for examples.

    >>> is_placeholder("https://helpline.example/"), is_placeholder("mailto:it@school.test"), is_placeholder("tel:+000")
    (True, True, True)
    >>> is_placeholder("tel:116 111"), is_placeholder("room 12, by the example board")
    (False, False)
    """
    scheme, _, rest = contact.strip().partition(":")
    match scheme.lower():
        case "tel":
            return not re.search("[1-9]", rest)
        case "http" | "https":
            host = urlsplit(contact).hostname or ""
        case _:
            host = contact.strip().rpartition("@")[2].partition("?")[0] if "@" in contact else ""
    return _RESERVED.search(host.rstrip(".").lower()) is not None
