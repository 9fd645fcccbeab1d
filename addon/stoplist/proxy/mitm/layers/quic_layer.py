"""QUIC, in modes where whole packets come in: the gate judges the names in its ClientHellos (RFC 9000, RFC 9001).

  Quic          a flow that begins with QUIC: after its first ClientHello the gate relays the flow, or ends it here
  Datagrams     relays a flow of QUIC or of another protocol; the judge sees each ClientHello in it
  Hellos        finds the ClientHellos in datagrams

Rules
  - One flow may hold several connections, one after the other. One connection may have several ClientHellos: after a
    Retry, after a HelloRetryRequest, in another version.
  - A ClientHello is in Initial packets. Their keys come from the connection id that the sender chose, so anybody who
    sees the packet can decrypt it. A packet that no such key decrypts belongs to no connection that a server knows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]  # aioquic exports it by name only
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_version_negotiation,
    pull_ack_frame,
    pull_quic_header,
)
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers import ClientQuicLayer, ServerQuicLayer, UDPLayer
from mitmproxy.proxy.layers.quic import quic_parse_client_hello_from_datagrams
from mitmproxy.proxy.layers.tls import TlsClienthelloHook
from mitmproxy.tls import ClientHelloData

from stoplist.core.decide import AMBIGUOUS, UNREADABLE, Verdict
from stoplist.core.hosts import HostError
from stoplist.core.wire.client_hello import HelloError, Pieces, extensions_of_body
from stoplist.core.wire.conversations import Judged, RefusedError
from stoplist.core.wire.dtls_hello import DtlsHellos
from stoplist.proxy.judge import Judge
from stoplist.proxy.mitm.private_names import SUPPORTED_QUIC_VERSIONS_SERVER, CryptoError

type JudgeHello = Callable[[Context, Iterable[tuple[int, bytes]]], Verdict]
"""Gives the verdict for a ClientHello that follows another one, from its extensions. Raises HostError."""

MAX_HELLO_DATAGRAMS = 16
"""How many datagrams a ClientHello may take; with keys of today's sizes it takes two."""


_LONG, _FIXED = 0x80, 0x40
_VERSIONS = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
_CLIENT_HELLO = 1
MAX_CONNECTIONS = 16
"""How many connections of one flow the gate remembers: the last ones. It drops Initials of earlier connections."""
MAX_FORGOTTEN = 4096
"""How many earlier connections a flow may have; one more ends the flow."""
MIN_DATAGRAM = 1200
"""A server takes no Initial in a smaller datagram (RFC 9000, section 14.1)."""


class Quic(Layer):
    """QUIC from a client. It keeps datagrams until they hold a whole ClientHello, which the hook judges.

    mitmproxy's own layer asks the hook as well. But once it has a connection, it cannot relay that undecrypted.
    """

    def __init__(self, context: Context, judge: Judge, judge_hello: JudgeHello) -> None:
        super().__init__(context)
        self._datagrams: list[bytes] = []
        self._carried = functools.partial(Datagrams, context, judge, judge_hello, is_quic=True)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(self.context.client)
        if not isinstance(event, events.DataReceived):
            return
        try:
            header = pull_quic_header(Buffer(data=event.data))
            if header.version is not None and header.version not in SUPPORTED_QUIC_VERSIONS_SERVER:
                yield commands.SendData(
                    self.context.client,
                    encode_quic_version_negotiation(
                        source_cid=header.destination_cid,
                        destination_cid=header.source_cid,
                        supported_versions=SUPPORTED_QUIC_VERSIONS_SERVER,
                    ),
                )
                return
            self._datagrams.append(event.data)
            hello = quic_parse_client_hello_from_datagrams(self._datagrams)
        except (ValueError, TypeError, AssertionError):  # aioquic raises these for data that is not QUIC
            yield from self._refuse()
            return
        if hello is not None:
            data = ClientHelloData(self.context, hello)
            yield TlsClienthelloHook(data)
            yield from self._hand_over(self._carried() if data.ignore_connection else self._ended())
        elif len(self._datagrams) >= MAX_HELLO_DATAGRAMS:
            yield from self._refuse()

    def _ended(self) -> Layer:
        """The layers that end QUIC here, to serve a page."""
        server = ServerQuicLayer(self.context)
        server.child_layer = ClientQuicLayer(self.context)
        return server

    def _hand_over(self, child: Layer) -> CommandGenerator[None]:
        self._handle_event = child.handle_event  # type: ignore[method-assign]
        yield from child.handle_event(events.Start())
        for datagram in self._datagrams:
            yield from child.handle_event(events.DataReceived(self.context.client, datagram))
        self._datagrams.clear()

    def _refuse(self) -> CommandGenerator[None]:
        self._datagrams.clear()
        self._handle_event = self._ignore  # type: ignore[method-assign]
        yield commands.CloseConnection(self.context.client)

    def _ignore(self, event: events.Event) -> CommandGenerator[None]:  # noqa: ARG002  as mitmproxy calls it
        yield from ()


