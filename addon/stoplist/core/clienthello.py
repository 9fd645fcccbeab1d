"""The names that a TLS ClientHello claims (RFC 6066, section 3).

What parses a ClientHello hands over its extensions; this module reads the one that names hosts, byte by
byte, because libraries leave out names that they take for malformed, and a name left out is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from stoplist.core.hosts import Host, HostError

SERVER_NAME = 0
_HOST_NAME = 0


def server_names(extensions: Iterable[tuple[int, bytes]]) -> tuple[Host, ...]:
    """Every host that the extensions of a ClientHello, (type, body), name. Raises HostError."""
    return tuple(name for kind, body in extensions if kind == SERVER_NAME for name in _names(body))


def _names(body: bytes) -> tuple[Host, ...]:
    names, rest = [], _prefixed(body, whole=True)[0]
    while rest:
        if rest[0] != _HOST_NAME:
            raise HostError("the ClientHello names something that is no host")
        name, rest = _prefixed(rest[1:])
        names.append(Host.parse(name))
    if not names:
        raise HostError("the ClientHello has a list of names without a name")
    return tuple(names)


def _prefixed(data: bytes, *, whole: bool = False) -> tuple[bytes, bytes]:
    """What a length of two bytes stands before, and what follows it."""
    length = int.from_bytes(data[:2])
    if len(data) < 2 + length or (whole and len(data) > 2 + length):
        raise HostError("the list of names in the ClientHello is cut off, or too long")
    return data[2 : 2 + length], data[2 + length :]
