"""The name that a TLS ClientHello claims (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3).

Two doors read ClientHellos. What comes to mitmproxy is parsed there, and `server_name` is handed its
extensions; the lane hands what it received to `extensions_of`. The name itself is read here for both, byte
by byte, because libraries leave out names that they take for malformed, and a name left out is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from stoplist.core.hosts import Host, HostError
from stoplist.errors import StoplistError

SERVER_NAME = 0
MAX_HELLO = 64 * 1024
"""Longest ClientHello that is read, in bytes, with the headers of its records."""

_HOST_NAME = 0
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_MAX_RECORD = 16 * 1024
_RANDOM_END = 34
"""Where the session id begins: after the version and the random bytes."""


class HelloError(StoplistError):
    """What is no ClientHello, or not one that every reader takes in the same way."""


def extensions_of(data: bytes) -> list[tuple[int, bytes]] | None:
    """The extensions, (type, body), of the ClientHello at the start of `data`; None if it is not whole.

    `data` are the bytes of a client, from its first TLS record on. Raises HelloError.
    """
    hello = _hello(data)
    if hello is None:
        return None
    ciphers = _RANDOM_END + 1 + _number(hello, _RANDOM_END, 1)
    compressions = ciphers + 2 + _number(hello, ciphers, 2)
    end = compressions + 1 + _number(hello, compressions, 1)
    if end == len(hello):
        return []
    start = end + 2
    if len(hello) != start + _number(hello, end, 2):
        raise HelloError("the ClientHello is not as long as it says")
    found = []
    while start < len(hello):
        length = _number(hello, start + 2, 2)
        body = hello[start + 4 : start + 4 + length]
        if len(body) != length:
            raise HelloError("an extension is not as long as it says")
        found.append((_number(hello, start, 2), body))
        start += 4 + length
    return found


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


def _hello(data: bytes) -> bytes | None:
    """The body of the ClientHello whose records `data` begins with; None if it is not whole."""
    handshake, start = b"", 0
    while len(data) >= start + 5:
        length = int.from_bytes(data[start + 3 : start + 5])
        if data[start] != _HANDSHAKE or data[start + 1] != 3 or not 0 < length <= _MAX_RECORD:
            raise HelloError("a record that is not of a handshake")
        handshake += data[start + 5 : start + 5 + length]
        if handshake[0:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise HelloError("a handshake that does not begin with a ClientHello")
        size = 4 + int.from_bytes(handshake[1:4]) if len(handshake) >= 4 else MAX_HELLO
        if len(handshake) > size:
            raise HelloError("something follows the ClientHello in its record")
        if len(handshake) == size:
            return handshake[4:]
        start += 5 + length
    if len(data) > MAX_HELLO:
        raise HelloError("the ClientHello does not end")
    return None


def _number(data: bytes, start: int, size: int) -> int:
    """The number of `size` bytes that stands at `start`."""
    if start + size > len(data):
        raise HelloError("the ClientHello is cut off")
    return int.from_bytes(data[start : start + size])


def _prefixed(data: bytes) -> bytes:
    """What a length of two bytes stands before, and nothing follows."""
    if len(data) < 2 or len(data) != 2 + int.from_bytes(data[:2]):
        raise HostError("the names in the ClientHello are cut off, or followed by others")
    return data[2:]
