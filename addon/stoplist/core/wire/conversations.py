"""Conversations: the bytes of a tunnel until it is clear that none of them is HTTP in the clear.

The code that relays a tunnel goes on looking at it here after its opening (see openings.py), until the server has
shown which protocol it speaks. From then on the client's bytes no longer matter: only a web server answers a
request.

  TlsConversation      up to the ServerHello: each ClientHello names a host (RFC 8446, section 4.1.4)
  OtherConversation    another protocol, up to the server's first words

Rules
  - Bytes come in as they are received, in any pieces. The bytes that may go on come out. No I/O.
  - A conversation keeps the bytes that are not yet known to be harmless, at most 64 KiB of them.
  - If a web server answers something that did not look like a request, the conversation does not hand the answer on,
    and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Protocol

from stoplist.core.decide import AMBIGUOUS, CLOSED, PROTOCOL, UNREADABLE, Verdict
from stoplist.core.hosts import HostError
from stoplist.core.wire.client_hello import HelloError, extensions_of, in_one_record, length_of
from stoplist.core.wire.openings import MAX_LINE, TLS_RECORDS, RequestSearch
from stoplist.errors import StoplistError

type Judged = Callable[[Iterable[tuple[int, bytes]]], Verdict]
"""The verdict for a ClientHello, by its extensions, (type, body). Raises HostError."""

MAX_HELLOS = 8
"""How many ClientHellos a client may send in one connection; RFC 8446 knows two."""
MAX_SPACE = 1024
"""How much white space a web server may send before its answer, in bytes."""
_ALERT, _HANDSHAKE, _APPLICATION_DATA = 21, 22, 23
_MAX_RECORD = 16 * 1024 + 256
"""Longest body of a record, in bytes (RFC 8446, section 5.2)."""
_SERVER_HELLO = 2
_RANDOM = slice(6, 38)
"""Where the random bytes of a ServerHello stand in its message: after its type, its length and its version."""
_RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
"""The random bytes of a HelloRetryRequest (RFC 8446, section 4.1.3)."""
_PAGES = (b"HTTP/", b"<!DOCTYPE HTML", b"<HTML")
_SETTINGS_LENGTH = 6
"""Length of a setting of HTTP/2, in bytes (RFC 9113, section 6.5)."""


class RefusedError(StoplistError):
    """The conversation must end here; `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason.value)
        self.verdict = verdict


class Conversation(Protocol):
    is_over: bool
    """Whether the relay no longer has to look at anything."""

    @property
    def held_back(self) -> bytes:
        """The server's bytes that may be the start of a web server's answer; without further bytes, they are none."""

    def from_client(self, data: bytes) -> bytes:
        """Take the client's next bytes; return the bytes that may go to the server. Raises RefusedError."""

    def client_ended(self) -> None:
        """Note that the client has ended; some servers take that for the end of a line. Raises RefusedError."""

    def from_server(self, data: bytes) -> bytes:
        """Take the server's next bytes; return the bytes that may go to the client. Raises RefusedError."""


class Words(StrEnum):
    """The protocol that the first words of a server show."""

    INCOMPLETE = "not enough bytes to tell"
    SETTINGS = "HTTP/2, which servers begin by themselves"
    WEB = "the answer of a web server, or TLS"
    OTHER = "another protocol"


def words_of(data: bytes) -> Words:
    """The protocol of a server that sends `data` first.

    >>> words_of(b"SSH-2.0-OpenSSH_9.9\\r\\n")
    <Words.OTHER: 'another protocol'>
    >>> words_of(b"HTTP/1.1 400 Bad Request\\r\\n")
    <Words.WEB: 'the answer of a web server, or TLS'>
    """
    if not data:
        return Words.INCOMPLETE
    if data[0] in (_ALERT, _HANDSHAKE):
        return _record_of(data)
    if not data[0]:
        return _frame_of(data)
    text = data[:MAX_LINE].lstrip(b" \t\r\n").upper()
    if not text:
        return Words.INCOMPLETE if len(data) < MAX_SPACE else Words.OTHER
    if text.startswith(_PAGES):
        return Words.WEB
    return Words.INCOMPLETE if any(page.startswith(text) for page in _PAGES) else Words.OTHER


def _record_of(data: bytes) -> Words:
    """Whether a server begins with a TLS alert, or with a handshake record that begins with a ServerHello."""
    if len(data) > 1 and (data[1] != 3 or (len(data) > 2 and data[2] > 4)):
        return Words.OTHER
    if len(data) < 6:
        return Words.INCOMPLETE
    is_one = data[5] == _SERVER_HELLO if data[0] == _HANDSHAKE else data[3:5] == b"\0\x02"
    return Words.WEB if is_one else Words.OTHER


def _frame_of(data: bytes) -> Words:
    """Whether a server begins with a SETTINGS frame of HTTP/2 (RFC 9113, sections 3.4 and 4.1).

    A server sends the frame at once. If fewer bytes came, nothing more may come until the client has answered.
    """
    is_one = data[3:9] == b"\x04\0\0\0\0\0" and int.from_bytes(data[:3]) % _SETTINGS_LENGTH == 0
    return Words.SETTINGS if is_one else Words.OTHER


class OtherConversation:
    """A protocol that is neither TLS nor HTTP. The client's first piece is its opening.

    If the opening may be a request of HTTP/0.9, the conversation looks at everything to the end, because such a
    request has an answer without a form of its own.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._search = RequestSearch()
        self._answer = b""

    @property
    def held_back(self) -> bytes:
        return self._answer

    def from_client(self, data: bytes) -> bytes:
        if not self.is_over and self._search.finds(data):
            raise RefusedError(PROTOCOL)
        return data

    def client_ended(self) -> None:
        self.from_client(b"\n")

    def from_server(self, data: bytes) -> bytes:
        if self.is_over:
            return data
        self._answer += data
        match words_of(self._answer):
            case Words.INCOMPLETE:
                return b""
            case Words.OTHER:
                answer, self._answer = self._answer, b""
                if not self._search.has_simple_request:
                    self.is_over = True
                    self._search = RequestSearch()
                return answer
        raise RefusedError(PROTOCOL)


class TlsConversation:
    """A TLS tunnel after its first ClientHello was judged. The client's first piece begins with that ClientHello.

    Its answer is not handed on unless it is TLS: some servers find a request within a ClientHello.
    """

    def __init__(self, judged: Judged, *, may_be_other: bool = True) -> None:
        """`may_be_other` says whether a server may begin with other bytes of TLS than a ServerHello or an alert."""
        self.is_over = False
        self._may_be_other = may_be_other
        self._judged = judged
        self._hellos = 0
        """How many whole ClientHellos the client has sent."""
        self._records = b""
        """The client's last record, as long as it is not whole."""
        self._answer = b""
        self._message = b""
        """The handshake bytes of the server so far, since its last HelloRetryRequest."""
        self._has_answered = False

    @property
    def held_back(self) -> bytes:
        return b"" if self._has_answered else self._answer

    def from_client(self, data: bytes) -> bytes:
        if self.is_over:
            data, self._records = self._records + data, b""
            return data
        self._records += data
        may_go, end = b"", 0
        while (length := self._record(end)) is not None:
            unit, end = self._records[end : end + length], end + length
            may_go += self._one_record(unit) if unit[0] == _HANDSHAKE else unit
        self._records = self._records[end:]
        return may_go

    @staticmethod
    def _one_record(hello: bytes) -> bytes:
        try:
            return in_one_record(hello)
        except HelloError:
            raise RefusedError(AMBIGUOUS) from None

    def client_ended(self) -> None:
        """Do nothing: the server never received a record that is not whole."""

    def _record(self, start: int) -> int | None:
        """Length of the client's next unit, a record or a ClientHello of several records; None if it is not whole."""
        said = self._records
        if len(said) - start < 5:
            return None
        if said[start] not in TLS_RECORDS or said[start + 1] != 3:
            raise RefusedError(AMBIGUOUS)
        if said[start] == _HANDSHAKE:
            return self._hello(said[start:])
        length = 5 + int.from_bytes(said[start + 3 : start + 5])
        if not 5 < length <= 5 + _MAX_RECORD or not self._hellos:
            raise RefusedError(AMBIGUOUS)
        return length if len(said) - start >= length else None

    def _hello(self, data: bytes) -> int | None:
        try:
            length = length_of(data)
            if length is not None and self._hellos >= MAX_HELLOS:
                raise RefusedError(AMBIGUOUS)
            if length is not None and self._hellos:
                verdict = self._judged(extensions_of(data) or ())
                if not verdict.passes:
                    raise RefusedError(verdict)
        except HelloError:
            raise RefusedError(AMBIGUOUS) from None
        except HostError:
            raise RefusedError(UNREADABLE) from None
        self._hellos += length is not None
        return length

    def from_server(self, data: bytes) -> bytes:
        if self.is_over:
            return data
        self._answer += data
        if not self._has_answered:
            words, data = words_of(self._answer), self._answer
            if words is Words.INCOMPLETE:
                return b""
            if data[0] not in (_ALERT, _HANDSHAKE) or data[1] != 3:
                raise RefusedError(PROTOCOL)
            self._has_answered = True
            if words is Words.OTHER:
                if not self._may_be_other:
                    raise RefusedError(CLOSED)
                self._end()
        if not self.is_over:
            self._read_records()
        return data

    def _read_records(self) -> None:
        """Look for a ServerHello: after it, no ClientHello can come in the clear."""
        while len(self._answer) >= 5 and not self.is_over:
            length = 5 + int.from_bytes(self._answer[3:5])
            if self._answer[0] == _HANDSHAKE:
                message = self._message + self._answer[5:length]
                if len(message) >= _RANDOM.stop:
                    if message[0] != _SERVER_HELLO or message[_RANDOM] != _RETRY:
                        self._end()
                        return
                    message = b"" if len(message) >= 4 + int.from_bytes(message[1:4]) else message
                if len(self._answer) >= length:
                    self._message = message
            elif self._answer[0] not in TLS_RECORDS or self._answer[0] == _APPLICATION_DATA:
                raise RefusedError(AMBIGUOUS)
            if len(self._answer) < length:
                return
            self._answer = self._answer[length:]

    def _end(self) -> None:
        self.is_over = True
        self._answer = self._message = b""
