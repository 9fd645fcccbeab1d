"""The connections of QUIC in a flow of datagrams (RFC 9000, RFC 9001): the gate judges the names in their ClientHellos.

A ClientHello is in Initial packets. Their keys come from the connection id that the client chose, so anybody who sees
the packet can decrypt it. A packet that no such key decrypts belongs to no connection of this flow.

Rules
  - One flow may hold several connections. One connection may have several ClientHellos: after a Retry, after a
    HelloRetryRequest, in another version.
  - A server knows a connection by its ids, not by its flow. So a packet passes only in the flow in which the gate
    judged the ClientHello of its connection: an Initial if a key of this flow opens it, any other packet if it goes to
    an id that the server chose in this flow. A packet of the server with a long header passes under the same rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]  # aioquic exports it by name only
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    pull_ack_frame,
    pull_quic_header,
)

from stoplist.core.decide import AMBIGUOUS, UNREADABLE
from stoplist.core.hosts import HostError
from stoplist.core.wire.client_hello import HelloError, Pieces, extensions_of_body
from stoplist.core.wire.conversations import Judged, RefusedError
from stoplist.core.wire.dtls_hello import is_whole_dtls
from stoplist.proxy.mitm.layers.quic_memory import QuicMemory
from stoplist.proxy.mitm.private_names import CryptoError

MAX_HELLO_DATAGRAMS = 16
"""How many datagrams a ClientHello may take; with keys of today's sizes it takes two."""
MAX_CONNECTIONS = 16
"""How many connections of one flow the gate remembers: the last ones. It drops Initials of earlier connections."""
MAX_FORGOTTEN = 4096
"""How many earlier connections a flow may have; one more ends the flow."""
MIN_DATAGRAM = 1200
"""A server takes no Initial in a smaller datagram (RFC 9000, section 14.1)."""
MIN_ID = 8
"""The shortest connection id that a client may choose for a server, in bytes (RFC 9000, section 7.2)."""

_LONG, _FIXED = 0x80, 0x40
_VERSIONS = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
_CLIENT_HELLO = 1


