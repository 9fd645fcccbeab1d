"""Checks of a mitmproxy request. Each checks one rule of a specification."""

from __future__ import annotations

import re

from mitmproxy import http

from stoplist.core.hosts import Host
from stoplist.page.asker import Asker

MAX_STOPPED_BODY = 1024 * 1024
"""Longest body of a stopped request that mitmproxy reads to its end before it answers, in bytes.

The gate cuts off a request with a longer body, or a body of unknown length, without a page.
"""

_LABEL = "(?!-)[a-z0-9_-]+(?<!-)"
_NAME_OF_A_SERVER = re.compile(rf"(?=..){_LABEL}(\.{_LABEL})*")


def has_short_body(request: http.Request) -> bool:
    length = request.headers.get("content-length", "0")
    return "transfer-encoding" not in request.headers and length.isdecimal() and int(length) <= MAX_STOPPED_BODY


def has_body(request: http.Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0").strip("0") != ""


def has_a_form_in_dns(host: Host) -> bool:
    """Whether each label of a name has 1 to 63 bytes, and the name at most 253 (RFC 1035, section 2.3.4)."""
    return host.is_address or (len(host.name) <= 253 and all(0 < len(label) <= 63 for label in host.name.split(".")))


def has_a_form_in_certificates(host: Host) -> bool:
    """Whether OpenSSL accepts the name as that of a server (X509_VERIFY_PARAM_set1_host(3), in OpenSSL 4)."""
    return host.is_address or (has_a_form_in_dns(host) and _NAME_OF_A_SERVER.fullmatch(host.name) is not None)


def has_plain_target(request: http.Request) -> bool:
    """Whether a request of HTTP/2 or HTTP/3 names no host in its path or scheme (RFC 9113, section 8.3.1)."""
    path, scheme = request.data.path, request.data.scheme
    is_path = path.startswith(b"/") or (path == b"*" and request.method == "OPTIONS")
    return is_path and scheme in (b"http", b"https")


def is_asked_for_a_password(flow: http.HTTPFlow) -> bool:
    """Whether mitmproxy's own add-on has asked for a password: by 407, or by 401 where it is not asked as a proxy."""
    return flow.response is not None and flow.response.status_code in (401, 407)


def asker_of(request: http.Request) -> Asker:
    return Asker.of(request.method, request.path, request.headers)


def remove_upgrade_to_http2(request: http.Request) -> None:
    """Remove a request to upgrade to HTTP/2 or TLS (RFC 7540, section 3.2; RFC 2817).

    After such an upgrade the gate could read no request.
    """
    wanted = request.headers.get("upgrade", "").lower()
    if "h2c" in wanted or "tls" in wanted:
        for name in ("upgrade", "http2-settings"):
            request.headers.pop(name, None)
