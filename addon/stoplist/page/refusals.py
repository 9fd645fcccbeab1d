"""Refusals: every answer of the gate itself that is no stop page, for people who repair things and for programs.

An answer is one line of plain text, in English. A person who opens a page gets the same in a page of their language:
rendering.py makes those, and `StopPage.refusal` chooses.
"""

from __future__ import annotations

from enum import StrEnum

from stoplist.core.decide import Reason
from stoplist.page.answers import PROXY_NAME, Answer


class Obstacle(StrEnum):
    """Why a request that no verdict refuses gets no answer of a site."""

    NO_ADDRESS = "a name without an address"
    SILENT = "a site that does not answer"
    UNSAFE = "a site whose certificate is not accepted"
    PASSWORD = "a missing or wrong password"  # noqa: S105  it is a reason
    GATE = "a request for the gate itself"


type Cause = Reason | Obstacle


def refusal(cause: Cause) -> Answer:
    return _REFUSALS[cause]


def _plain(status: int, line: str, error: str | None) -> Answer:
    """Make an answer. `error` is a proxy error type of RFC 9209, section 2.3."""
    headers = (
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        *(((b"Proxy-Status", f"{PROXY_NAME}; error={error}".encode()),) if error else ()),
        (b"Connection", b"close"),
    )
    return Answer(status, headers, f"{line}\n".encode())


_REFUSALS: dict[Cause, Answer] = {
    reason: _plain(status, f"Refused by the gate: {why}.", error)
    for reason, status, why, error in (
        (Reason.UNREADABLE, 400, "the host of this request cannot be read", "http_request_error"),
        (Reason.AMBIGUOUS, 400, "this request can be read in two ways", "http_request_error"),
        (Reason.SCHEME, 400, "the scheme is neither http nor https", "http_request_error"),
        (Reason.DENIED, 403, "no client may reach this address", "destination_ip_prohibited"),
        (Reason.PROTOCOL, 403, "no server may take this protocol for HTTP", "http_request_denied"),
        (Reason.CLOSED, 403, "its policy closes this port, or this protocol, for tunnels", "http_request_denied"),
        (Reason.NOT_FORWARDED, 503, "the list has changed, load the page again", "http_request_denied"),
        (Reason.TOO_MANY, 503, "this connection has had too many hosts, open another one", "http_request_denied"),
        (Reason.EXPIRED, 503, "its list has expired, and the policy refuses all", "proxy_configuration_refused"),
        (Reason.FAULT, 503, "the gate has a fault", "proxy_internal_error"),
        (Obstacle.PASSWORD, 407, "a name and a password are needed", "http_request_denied"),
    )
} | {
    obstacle: _plain(status, line, error)
    for obstacle, status, line, error in (
        (Obstacle.NO_ADDRESS, 502, "The gate cannot reach this host: its name has no address.", "dns_error"),
        (Obstacle.SILENT, 502, "The gate cannot reach this host.", "destination_unavailable"),
        (Obstacle.UNSAFE, 502, "The gate does not accept the certificate of this host.", "tls_certificate_error"),
        (Obstacle.GATE, 200, "This is an egress proxy, and no site.", None),
    )
}
