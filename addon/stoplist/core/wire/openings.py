"""Opening: the protocol with which a client opens a tunnel, told from its first bytes.

A tunnel carries any protocol that its two ends agree on. The gate must see two of them: TLS, because a ClientHello
names a host, and HTTP, because requests name a host. Everything else is another protocol. For that, conversations.py
makes sure that no web server takes it for a request.

Rules
  - The module decides only when no further byte could change the decision. So it reads a client that sends its first
    bytes one by one no differently.
  - Whatever some known server takes for HTTP is HTTP here: empty lines before it, any case, any white space, another
    version or none. core/wire/heads.py decides how strictly it is then read.
"""

from __future__ import annotations

import re
from enum import StrEnum

MAX_LINE = 64 * 1024
"""Length up to which the gate waits for the end of a first line, in bytes."""
HESITATION_SECONDS = 2.0
"""How long the gate waits for the end of a first line of text. After that the client may be waiting for the server."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*+(?![^ \t\r\n\x0b\x0c])")
TLS_RECORDS = range(20, 25)
"""The first byte of a TLS record of any type: some servers accept others before the handshake."""
_BINARY = re.compile(rb"[^\t-\r\x20-\x7e]")

_READINGS = (
    rb"\x00\t\x0b-\r\x1c-\x20\x7f\x85\xa0",
    rb"\t\x0b-\r\x1c-\x20\x85\xa0",
    rb"\t\x0b-\r\x20",
    rb"\t\x20",
)
"""The sets of white space of servers: of all together, of Python, of C, and of the RFCs."""
_SPACE = rb"[%b]" % _READINGS[0]
"""Bytes that some server takes for white space within a line: NUL, and the spaces of Latin-1."""
_SPACE_BUT_CR = rb"[\x00\x09\x0b\x0c\x1c-\x20\x7f\x85\xa0]"
_WORD = rb"[^%b\n]" % _READINGS[0]
_METHOD_OF_SOME_SERVER = _SPACE + rb"*+(?![0-9.]++" + _SPACE + rb")[!#$%&'*+.^_`|~0-9A-Za-z-]++" + _SPACE + rb"++"
_METHOD_AND_SPACE = re.compile(
    # Methods that servers know have three letters or more. A word that mixes small letters with others is no method.
    _SPACE + rb"*+(?![0-9]++" + _SPACE + rb")(?:[A-Za-z]{3,}+|[!#$%&'*+.^_`|~0-9A-Z-]{3,}+)" + _SPACE + rb"++"
    rb"(?!(?i:\*|rtspu?s?://)[^\n]*" + _SPACE + rb"RTSP/)"
)
_PATH_OR_ASTERISK = re.compile(rb"/|\*(?:\n|" + _SPACE + rb"|\Z)")
# Some servers decode percent-encoded characters in a URL.
_SCHEME = re.compile(rb"[A-Za-z%][A-Za-z0-9+.%-]*+")
_AUTHORITY = re.compile(rb":(?:/|%2[Ff])")
_ENCODED_AUTHORITY = re.compile(rb"%3[Aa](?:/|%2[Ff])")
_VERSION = rb"(?i:HTTP/)"
_NAMES_A_VERSION = re.compile(
    # The version is the second word, or the third. Python's servers take any word for a method.
    b"|".join(
        rb"[%b]*+[^%b\n]++[%b]++(?:[^%b\n]++[%b]++)?+%b" % (space, space, space, space, space, _VERSION)
        for space in _READINGS
    )
)
_ENDS_IN_A_VERSION = re.compile(
    _METHOD_OF_SOME_SERVER + rb"[^\n]*?(?<=" + _SPACE + rb")" + _VERSION + _WORD + rb"*+" + _SPACE + rb"*+\n"
)
_NAMES_A_HOST = re.compile(rb"(?:\A|\r)" + _SPACE_BUT_CR + rb"*+(?i:host)" + _SPACE_BUT_CR + rb"*+:")
_HAS_TWO_WORDS = re.compile(rb"[\t\r ]*+[^\t\n\r ](?>[^\n]*?" + _SPACE + rb")[^\n]*?[^\t\n\r ]")
"""A byte that some servers take for white space is a word, or a part of one, to others: NUL and 0x7f to Python."""
_HAS_NO_VERSION = re.compile(_SPACE + rb"*+GET" + _SPACE + rb"[\t\r ]*+[^\t\n\r ]")
"""A request of HTTP/0.9, among others: `GET`, a target of any form, and no version (RFC 1945, section 5)."""
_MAY_BEGIN_A_REQUEST = re.compile(_SPACE + rb"*+(?:\Z|[!#$%&'*+.^_`|~0-9A-Za-z-]++(?:\Z|" + _SPACE + rb"))")
_PROXY_HEADER = b"\r\n\r\n\0\r\nQUIT\n"
"""Version 2 of the PROXY protocol: a binary header, after which a server reads a request in the same line
(https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2)."""
_TAIL = 1024
"""How much the search keeps of a line that has become too long to begin a request."""


class Opening(StrEnum):
    INCOMPLETE = "not enough bytes to tell"
    TLS = "a TLS record"
    HTTP1 = "an HTTP/1 request"
    HTTP2 = "HTTP/2 without TLS"
    OTHER = "neither TLS nor HTTP"
    ENDLESS = "a first line that does not end"


def recognise(data: bytes) -> Opening:
    """The protocol that `data` begins, where `data` is all that a client has sent so far.

    >>> recognise(b"GET / HTTP/1.1\\r\\n").name, recognise(b"SSH-2.0-client\\r\\n").name, recognise(b"GE").name
    ('HTTP1', 'OTHER', 'INCOMPLETE')
    """
    if may_be_tls(data):
        if len(data) < 2:
            return Opening.INCOMPLETE
        return Opening.TLS if data[1] == 3 else Opening.OTHER
    start = data[: MAX_LINE + 1]  # later bytes change nothing
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
    """Whether the first byte is the first byte of a TLS record."""
    return bool(data) and data[0] in TLS_RECORDS


def asks(data: bytes) -> bool:
    """Whether some server could take a part of `data` for a request, whatever stands around it (see RequestSearch).

    >>> asks(b"\\x05hello\\nGET\\xa0/ RTSP/1.1\\n")
    True
    >>> asks(b"\\x05hello\\nEHLO mail.example\\n")
    False
    """
    search = RequestSearch()
    return search.finds(data) or search.finds(b"\n")


class RequestSearch:
    """Looks through the client's bytes, piece by piece, for a request that some server could read in them.

    A request is a line with a method and a path or URL; or with any word and a version; or any line of two words, and
    later one that names a host; or a header of the PROXY protocol. The search looks at each line once when it is
    whole, and by its first words before.
    """

    def __init__(self) -> None:
        self._start = b""
        self._line = b""
        """The last line, as long as its end has not come."""
        self._has_two_words = False
        """Whether an earlier line had two words."""
        self.has_simple_request = False
        """Whether an earlier line was a request of HTTP/0.9. A server's answer to it is no HTTP/1 response."""

    def finds(self, data: bytes) -> bool:
        """Whether there is a request up to and with `data`, the next bytes; `data` is b"\\n" when the client has
        ended."""
        if len(self._start) < len(_PROXY_HEADER):
            self._start += data[: len(_PROXY_HEADER) - len(self._start)]
            if self._start == _PROXY_HEADER:
                return True
        looked_at = len(self._line)
        *lines, self._line = (self._line + data).split(b"\n")
        if any(self._asks(line + b"\n") for line in lines):
            return True
        last_return = self._line.rfind(b"\r", 0, 0 if lines else looked_at)
        if _begins_a_request(self._line) or self._names_a_host(self._line, max(0, last_return)):
            return True
        if len(self._line) > MAX_LINE:
            if _MAY_BEGIN_A_REQUEST.match(self._line):
                return True
            self._has_two_words = self._has_two_words or _HAS_TWO_WORDS.match(self._line) is not None
            self._line = b"\x01" + self._line[-_TAIL:]
        return False

    def _asks(self, line: bytes) -> bool:
        if _begins_a_request(line) or _ENDS_IN_A_VERSION.match(line) or self._names_a_host(line, 0):
            return True
        self.has_simple_request = self.has_simple_request or _HAS_NO_VERSION.match(line) is not None
        self._has_two_words = self._has_two_words or _HAS_TWO_WORDS.match(line) is not None
        return False

    def _names_a_host(self, line: bytes, start: int) -> bool:
        host = _NAMES_A_HOST.search(line, start)
        return host is not None and (self._has_two_words or _HAS_TWO_WORDS.match(line, 0, host.start()) is not None)


def _begins_a_request(line: bytes) -> bool:
    start = _METHOD_AND_SPACE.match(line)
    return bool((start and _names_a_target(line, start.end())) or _NAMES_A_VERSION.match(line))


def _names_a_target(line: bytes, start: int) -> bool:
    """Whether a path, an asterisk or a URL stands at `start`. The search takes time linear in the line's length."""
    if _PATH_OR_ASTERISK.match(line, start):
        return True
    scheme = _SCHEME.match(line, start)
    if not scheme:
        return False
    end = scheme.end()
    return bool(_AUTHORITY.match(line, end) or _ENCODED_AUTHORITY.search(line, start + 1, end + 1))


def is_text(data: bytes) -> bool:
    """Whether the first line of `data`, or the part of it that has come, is text alone, as a request is."""
    return not _BINARY.search(data.lstrip(b" \t\r\n\x0b\x0c").partition(b"\n")[0])


def is_other_at_its_end(data: bytes) -> bool:
    """Whether the client's bytes before it ended hold no request: some servers take the end for the end of a line."""
    return recognise(data + b"\n") in (Opening.INCOMPLETE, Opening.OTHER)
