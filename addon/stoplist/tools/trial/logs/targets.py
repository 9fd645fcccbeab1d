"""Targets: the host in the text that a log gives as the target of a request."""

from __future__ import annotations

import re

from stoplist.core.hosts import Host, parse_authority

_URL = re.compile(r"(?!data:|blob:|about:)[A-Za-z][A-Za-z0-9+.-]*+://([^/?#\\]+)")


def host_of(written: bytes) -> Host:
    """The host of ``[user@]host[:port]``; an IPv6 address may come without brackets. Raises HostError.

    >>> host_of(b"user@www.example.test:443").name
    'www.example.test'
    >>> host_of(b"www.example.test:https")
    Traceback (most recent call last):
    stoplist.core.hosts.HostError: ...
    """
    authority = written.rpartition(b"@")[2]
    if authority.count(b":") > 1 and not authority.startswith(b"["):
        return Host.parse(authority)
    return parse_authority(authority)[0]


def authority_of(url: str) -> bytes:
    """The part of a URL that names its host; empty if there is none."""
    match = _URL.match(url)
    return match[1].encode(errors="replace") if match else b""
