"""The ClientHellos of DTLS in a client's datagrams (RFC 6347, section 4; RFC 9147, section 5).

DTLS is TLS over datagrams. Its ClientHello has the same extensions, and stands in the clear. It may come in fragments
over several datagrams, and again after a HelloVerifyRequest, or for another connection from the same port.

Rules
  - Every ClientHello is judged before the server gets its last fragment. Fragments that contradict earlier ones end the
    flow: a server could put them together in another way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from stoplist.core.decide import AMBIGUOUS, UNREADABLE
from stoplist.core.hosts import HostError
from stoplist.core.wire.client_hello import MAX_HELLO, RANDOM_END, HelloError, Pieces, extensions_of_body
from stoplist.core.wire.conversations import Judged, RefusedError

MAX_HELLOS = 16
"""How many ClientHellos a flow may have."""
MAX_WAITING = 16
"""How many datagrams may wait for the rest of a ClientHello."""

_RECORD = struct.Struct("!B2sH6sH")
"""Type, version, epoch, sequence number, length."""
_FRAGMENT_SIZE = 12
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_MAJOR_VERSION = b"\xfe"
_VERSION_BEFORE_THE_STANDARD = b"\x01\x00"


def is_dtls(datagram: bytes) -> bool:
    """Whether a datagram begins with a record of a DTLS handshake.

    >>> is_dtls(bytes.fromhex("16 feff 0000 000000000000 0030"))
    True
    >>> is_dtls(b"\\x16\\x03\\x01")
    False
    """
    return datagram[:1] == bytes([_HANDSHAKE]) and _has_version(datagram)


class DtlsHellos:
    """Finds the ClientHellos in the datagrams of one client to one server. `judged` gives the verdict for each."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._messages: dict[int, _Message] = {}
        self._waiting: list[bytes] = []

    def take(self, datagram: bytes) -> list[bytes]:
        """Take a datagram; return the datagrams that may pass now, in the order they came in. Raises RefusedError."""
        if not _has_version(datagram):
            return [datagram]
        try:
            are_whole = [self._read(fragment) for fragment in _fragments(datagram)]
        except HelloError:
            raise RefusedError(AMBIGUOUS) from None
        except HostError:
            raise RefusedError(UNREADABLE) from None
        if not all(are_whole):
            self._waiting.append(datagram)
            if len(self._waiting) > MAX_WAITING:
                raise RefusedError(AMBIGUOUS)
            return []
        may_go, self._waiting = [*self._waiting, datagram], []
        return may_go

    def _read(self, fragment: bytes) -> bool:
        """Add a fragment to its message, and judge the message once it is whole. False if it is not whole yet."""
        if fragment[0] != _CLIENT_HELLO:
            return True
        number = int.from_bytes(fragment[4:6])
        message = self._messages.get(number)
        if message is None:
            message = self._messages[number] = _Message(int.from_bytes(fragment[1:4]))
            if len(self._messages) > MAX_HELLOS:
                raise HelloError("too many ClientHellos")
        message.add(int.from_bytes(fragment[1:4]), int.from_bytes(fragment[6:9]), fragment[_FRAGMENT_SIZE:])
        if not message.is_judged and (body := message.body) is not None:
            verdict = self._judged(extensions_of_body(_without_cookie(body)))
            if not verdict.passes:
                raise RefusedError(verdict)
            message.is_judged = True
        return message.is_judged


class _Message:
    """A handshake message that comes in fragments."""

    def __init__(self, length: int) -> None:
        if length > MAX_HELLO:
            raise HelloError("the ClientHello is too long")
        self._length = length
        self._pieces = Pieces(length)
        self.is_judged = False

    @property
    def body(self) -> bytes | None:
        """The message once it is whole."""
        return bytes(self._pieces.data) if self._pieces.whole == self._length else None

    def add(self, length: int, offset: int, data: bytes) -> None:
        if length != self._length:
            raise HelloError("a fragment that is not of this message")
        self._pieces.add(offset, data)


def _has_version(datagram: bytes) -> bool:
    return datagram[1:2] == _MAJOR_VERSION or datagram[1:3] == _VERSION_BEFORE_THE_STANDARD


def _fragments(datagram: bytes) -> Iterator[bytes]:
    """The fragments of handshake messages in the clear, each with its header of 12 bytes. Raises HelloError."""
    start = 0
    while len(datagram) >= start + _RECORD.size:
        kind, _, epoch, _, length = _RECORD.unpack_from(datagram, start)
        start += _RECORD.size
        record = datagram[start : start + length]
        start += length
        if len(record) < length:
            return  # a server drops it
        while kind == _HANDSHAKE and epoch == 0 and record:
            end = _FRAGMENT_SIZE + int.from_bytes(record[9:12])
            if len(record) < max(end, _FRAGMENT_SIZE):
                raise HelloError("a fragment that is cut off")
            yield record[:end]
            record = record[end:]


def _without_cookie(hello: bytes) -> bytes:
    """The body of a ClientHello as TLS has it, without the cookie that follows the session id. Raises HelloError."""
    try:
        cookie = RANDOM_END + 1 + hello[RANDOM_END]
        return hello[:cookie] + hello[cookie + 1 + hello[cookie] :]
    except IndexError:
        raise HelloError("the ClientHello is cut off") from None
