"""The host name in a TLS ClientHello (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3).

ClientHellos reach this module in two ways. mitmproxy parses those that it receives, and `server_name` is given their
extensions. The lane passes the bytes that it received to `extensions_of`. This module reads the name itself for both,
byte by byte, because libraries leave out names that they take for malformed, and nobody would judge a name that was
left out.

In QUIC and DTLS a ClientHello comes in pieces, in any order: `Pieces` puts them together for both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from stoplist.core.hosts import Host, HostError
from stoplist.errors import StoplistError

SERVER_NAME = 0
MAX_HELLO = 64 * 1024
"""Longest ClientHello that is read, in bytes, with the headers of its records."""
MAX_RECORDS = 2048
"""How many records it may come in. The parser reads the whole ClientHello again with each record that arrives; the
limit bounds that work."""

_HOST_NAME = 0
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_MAX_RECORD = 16 * 1024
_NUMBER = struct.Struct(">H")
_EXTENSION = struct.Struct(">HH")
RANDOM_END = 34
"""Offset at which the session id begins: after the version and the random bytes."""


class HelloError(StoplistError):
    """The bytes are no ClientHello, or not one that every reader takes in the same way."""


class Pieces:
    """Bytes of a handshake that come in pieces, in any order: up to `limit` of them."""

    def __init__(self, limit: int = MAX_HELLO) -> None:
        self._limit = limit
        self.data = bytearray()
        self._known = bytearray()
        """One byte for each byte of `data`: 1 where that byte has come in."""

    def add(self, offset: int, piece: bytes) -> None:
        """Add a piece. Raises HelloError if it ends behind the limit, or contradicts an earlier one."""
        end = offset + len(piece)
        if end > self._limit:
            raise HelloError("the ClientHello does not end")
        missing = max(0, end - len(self.data))
        self.data += bytes(missing)
        self._known += bytes(missing)
        for place, byte in enumerate(piece, offset):
            if self._known[place] and self.data[place] != byte:
                raise HelloError("the same place of the handshake was said in two ways")
            self.data[place], self._known[place] = byte, 1

    @property
    def whole(self) -> int:
        """How many bytes from the start on have come in."""
        first_gap = self._known.find(0)
        return len(self._known) if first_gap < 0 else first_gap


def extensions_of(data: bytes) -> list[tuple[int, bytes]] | None:
    """The extensions, (type, body), of the ClientHello at the start of `data`; None if it is not whole.

    `data` holds the bytes of a client, from its first TLS record on. Raises HelloError.
    """
    found = _hello(data)
    return extensions_of_body(found[0]) if found is not None else None


def extensions_of_body(hello: bytes) -> list[tuple[int, bytes]]:
    """The extensions, (type, body), of a ClientHello body without records, type and length. Raises HelloError.

    >>> start = b"\\x03\\x03" + bytes(32) + b"\\0" + b"\\0\\x02\\x13\\x01" + b"\\x01\\0"
    >>> extensions_of_body(start + b"\\0\\x04\\0\\x17\\0\\0")
    [(23, b'')]
    >>> extensions_of_body(start[:-2])
    Traceback (most recent call last):
    stoplist.core.wire.client_hello.HelloError: the ClientHello is cut off
    """
    try:
        ciphers = RANDOM_END + 1 + hello[RANDOM_END]
        length = _NUMBER.unpack_from(hello, ciphers)[0]
        if length % 2:
            raise HelloError("half a cipher suite, after which readers go on at different places")
        compressions = ciphers + 2 + length
        end = compressions + 1 + hello[compressions]
        if end == len(hello):
            return []
        start = end + 2
        if len(hello) != start + _NUMBER.unpack_from(hello, end)[0]:
            raise HelloError("the ClientHello is not as long as it says")
        found = []
        while start < len(hello):
            kind, length = _EXTENSION.unpack_from(hello, start)
            body = hello[start + 4 : start + 4 + length]
            if len(body) != length:
                raise HelloError("an extension is not as long as it says")
            found.append((kind, body))
            start += 4 + length
    except (IndexError, struct.error):
        raise HelloError("the ClientHello is cut off") from None
    return found


def server_name(extensions: Iterable[tuple[int, bytes]]) -> Host | None:
    """The host that the extensions of a ClientHello, (type, body), name; None if they name none.

    Raises HostError if the name cannot be read, or if there are more names than the one that the RFC allows.

    >>> server_name([(SERVER_NAME, b"\\0\\x0f\\0\\0\\x0cexample.test")]).name
    'example.test'
    >>> server_name([(SERVER_NAME, b"\\0\\x0d\\x07\\0\\x0anot a host")])
    Traceback (most recent call last):
    stoplist.core.hosts.HostError: the ClientHello names several hosts, or something that is no host
    """
    bodies = [body for kind, body in extensions if kind == SERVER_NAME]
    if not bodies:
        return None
    entries = _prefixed(bodies[0])
    if len(bodies) > 1 or entries[:1] != bytes([_HOST_NAME]):
        raise HostError("the ClientHello names several hosts, or something that is no host")
    return Host.parse(_prefixed(entries[1:]))


def length_of(data: bytes) -> int | None:
    """How many bytes the records of the ClientHello at the start of `data` take; None if it is not whole.

    Raises HelloError.
    """
    found = _hello(data)
    return found[1] if found is not None else None


def in_one_record(hello: bytes) -> bytes:
    """The records of one whole ClientHello, joined to one record. Raises HelloError if it does not fit.

    Borders of records are no part of a handshake (RFC 8446, sections 4.4.1 and 5.1), so client and server notice
    nothing. But some proxies before servers read the name of a ClientHello in several records at another place.

    >>> in_one_record(bytes.fromhex("16030100020100" + "160301000400020303")).hex()
    '1603010006010000020303'
    >>> in_one_record(b"\\x17\\x03\\x03\\0\\x01x")
    Traceback (most recent call last):
    stoplist.core.wire.client_hello.HelloError: a record that is not of a handshake
    """
    if hello[:1] == bytes([_HANDSHAKE]) and 5 + int.from_bytes(hello[3:5]) == len(hello):
        return hello
    found = _hello(hello)
    if found is None:
        raise HelloError("the ClientHello is cut off")
    body, end = found
    message = bytes([_CLIENT_HELLO]) + len(body).to_bytes(3) + body
    if end != len(hello) or len(message) > _MAX_RECORD:
        raise HelloError("the ClientHello does not fit in one record")
    return hello[:3] + len(message).to_bytes(2) + message


def _hello(data: bytes) -> tuple[bytes, int] | None:
    """The body of the ClientHello at the start of `data`, and the offset at which its records end; None if it is not
    whole.

    The function looks into a record only when the record is whole, as a server does. So the places at which `data`
    was cut change nothing.
    """
    hello, start = bytearray(), 0
    for _ in range(MAX_RECORDS):
        body = start + 5
        if len(data) < body:
            return None
        kind, major, minor = data[start : start + 3]
        length = int.from_bytes(data[start + 3 : body])
        if kind != _HANDSHAKE or major != 3 or minor > 3 or not 0 < length <= _MAX_RECORD:
            raise HelloError("a record that is not of a handshake")
        end = body + length
        if end > MAX_HELLO:
            break
        if len(data) < end:
            return None
        hello += data[body:end]
        if hello[0] != _CLIENT_HELLO:
            raise HelloError("a handshake that does not begin with a ClientHello")
        size = 4 + int.from_bytes(hello[1:4]) if len(hello) >= 4 else MAX_HELLO
        if len(hello) > size:
            raise HelloError("something follows the ClientHello in its record")
        if len(hello) == size:
            return bytes(hello[4:]), end
        start = end
    raise HelloError("the ClientHello does not end")


def _prefixed(data: bytes) -> bytes:
    """The bytes after a length field of two bytes; nothing may follow them."""
    if len(data) < 2 or len(data) != 2 + int.from_bytes(data[:2]):
        raise HostError("the names in the ClientHello are cut off, or followed by others")
    return data[2:]
