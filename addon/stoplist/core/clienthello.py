"""The name that a TLS ClientHello claims (RFC 6066, section 3).

What parses a ClientHello hands over its extensions; this module reads the one that names hosts, byte by
byte, because libraries leave out names that they take for malformed, and a name left out is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from stoplist.core.hosts import Host, HostError

SERVER_NAME = 0
_HOST_NAME = 0


def server_name(extensions: Iterable[tuple[int, bytes]]) -> Host | None:
    """The host that the extensions of a ClientHello, (type, body), name; None if they name none.

    Raises HostError for what cannot be read, and for more names than the one that the RFC allows.
    """
    bodies = [body for kind, body in extensions if kind == SERVER_NAME]
    if not bodies:
        return None
    entries = _prefixed(bodies[0])
    if len(bodies) > 1 or entries[:1] != bytes([_HOST_NAME]):
        raise HostError("the ClientHello names several hosts, or something that is no host")
    return Host.parse(_prefixed(entries[1:]))


def _prefixed(data: bytes) -> bytes:
    """What a length of two bytes stands before, and nothing follows."""
    if len(data) < 2 or len(data) != 2 + int.from_bytes(data[:2]):
        raise HostError("the names in the ClientHello are cut off, or followed by others")
    return data[2:]
