"""Host: a canonical host name or IP address, parsed as browsers parse it.

Browsers read hosts by the WHATWG URL Standard (https://url.spec.whatwg.org/#host-parsing): percent-decoding, UTS 46
(non-transitional), and IPv4 in any base and any number of parts. A client can get past a gate that reads them in
another way. ada, the URL parser of Node.js, does the parsing; this module never resolves a name.

Rules
  - The parser drops one trailing dot: ``a.example.`` and ``a.example`` are one host.
  - A text that cannot be read is a HostError, never a guess. A port, userinfo or path is not a host.
  - Parsing is idempotent: ``Host.parse(host.name) == host``.
  - Neither ``repr``, ``str`` nor an error message shows the host: nobody is recorded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import ada_url

from stoplist.errors import StoplistError

CHECK_HOST = "check.stoplist.invalid"
"""The host that a list stops for self-tests, unless its publisher names another."""
MAX_LENGTH = 4096
"""Longest text that may be a host, in characters. DNS allows 253; percent-encoding and Unicode forms take up to 12
characters for one."""

# Names that the host parser would return unchanged: lower-case labels without punycode, where the last one cannot be
# the last part of an IPv4 address (URL Standard, "ends in a number").
_CANONICAL = re.compile(r"(?:(?!xn--)[a-z0-9_-]+\.)*(?!xn--)[a-z_][a-z0-9_-]*")
# The URL Standard lets more pass. No site has such a name, and some servers end a name there: HAProxy at a comma.
_NAME_OF_A_SITE = re.compile(r"[a-z0-9._-]+")
# Characters that end a host in a URL, or that a URL parser drops silently.
_NOT_IN_A_HOST = re.compile(r"[/?#@\\\t\n\r]")
# A URL whose host needs no parser: only a port, a path, a query or a fragment can follow it.
_PLAIN_URL = re.compile(r"https?://([a-z0-9._-]+)(?::[0-9]{1,5})?(?:[/?#].*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")


class HostError(StoplistError):
    """The text is no host. The gate refuses the request that named it."""


@dataclass(frozen=True, slots=True, repr=False)
class Host:
    """A canonical host.

    `name` is ASCII: a lower-case domain name without trailing dot, an IPv4 address in four decimal
    parts, or an IPv6 address in brackets. `is_address` is true for the last two.
    """

    name: str
    is_address: bool = False

    @classmethod
    def parse(cls, text: str | bytes) -> Host:
        """Parse a host as it stands in a URL, a header or a ClientHello; bytes are UTF-8.

        An IPv6 address may come without brackets. Raises HostError.

        >>> Host.parse("WWW.Example.TEST.").name
        'www.example.test'
        >>> Host.parse("example.test:80")
        Traceback (most recent call last):
        stoplist.core.hosts.HostError: the host has a port
        """
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError:
                raise HostError("the host is not UTF-8") from None
        if len(text) > MAX_LENGTH:
            raise HostError(f"the host is longer than {MAX_LENGTH} characters")
        if _CANONICAL.fullmatch(text):
            return cls(text)
        if _NOT_IN_A_HOST.search(text):
            raise HostError("the host holds a character that no host may hold")
        if ":" in text and not text.startswith("["):
            if text.count(":") == 1:
                raise HostError("the host has a port")
            text = f"[{text}]"
        if text.startswith("[") and not text.endswith("]"):
            raise HostError("the host has a port")
        try:
            url = ada_url.URL(f"https://{text}/")
        except ValueError:
            raise HostError("the host cannot be read by the URL Standard") from None
        name = url.hostname.removesuffix(".")
        if not name or name.endswith(".") or len(name) > MAX_LENGTH:
            raise HostError("the host cannot be read by the URL Standard")
        return cls(name, url.host_type != ada_url.HostType.DEFAULT)

    @property
    def address(self) -> str:
        """The address in the form for a resolver or a socket: the name, or an IPv6 address without its brackets."""
        return self.name.strip("[]")

    def __repr__(self) -> str:
        return "Host(...)"


def name_in_url(text: str) -> str:
    """The host as it stands in an absolute URL, for `Host.parse`; the text itself if it is no URL."""
    if plain := _PLAIN_URL.fullmatch(text):
        return plain[1]
    if "://" not in text:
        return text
    try:
        return ada_url.URL(text).hostname or text
    except ValueError:
        return text


def parse_authority(text: str | bytes) -> tuple[Host, int | None]:
    """Parse ``host[:port]`` as in a CONNECT target or a Host header (RFC 9110, section 7.2).

    Returns the host and the port, None if there is no port. Refuses userinfo, and a character that no name of a site
    has. Raises HostError.

    >>> host, port = parse_authority(b"[2001:DB8::1]:443")
    >>> host.name, port
    ('[2001:db8::1]', 443)
    >>> parse_authority("user@example.test:80")
    Traceback (most recent call last):
    stoplist.core.hosts.HostError: the host holds a character that no host may hold
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            raise HostError("the authority is not UTF-8") from None
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise HostError("the authority is not 'host' or 'host:port'")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise HostError("the port is not between 1 and 65535")
    host = Host.parse(match["host"])
    if not host.is_address and not _NAME_OF_A_SITE.fullmatch(host.name):
        raise HostError("the host holds a character that no name of a site has")
    return host, port
