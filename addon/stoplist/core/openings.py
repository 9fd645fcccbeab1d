"""Opening: what a client opens a tunnel with, told from its first bytes.

A tunnel carries what its two ends agree on. The gate must see two kinds of it: TLS, whose
ClientHello names a host, and HTTP, whose requests do. Everything else it relays.

Rules
  - A decision is made only when no further byte could change it: a client that sends its first bytes
    one by one is read no differently.
  - What servers are known to take for HTTP is HTTP: empty lines before it, any case, any white space.
    How strictly it is then read is the business of core/heads.py.
"""

from __future__ import annotations

import re
from enum import StrEnum

MAX_LINE = 64 * 1024
"""How much of a first line is waited for, in bytes."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*+(?![^ \t\r\n\x0b\x0c])")
_HTTP = re.compile(rb"HTTP(?:/|S?:)", re.IGNORECASE)
"""A version, or a URL: of HTTP/0.9 a request has no version, and names a host all the same."""
_TLS_RECORDS = range(20, 25)
"""The first byte of a TLS record, whatever its type: some servers let others come before the handshake."""


class Opening(StrEnum):
    INCOMPLETE = "not enough bytes to tell"
    TLS = "a TLS record"
    HTTP1 = "an HTTP/1 request"
    HTTP2 = "HTTP/2 without TLS"
    OTHER = "neither TLS nor HTTP"
    ENDLESS = "a first line that does not end"


def recognise(data: bytes) -> Opening:
    """What `data`, all that a client has sent so far, is the start of."""
    if data and data[0] in _TLS_RECORDS:
        if len(data) < 2:
            return Opening.INCOMPLETE
        return Opening.TLS if data[1] == 3 else Opening.OTHER
    start = data[: MAX_LINE + 1]  # what comes later changes nothing
    text = start.lstrip(b" \t\r\n\x0b\x0c")
    if text and not _METHOD.match(text):
        return Opening.OTHER
    if text.startswith(_PREFACE):
        return Opening.HTTP2
    line, end, _ = text.partition(b"\n")
    if not end or _PREFACE.startswith(text):
        return Opening.ENDLESS if len(start) > MAX_LINE else Opening.INCOMPLETE
    return Opening.HTTP1 if _HTTP.search(line) else Opening.OTHER


def is_other_at_its_end(data: bytes) -> bool:
    """Whether what a client said before it ended is no request: some servers take the end for that of a line."""
    return recognise(data + b"\n") in (Opening.INCOMPLETE, Opening.OTHER)
