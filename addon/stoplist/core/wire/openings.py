"""Opening: what a client opens a tunnel with, told from its first bytes.

A tunnel carries what its two ends agree on. The gate must see two kinds of it: TLS, whose
ClientHello names a host, and HTTP, whose requests do. Everything else is another protocol, of which
conversations.py makes sure that no web server takes it for a request.

Rules
  - A decision is made only when no further byte could change it: a client that sends its first bytes
    one by one is read no differently.
  - What servers are known to take for HTTP is HTTP: empty lines before it, any case, any white space,
    another version or none. How strictly it is then read is the business of core/wire/heads.py.
"""

from __future__ import annotations

import re
from enum import StrEnum

MAX_LINE = 64 * 1024
"""How much of a first line is waited for, in bytes."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*+(?![^ \t\r\n\x0b\x0c])")
TLS_RECORDS = range(20, 25)
"""The first byte of a TLS record, whatever its type: some servers let others come before the handshake."""
_BINARY = re.compile(rb"[^\t-\r\x20-\x7e]")

_SPACE = rb"[\x00\x09\x0b-\x0d\x1c-\x20\x7f\x85\xa0]"
"""What some server takes for white space within a line: NUL, and what Latin-1 calls a space."""
_WORD = rb"[^\x00\x09-\x0d\x1c-\x20\x7f\x85\xa0]"
_START = rb"(?:\A|(?<=\n))" + _SPACE + rb"*+"
_METHOD_OF_SOME_SERVER = rb"(?![0-9.]++" + _SPACE + rb")[!#$%&'*+.^_`|~0-9A-Za-z-]++" + _SPACE + rb"++"
_NAMES_A_TARGET = re.compile(
    # Methods that servers know have three letters or more. What mixes small letters with others is none.
    _START + rb"(?![0-9]++" + _SPACE + rb")(?:[A-Za-z]{3,}+|[!#$%&'*+.^_`|~0-9A-Z-]{3,}+)" + _SPACE + rb"++"
    rb"(?!(?i:\*|rtspu?s?://)[^\n]*" + _SPACE + rb"RTSP/)"
    rb"(?:/|\*(?=[\x00\x09-\x0d\x1c-\x20\x7f\x85\xa0]|\Z)|[A-Za-z][A-Za-z0-9+.-]*+://)"
)
_VERSION = rb"(?i:HTTP/)"
_NAMES_A_VERSION = re.compile(
    # As the second word, as the third, or as the last.
    _START + _METHOD_OF_SOME_SERVER + rb"(?:"
    rb"(?:" + _WORD + rb"++" + _SPACE + rb"++)?+" + _VERSION + rb"|"
    rb"[^\n]*?(?<=" + _SPACE + rb")" + _VERSION + _WORD + rb"*+" + _SPACE + rb"*+\n)"
)
_NAMES_A_HOST = re.compile(rb"[\r\n]" + _SPACE + rb"*+(?i:host)" + _SPACE + rb"*+:")
_HAS_TWO_WORDS = re.compile(_START + _WORD + rb"++" + _SPACE + rb"++" + _WORD)
_LAST_BYTES = re.compile(rb"[/*:\n]")
"""One of them ends whatever shows a request."""


class Opening(StrEnum):
    INCOMPLETE = "not enough bytes to tell"
    TLS = "a TLS record"
    HTTP1 = "an HTTP/1 request"
    HTTP2 = "HTTP/2 without TLS"
    OTHER = "neither TLS nor HTTP"
    ENDLESS = "a first line that does not end"


def recognise(data: bytes) -> Opening:
    """What `data`, all that a client has sent so far, is the start of."""
    if may_be_tls(data):
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
    text_of_it, nul, _ = line.partition(b"\0")
    if nul and not asks(text_of_it + nul):
        return Opening.OTHER  # it may never end, as in git's protocol
    if not end or _PREFACE.startswith(text):
        return Opening.ENDLESS if len(start) > MAX_LINE else Opening.INCOMPLETE
    return Opening.HTTP1 if asks(line + b"\n") else Opening.OTHER


def may_be_tls(data: bytes) -> bool:
    """Whether the first byte is that of a TLS record."""
    return bool(data) and data[0] in TLS_RECORDS


def asks(data: bytes) -> bool:
    """Whether some server could take what is in `data` for a request, whatever stands around it.

    That is a line with a method, and a path, URL or version; or any line of two words, and later one that names a host.

    >>> asks(b"\\x05hello\\nGET\\xa0/ RTSP/1.1\\n")
    True
    """
    if _NAMES_A_TARGET.search(data) or _NAMES_A_VERSION.search(data):
        return True
    host = _NAMES_A_HOST.search(data)
    return host is not None and _HAS_TWO_WORDS.search(data, 0, host.start()) is not None


def may_ask_more(data: bytes) -> bool:
    """Whether what asked for nothing may do so with `data` after it."""
    return _LAST_BYTES.search(data) is not None


def is_text(data: bytes) -> bool:
    """Whether the first line of `data`, or what there is of it, is text alone, as a request is."""
    return not _BINARY.search(data.lstrip(b" \t\r\n\x0b\x0c").partition(b"\n")[0])


def is_other_at_its_end(data: bytes) -> bool:
    """Whether what a client said before it ended is no request: some servers take the end for that of a line."""
    return recognise(data + b"\n") in (Opening.INCOMPLETE, Opening.OTHER)
