"""The ClientHellos of DTLS in a client's datagrams (RFC 6347, section 4; RFC 9147, section 5).

DTLS is TLS over datagrams. Its ClientHello has the same extensions, and stands in the clear. It may come in fragments
over several datagrams, and again after a HelloVerifyRequest, or for another connection from the same port.

Rules
  - Every ClientHello is judged before the server gets its last fragment. Fragments that contradict earlier ones end the
    flow: a server could put them together in another way.
  - A handshake record may stand only where every reader finds it: in a datagram that consists of whole records. A
    server may drop an invalid record (RFC 6347, section 4.1.2.7), but the RFC does not say how many bytes that takes:
    OpenSSL goes on after the 13 bytes of its header. So the gate looks for such a record at every offset, and drops the
    datagram where it is anywhere else.
  - A server that answers a ClientHello which the gate has not judged is not heard.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from stoplist.core.decide import AMBIGUOUS, PROTOCOL, UNREADABLE
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
_KINDS = [bytes([kind]) for kind in range(20, 27)]
"""The types of records (RFC 5246, section 6.2.1; RFC 6520, section 3; RFC 9146, section 3; RFC 9147, section 4.1)."""
_MAX_RECORD = 16 * 1024 + 2048
"""Longest body of a record, in bytes (RFC 6347, section 4.1)."""
_CLIENT_HELLO = 1
_ANSWERS = (b"\2", b"\3")
"""ServerHello, which a HelloRetryRequest is as well, and HelloVerifyRequest (RFC 6347, section 4.3.2)."""
_MAJOR_VERSION = b"\xfe"
_VERSION_BEFORE_THE_STANDARD = b"\x01\x00"
_PLAIN_HANDSHAKE = re.compile(rb"\x16(?:\xfe.|\x01\x00)\x00\x00", re.DOTALL)
"""How a record of a handshake in the clear begins: its type, any version that a server takes, and the epoch 0."""


def is_dtls(datagram: bytes) -> bool:
    """Whether a datagram begins with a record of a DTLS handshake.

    >>> is_dtls(bytes.fromhex("16 feff 0000 000000000000 0030"))
    True
    >>> is_dtls(b"\\x16\\x03\\x01")
    False
    """
    return datagram[:1] == bytes([_HANDSHAKE]) and _has_version(datagram)


def is_whole_dtls(datagram: bytes) -> bool:
    """Whether a datagram consists of whole records of DTLS up to version 1.2, and nothing else.

    >>> is_whole_dtls(bytes.fromhex("17 fefd 0001 000000000007 0002 abcd"))
    True
    >>> is_whole_dtls(bytes.fromhex("17 fefd 0001 000000000007 0002 ab"))
    False
    """
    return datagram[:1] in _KINDS and _ends_of(datagram)[-1:] == [len(datagram)]


class DtlsHellos:
    """Finds the ClientHellos in the datagrams of one client to one server. `judged` gives the verdict for each."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._messages: dict[int, _Message] = {}
        self._waiting: list[bytes] = []

    def take(self, datagram: bytes) -> list[bytes]:
        """Take a datagram; return the datagrams that may pass now, in the order they came in. Raises RefusedError."""
        handshakes = {found.start() for found in _PLAIN_HANDSHAKE.finditer(datagram)}
        if not handshakes:
            return [datagram]
        ends = _ends_of(datagram)
        if ends[-1:] != [len(datagram)] or not handshakes <= {0, *ends}:
            return []
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

    def hear(self, datagram: bytes) -> None:
        """Take a datagram of the server. Raises RefusedError if it answers a ClientHello that was not judged."""
        if any(message.is_judged for message in self._messages.values()):
            return
        for start in (0, *_ends_of(datagram)):
            message = start + _RECORD.size
            if _PLAIN_HANDSHAKE.match(datagram, start) and datagram[message : message + 1] in _ANSWERS:
                raise RefusedError(PROTOCOL)

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


def _ends_of(datagram: bytes) -> list[int]:
    """The offsets at which the records end that stand one after the other from the start of a datagram."""
    ends, start = [], 0
    while len(datagram) >= start + _RECORD.size and _has_version(datagram[start : start + 3]):
        length = _RECORD.unpack_from(datagram, start)[-1]
        start += _RECORD.size + length
        if length > _MAX_RECORD or start > len(datagram):
            break
        ends.append(start)
    return ends


def _fragments(datagram: bytes) -> Iterator[bytes]:
    """The fragments of handshake messages in the clear, each with its header of 12 bytes. Raises HelloError."""
    start = 0
    for end in _ends_of(datagram):
        kind, _, epoch, _, _ = _RECORD.unpack_from(datagram, start)
        record, start = datagram[start + _RECORD.size : end], end
        while kind == _HANDSHAKE and epoch == 0 and record:
            size = _FRAGMENT_SIZE + int.from_bytes(record[9:12])
            if len(record) < max(size, _FRAGMENT_SIZE):
                raise HelloError("a fragment that is cut off")
            yield record[:size]
            record = record[size:]


def _without_cookie(hello: bytes) -> bytes:
    """The body of a ClientHello as TLS has it, without the cookie that follows the session id. Raises HelloError."""
    try:
        cookie = RANDOM_END + 1 + hello[RANDOM_END]
        return hello[:cookie] + hello[cookie + 1 + hello[cookie] :]
    except IndexError:
        raise HelloError("the ClientHello is cut off") from None
