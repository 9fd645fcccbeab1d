"""RequestHead: the head of an HTTP/1 request, from its raw bytes, read strictly (RFC 9112).

Clients get past a filter where two readers of one request disagree. So this module reads a head once, and the gate
judges and forwards the result. A head that another reader could take in another way is a HeadError, never a guess.

Refused
  - a line folded onto the next (obs-fold), a CR that ends no line, any other control character
  - white space around a field's name, or anywhere in the value of Host but at its ends; a tab in it
  - two Host fields; Host with userinfo; a target with userinfo or a fragment, or a backslash before its path
  - Content-Length with Transfer-Encoding, either of them twice, a length that is no number, any transfer coding but
    chunked, Transfer-Encoding in HTTP/1.0
  - a version other than 1.0 and 1.1, a scheme other than http and https, CONNECT in another case

Accepted, as RFC 9112 allows: a line that ends in LF alone, empty lines before the request line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stoplist.core.hosts import Host, parse_authority
from stoplist.errors import StoplistError

MAX_HEAD = 64 * 1024
"""Longest head that is read, in bytes."""

_LINE_END = rb"(?:\r?\n|\r?\Z)"
_ONE_FIELD = rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+(|[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])[ \t]*+" + _LINE_END
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/(1\.[01])" + _LINE_END)
_FIELD = re.compile(_ONE_FIELD)
_FIELDS = re.compile(rb"(?:" + _ONE_FIELD + rb")*+(?:\r?\n)*+\r?")
_FRAMING = re.compile(rb"^(?:content-length|transfer-encoding):", re.IGNORECASE | re.MULTILINE)
_TAB_AT_HOST = re.compile(rb"^host:[^\n]*\t", re.IGNORECASE | re.MULTILINE)
_ABSOLUTE = re.compile(rb"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://(?P<authority>[^/?#\\]*)(?P<path>(?:[/?].*)?)", re.DOTALL)
_OTHER_SCHEME = re.compile(rb"(?!https?:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_EMPTY_LINES = re.compile(rb"(?:\r?\n)*+")
_END = re.compile(rb"\n\r?\n")
_PORTS = {b"http": 80, b"https": 443}


class HeadError(StoplistError):
    """A head that is malformed, or that could be read in two ways. The gate refuses the request."""


class SchemeError(HeadError):
    """The target is a URL of another scheme than http and https."""


@dataclass(frozen=True, slots=True, repr=False)
class RequestHead:
    """The fields of a request before its body.

    `target` is the host that CONNECT or an absolute-form target names, and `port` its port; they are None and 0 if
    the target is a path or an asterisk. `scheme` is empty except in absolute-form. `path` is empty for CONNECT.
    `field` is the host of the Host field. `length` is the length of the body in bytes, None if the body is chunked.
    """

    method: bytes
    scheme: bytes
    target: Host | None
    port: int
    path: bytes
    version: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    field: Host | None
    length: int | None

    @classmethod
    def parse(cls, data: bytes) -> RequestHead:
        """Read a head, with or without the empty line that ends it.

        Raises HeadError if its form is wrong, HostError if a host in it cannot be read.

        >>> head = RequestHead.parse(b"GET http://example.test/a HTTP/1.1\\r\\nHost: example.test\\r\\n\\r\\n")
        >>> head.authority, head.path, head.length
        (b'example.test:80', b'/a', 0)
        >>> RequestHead.parse(b"GET /a HTTP/1.1\\r\\nHost : example.test\\r\\n\\r\\n")
        Traceback (most recent call last):
        stoplist.core.wire.heads.HeadError: a header field is not 'Name: value' in one line
        """
        line = _REQUEST_LINE.match(data, _start(data))
        if not line:
            raise HeadError("the request line is not 'METHOD TARGET HTTP/1.1'")
        if not _FIELDS.fullmatch(data, line.end()):
            raise HeadError("a header field is not 'Name: value' in one line")
        method, raw_target, version = line.groups()
        fields = tuple(_FIELD.findall(data, line.end()))
        scheme, target, port, path = _target(method, raw_target)
        hosts = _values(fields, b"host")
        if len(hosts) > 1:
            raise HeadError("the request has more than one Host field")
        if b"\t" in data and _TAB_AT_HOST.search(data, line.end()):
            raise HeadError("the Host field holds a tab")
        if not hosts:
            field = None
        else:  # with CONNECT, it repeats the target
            field = target if hosts[0] == raw_target and target is not None else parse_authority(hosts[0])[0]
        length = _length(fields, version) if _FRAMING.search(data, line.end()) else 0
        return cls(method, scheme, target, port, path, version, fields, field, length)

    @property
    def agrees(self) -> bool:
        """Whether target and Host field name the same host, or only one of them names any."""
        return self.target is None or self.field is None or self.target == self.field

    @property
    def authority(self) -> bytes:
        """The target as ``host:port``, canonical; empty where there is none."""
        return f"{self.target.name}:{self.port}".encode() if self.target else b""


def find_end(data: bytes) -> int | None:
    """Length of the head at the start of `data`, with the empty line that ends it; None if it is not whole."""
    match = _END.search(data, _start(data))
    return match.end() if match else None


def is_hopeless(data: bytes) -> bool:
    """Whether the head at the start of `data`, which is not whole, has a malformed request line."""
    start = _start(data)
    end = data.find(b"\n", start)
    return end >= 0 and not _REQUEST_LINE.match(data[: end + 1], start)


def _start(data: bytes) -> int:
    """Offset at which the request line begins: after the empty lines before it (RFC 9112, section 2.2)."""
    match = _EMPTY_LINES.match(data)
    return match.end() if match else 0


def _target(method: bytes, target: bytes) -> tuple[bytes, Host | None, int, bytes]:
    """Scheme, host, port and path of a request target (RFC 9112, section 3.2)."""
    if method == b"CONNECT":
        host, port = parse_authority(target)
        if port is None:
            raise HeadError("the target of CONNECT has no port")
        return b"", host, port, b""
    if method.upper() == b"CONNECT":
        raise HeadError("the method is CONNECT in another case")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return b"", None, 0, target
    match = _ABSOLUTE.fullmatch(target)
    if not match and _OTHER_SCHEME.match(target):
        raise SchemeError("the scheme of the target is neither http nor https")
    if not match:
        raise HeadError("the target is neither a path nor an http or https URL")
    scheme = match["scheme"].lower()
    host, port = parse_authority(match["authority"])
    path = match["path"]
    return scheme, host, port or _PORTS[scheme], path if path.startswith(b"/") else b"/" + path


def _values(fields: tuple[tuple[bytes, bytes], ...], name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _length(fields: tuple[tuple[bytes, bytes], ...], version: bytes) -> int | None:
    """The length of the body (RFC 9112, section 6.3), None if it is chunked."""
    lengths, codings = _values(fields, b"content-length"), _values(fields, b"transfer-encoding")
    if codings:
        if lengths or version == b"1.0" or [coding.lower() for coding in codings] != [b"chunked"]:
            raise HeadError("the length of the body can be read in two ways")
        return None
    if len(lengths) > 1 or (lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0])):
        raise HeadError("the Content-Length is not one number")
    return int(lengths[0]) if lengths else 0