class Hellos:
    """The connections in the datagrams of one client to one server. `judged` gives the verdict for each ClientHello.

    In a flow of QUIC, `is_quic`, nothing passes but QUIC of a known version, and DTLS. A flow is of QUIC also once the
    server has answered in QUIC, in any flow that `memory` knows of.
    """

    def __init__(self, judged: Judged, memory: QuicMemory, server: tuple[str, int], *, is_quic: bool) -> None:
        self._judged = judged
        self._memory = memory
        self._server = memory.key_of(server)
        self._has_quic = is_quic
        self._begun: dict[bytes, _Begun] = {}
        """The known connections, by the connection id from which their keys come."""
        self._forgotten: set[bytes] = set()
        self._server_ids: set[bytes] = set()
        """The connection ids that the server chose for itself in this flow."""
        self._id_lengths: set[int] = set()
        self._flow = object()

    def take(self, datagram: bytes) -> list[bytes]:
        """Take a datagram; return the datagrams that may pass now, in the order they came in. Raises RefusedError."""
        if not datagram or not datagram[0] & _LONG:
            return [datagram] if self._may_be_short(datagram) else []
        waits = None
        may_go: list[bytes] = []
        for packet in _packets(datagram):
            if packet.kind is QuicPacketType.INITIAL:
                begun, payload = self._opened(packet)
                if begun is None or len(datagram) < MIN_DATAGRAM:
                    return may_go
                self._has_quic = True
                begun.read(payload, self._judged)
                if begun.is_settled:
                    may_go += begun.waiting
                    begun.waiting.clear()
                else:
                    waits = begun
            elif not self._is_known(packet):
                return may_go
        if waits is None:
            return [*may_go, datagram]
        waits.waiting.append(datagram)
        if len(waits.waiting) > MAX_HELLO_DATAGRAMS:
            raise RefusedError(AMBIGUOUS)
        return may_go

    def hear(self, datagram: bytes) -> list[bytes]:
        """Take a datagram of the server; return what the client may have of it: all, or nothing."""
        if not datagram or not datagram[0] & _LONG:
            return [datagram]
        return [datagram] if all(map(self._is_answer, _packets(datagram))) else []

    @property
    def _is_quic(self) -> bool:
        return self._has_quic or self._memory.speaks_quic(self._server)

    def _may_be_short(self, datagram: bytes) -> bool:
        """Whether a datagram that begins with no long header may pass (RFC 9000, section 17.3)."""
        if not datagram or not self._is_quic:
            return True
        if self._goes_to_the_server(datagram):
            self._memory.has_answered(self._server)
            return True
        return is_whole_dtls(datagram)

    def _goes_to_the_server(self, packet: bytes) -> bool:
        """Whether a packet with a short header has an id that the server chose in this flow."""
        return any(packet[1 : 1 + length] in self._server_ids for length in self._id_lengths)

    def _is_known(self, packet: _Packet) -> bool:
        """Whether a packet other than an Initial may pass: of no version that the gate reads, or of this flow."""
        match packet.kind:
            case None:
                return not self._is_quic
            case QuicPacketType.ONE_RTT:
                return self._goes_to_the_server(packet.data) or not any(packet.data)  # zeros fill up a datagram
            case QuicPacketType.ZERO_RTT if packet.destination in self._begun:
                return True
            case QuicPacketType.ZERO_RTT | QuicPacketType.HANDSHAKE:
                return packet.destination in self._server_ids
        return False

    def _is_answer(self, packet: _Packet) -> bool:
        """Whether a packet of the server belongs to a connection whose ClientHello passed in this flow."""
        judged = [begun for begun in self._begun.values() if begun.is_judged]
        match packet.kind:
            case None | QuicPacketType.ONE_RTT:
                return True
            case QuicPacketType.RETRY:
                return bool(judged)
            case QuicPacketType.HANDSHAKE:
                return packet.source in self._server_ids
            case QuicPacketType.INITIAL if any(begun.is_answered_by(packet) for begun in judged):
                self._server_ids.add(packet.source)
                self._id_lengths.add(len(packet.source))
                self._memory.has_answered(self._server)
                return True
        return False

    def _opened(self, packet: _Packet) -> tuple[_Begun | None, bytes]:
        """The connection to which an Initial belongs, and its decrypted payload; None if it belongs to none."""
        own = packet.destination
        if own in self._forgotten:
            return None, b""
        for key in (own, *(known for known in self._begun if known != own)):
            begun = self._begun.get(key) or _Begun(key)
            try:
                payload = begun.open(packet)
            except CryptoError:
                continue
            if len(key) < MIN_ID or not self._memory.claim(key, self._flow):
                break
            self._begun[key] = begun
            if len(self._begun) > MAX_CONNECTIONS:
                self._forget(next(iter(self._begun)))
            return begun, payload
        return None, b""

    def _forget(self, key: bytes) -> None:
        """Forget a connection; its later packets are dropped. Raises RefusedError if there were too many.

        Without the earlier bytes, the gate could judge a ClientHello that the server never saw.
        """
        del self._begun[key]
        self._forgotten.add(key)
        if len(self._forgotten) > MAX_FORGOTTEN:
            raise RefusedError(AMBIGUOUS)


class _Packet(NamedTuple):
    """A packet of a datagram. `kind` is None for a version that the gate does not read."""

    kind: QuicPacketType | None
    data: bytes
    version: int = 0
    destination: bytes = b""
    source: bytes = b""
    start: int = 0
    """The offset at which encryption begins."""