class Datagrams(UDPLayer):
    """Relays datagrams. In a flow of QUIC it drops packets of versions that the gate cannot read.

    DTLS is read in any flow: its records never look like the packets of QUIC that hold a ClientHello.
    """

    def __init__(self, context: Context, judge: Judge, judge_hello: JudgeHello, *, is_quic: bool) -> None:
        super().__init__(context, ignore=True)
        self._judge = judge
        judged = functools.partial(judge_hello, context)
        self._hellos = Hellos(judged, is_quic=is_quic)
        self._dtls_hellos = DtlsHellos(judged)

    def relay_messages(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and event.connection == self.context.client:
            try:
                may_go = [each for given in self._dtls_hellos.take(event.data) for each in self._hellos.take(given)]
            except RefusedError as error:
                self._judge.count(error.verdict)
                self._handle_event = self.done
                yield commands.CloseConnection(self.context.server)
                yield commands.CloseConnection(self.context.client)
                return
            for datagram in may_go:
                yield from super().relay_messages(events.DataReceived(event.connection, datagram))
        else:
            yield from super().relay_messages(event)


class Hellos:
    """Finds the ClientHellos in the datagrams of one client to one server. `judged` gives the verdict for each."""

    def __init__(self, judged: Judged, *, is_quic: bool) -> None:
        self._judged = judged
        self._is_quic = is_quic
        self._begun: dict[tuple[int, bytes], _Begun] = {}
        """The known connections, by their version and the connection id from which their keys come."""
        self._forgotten: set[tuple[int, bytes]] = set()

    def take(self, datagram: bytes) -> list[bytes]:
        """Take a datagram; return the datagrams that may pass now, in the order they came in. Raises RefusedError."""
        if not datagram or not datagram[0] & _LONG:
            return [datagram]
        waits = None
        may_go: list[bytes] = []
        for version, destination, packet, start in _long_packets(datagram):
            if version not in _VERSIONS:
                if self._is_quic:
                    return []
                continue
            if (version, destination) in self._forgotten:
                return []
            begun, payload = self._opened(version, destination, packet, start)
            if begun is not None and len(datagram) < MIN_DATAGRAM:
                return []
            if begun is None:
                if self._is_quic:
                    return []
                continue
            self._is_quic = True
            begun.read(payload, self._judged)
            if begun.is_settled:
                may_go += begun.waiting
                begun.waiting.clear()
            else:
                waits = begun
        if waits is None:
            return [*may_go, datagram]
        waits.waiting.append(datagram)
        if len(waits.waiting) > MAX_HELLO_DATAGRAMS:
            raise RefusedError(AMBIGUOUS)
        return may_go

    def _opened(self, version: int, destination: bytes, packet: bytes, start: int) -> tuple[_Begun | None, bytes]:
        """The connection to which a packet belongs, and its decrypted payload; None if it belongs to none."""
        own = version, destination
        for key in (own, *(known for known in self._begun if known != own)):
            begun = self._begun.get(key) or _Begun(*key)
            try:
                payload = begun.open(packet, start)
            except CryptoError:
                continue
            self._begun[key] = begun
            if len(self._begun) > MAX_CONNECTIONS:
                self._forget(next(iter(self._begun)))
            return begun, payload
        return None, b""

    def _forget(self, key: tuple[int, bytes]) -> None:
        """Forget a connection; its later packets are dropped. Raises RefusedError if there were too many.

        Without the earlier bytes, the gate could judge a ClientHello that the server never saw.
        """
        del self._begun[key]
        self._forgotten.add(key)
        if len(self._forgotten) > MAX_FORGOTTEN:
            raise RefusedError(AMBIGUOUS)


class _Begun:
    """The handshake bytes that a client has sent in the Initial packets of one connection."""

    def __init__(self, version: int, destination: bytes) -> None:
        self._keys = CryptoPair()
        self._keys.setup_initial(cid=destination, is_client=False, version=version)
        self._pieces = Pieces()
        self._judged_to = 0
        self.waiting: list[bytes] = []
        """Datagrams that wait for the rest of a ClientHello."""

    def open(self, packet: bytes, start: int) -> bytes:
        """Decrypt a packet that is encrypted from `start` on. Raises CryptoError."""
        return self._keys.decrypt_packet(packet, start, 0)[1]

    @property
    def is_settled(self) -> bool:
        """Whether all bytes that came in were judged."""
        return len(self._pieces.data) == self._judged_to

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


def _long_packets(datagram: bytes) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Each Initial packet in a datagram, and each packet of an unknown version (RFC 9000, sections 12.2 and 17.2).

    For each it gives the version, the destination connection id, the packet, and the offset at which encryption begins.
    """
    rest = datagram
    while rest and rest[0] & _LONG:
        readable = bytes([rest[0] | _FIXED]) + rest[1:]  # both ends may have agreed on any value of this bit (RFC 9287)
        version = int.from_bytes(rest[1:5])
        if version not in _VERSIONS:
            yield version, b"", rest, 0
            return
        buffer = Buffer(data=readable)
        try:
            header = pull_quic_header(buffer)
        except (ValueError, BufferReadError):
            return
        if header.packet_type is QuicPacketType.INITIAL:
            yield version, header.destination_cid, rest[: header.packet_length], buffer.tell()
        rest = rest[header.packet_length :]


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
