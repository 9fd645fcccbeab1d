"""The stop page: what a stopped request is answered with.

Rendered once for a policy, from `page/`: it never knows the host, so it can never show it. A
client that takes HTML gets the page, every other one a short text.

Rules
  - No script, nothing from elsewhere, no cookie, never cached, no way to continue.
  - What it says of counting is taken from the running policy, so that it stays true.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from urllib.parse import urlsplit

import jinja2

from stoplist.core.decide import Reason
from stoplist.core.policy import Policy

type Headers = tuple[tuple[bytes, bytes], ...]

_PROXY_NAME = "stoplist"
_TEMPLATES = resources.files("stoplist.proxy") / "page"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer: status, headers and body."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class StopPage:
    """The answers for a stopped request under one policy."""

    html: Answer
    text: Answer

    @classmethod
    def render(cls, policy: Policy) -> StopPage:
        return cls(_html(policy), _text(policy))

    def answer(self, accept: str) -> Answer:
        """The answer for a request whose Accept header is `accept` (RFC 9110, section 12.5.1)."""
        return self.html if _takes_html(accept) else self.text


def refusal(reason: Reason) -> Answer:
    """The answer to a request that is refused, not stopped."""
    return _REFUSALS[reason]


def _html(policy: Policy) -> Answer:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    style = (_TEMPLATES / "stop.css").read_text("utf-8")
    template = environment.from_string((_TEMPLATES / "stop.html").read_text("utf-8"))
    html = template.render(page=policy.stop_page, counts=policy.counts, style=style, reach=_reach)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy_header = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _answer(policy, "text/html", html, ((b"Content-Security-Policy", policy_header.encode()),))


def _text(policy: Policy) -> Answer:
    # Plain text has nothing to escape.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    template = environment.from_string((_TEMPLATES / "stop.txt").read_text("utf-8"))
    return _answer(policy, "text/plain", template.render(page=policy.stop_page, counts=policy.counts), ())


def _answer(policy: Policy, kind: str, body: str, extra: Headers) -> Answer:
    headers: Headers = (
        (b"Content-Type", f"{kind}; charset=utf-8".encode()),
        (b"Content-Language", b"en"),
        (b"Cache-Control", b"no-store"),
        (b"Vary", b"Accept"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Proxy-Status", f"{_PROXY_NAME}; error=http_request_denied".encode()),
        *extra,
    )
    page = policy.stop_page
    if page.status == 451:
        headers += ((b"Link", f'<{page.complaints}>; rel="blocked-by"'.encode()),)
    return Answer(page.status, headers, body.encode())


def _takes_html(accept: str) -> bool:
    for entry in accept.lower().split(","):
        kind, _, parameters = entry.partition(";")
        if kind.strip() in ("text/html", "application/xhtml+xml"):
            return "q=0" not in parameters.replace(" ", "").replace("q=0.", "")
    return False


def _plain(status: int, why: str, error: str) -> Answer:
    """Plain text, for people who repair things. `error` is a proxy error type of RFC 9209, section 2.3."""
    headers = (
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", f"{_PROXY_NAME}; error={error}".encode()),
        (b"Connection", b"close"),
    )
    return Answer(status, headers, f"{why}\n".encode())


_REFUSALS = {
    reason: _plain(status, f"Refused by the gate: {why}.", error)
    for reason, status, why, error in (
        (Reason.UNREADABLE, 400, "the host of this request cannot be read", "http_request_error"),
        (Reason.AMBIGUOUS, 400, "this request can be read in two ways", "http_request_error"),
        (Reason.DENIED, 403, "no client may reach this address", "destination_ip_prohibited"),
        (Reason.NOT_FORWARDED, 503, "the list has changed, load the page again", "http_request_denied"),
        (Reason.EXPIRED, 503, "its list has expired, and the policy refuses all", "proxy_configuration_refused"),
        (Reason.FAULT, 503, "the gate has a fault", "proxy_internal_error"),
    )
}
UNREACHABLE = _plain(502, "The gate cannot reach this host.", "destination_unavailable")
"""The answer where a host passed, and there was no connection to it."""


def _reach(contact: str) -> str | None:
    """The link for a contact that is one, or an e-mail address; None for other text."""
    if urlsplit(contact).scheme in ("http", "https", "mailto", "tel"):
        return contact
    return f"mailto:{contact}" if "@" in contact and " " not in contact else None