class _Begun:
    """The handshake bytes that a client has sent in the Initial packets of one connection."""

    def __init__(self, destination: bytes) -> None:
        self._destination = destination
        self._keys: dict[tuple[int, bool], CryptoPair] = {}
        self._pieces = Pieces()
        self._judged_to = 0
        self._server_id: bytes | None = None
        self.waiting: list[bytes] = []
        """Datagrams that wait for the rest of a ClientHello."""

    def _keys_of(self, version: int, *, of_client: bool) -> CryptoPair:
        keys = self._keys.get((version, of_client))
        if keys is None:
            keys = self._keys[version, of_client] = CryptoPair()
            keys.setup_initial(cid=self._destination, is_client=not of_client, version=version)
        return keys

    def open(self, packet: _Packet, *, of_client: bool = True) -> bytes:
        """Decrypt an Initial. Raises CryptoError."""
        return self._keys_of(packet.version, of_client=of_client).decrypt_packet(packet.data, packet.start, 0)[1]

    def is_answered_by(self, packet: _Packet) -> bool:
        """Whether an Initial of a server belongs to this connection. The server has one id (RFC 9000, section 7.2)."""
        if self._server_id not in (None, packet.source):
            return False
        try:
            self.open(packet, of_client=False)
        except CryptoError:
            return False
        self._server_id = packet.source
        return True

    @property
    def is_settled(self) -> bool:
        """Whether all bytes that came in were judged."""
        return len(self._pieces.data) == self._judged_to

    @property
    def is_judged(self) -> bool:
        """Whether a ClientHello has passed."""
        return self._judged_to > 0

    def read(self, payload: bytes, judged: Judged) -> None:
        """Add the handshake bytes of a packet, and judge each ClientHello that is whole. Raises RefusedError."""
        try:
            for offset, data in _handshake(payload):
                self._pieces.add(offset, data)
            self._judge(judged)
        except (HelloError, BufferReadError, ValueError):
            raise RefusedError(AMBIGUOUS) from None
        except HostError:
            raise RefusedError(UNREADABLE) from None

    def _judge(self, judged: Judged) -> None:
        whole = self._pieces.whole
        while whole - self._judged_to >= 4:
            message = self._pieces.data[self._judged_to : whole]
            length = 4 + int.from_bytes(message[1:4])
            if message[0] != _CLIENT_HELLO:
                raise HelloError("a handshake that does not begin with a ClientHello")
            if len(message) < length:
                return
            verdict = judged(extensions_of_body(bytes(message[4:length])))
            if not verdict.passes:
                raise RefusedError(verdict)
            self._judged_to += length


def _packets(datagram: bytes) -> Iterator[_Packet]:
    """The packets in a datagram that begins with a long header (RFC 9000, sections 12.2 and 17.2).

    What cannot be read, in a version that the gate reads, is an Initial without content, which no key opens.
    """
    rest = datagram
    while rest and rest[0] & _LONG:
        readable = bytes([rest[0] | _FIXED]) + rest[1:]  # both ends may have agreed on any value of this bit (RFC 9287)
        version = int.from_bytes(rest[1:5])
        if version not in _VERSIONS:
            yield _Packet(None, rest)
            return
        buffer = Buffer(data=readable)
        try:
            header = pull_quic_header(buffer)
        except (ValueError, BufferReadError):
            yield _Packet(QuicPacketType.INITIAL, b"", version)
            return
        data = rest[: header.packet_length]
        yield _Packet(header.packet_type, data, version, header.destination_cid, header.source_cid, buffer.tell())
        rest = rest[header.packet_length :]
    if rest:
        yield _Packet(QuicPacketType.ONE_RTT, rest)


def _handshake(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The pieces of the handshake in an Initial packet, each with its offset (RFC 9000, sections 12.4 and 19.6)."""
    buffer = Buffer(data=payload)
    while not buffer.eof():
        match buffer.pull_uint_var():
            case QuicFrameType.PADDING | QuicFrameType.PING:
                pass
            case QuicFrameType.ACK:
                pull_ack_frame(buffer)
            case QuicFrameType.ACK_ECN:
                pull_ack_frame(buffer)
                for _ in range(3):
                    buffer.pull_uint_var()
            case QuicFrameType.CRYPTO:
                offset, length = buffer.pull_uint_var(), buffer.pull_uint_var()
                yield offset, buffer.pull_bytes(length)
            case _:  # the connection is closed; no handshake follows
                return
