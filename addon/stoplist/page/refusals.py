"""Refusals: the answers to requests that are refused, not stopped. They are plain text, for people who repair
things."""

from __future__ import annotations

from stoplist.core.decide import Reason
from stoplist.page.answers import PROXY_NAME, Answer


def refusal(reason: Reason) -> Answer:
    return _REFUSALS[reason]


def _plain(status: int, why: str, error: str) -> Answer:
    """Make an answer. `error` is a proxy error type of RFC 9209, section 2.3."""
    headers = (
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", f"{PROXY_NAME}; error={error}".encode()),
        (b"Connection", b"close"),
    )
    return Answer(status, headers, f"{why}\n".encode())


_REFUSALS = {
    reason: _plain(status, f"Refused by the gate: {why}.", error)
    for reason, status, why, error in (
        (Reason.UNREADABLE, 400, "the host of this request cannot be read", "http_request_error"),
        (Reason.AMBIGUOUS, 400, "this request can be read in two ways", "http_request_error"),
        (Reason.DENIED, 403, "no client may reach this address", "destination_ip_prohibited"),
        (Reason.PROTOCOL, 403, "no server may take this protocol for HTTP", "http_request_denied"),
        (Reason.CLOSED, 403, "its policy closes this port, or this protocol, for tunnels", "http_request_denied"),
        (Reason.NOT_FORWARDED, 503, "the list has changed, load the page again", "http_request_denied"),
        (Reason.TOO_MANY, 503, "this connection has had too many hosts, open another one", "http_request_denied"),
        (Reason.EXPIRED, 503, "its list has expired, and the policy refuses all", "proxy_configuration_refused"),
        (Reason.FAULT, 503, "the gate has a fault", "proxy_internal_error"),
    )
}
UNREACHABLE = _plain(502, "The gate cannot reach this host.", "destination_unavailable")
"""The answer if a host passed and the gate could not connect to it."""
