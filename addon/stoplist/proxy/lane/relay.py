"""Relay: relays bytes between two sockets. It inspects them only until a conversation is over.

The relay reads and writes the sockets directly, not through asyncio's transports. It receives the bytes of one side
into one buffer that all relays share, and sends them from there. So an idle relay holds no buffer, and a busy one
copies only the bytes that the other side does not take at once.

Rules
  - Back-pressure: while one side has not taken all bytes sent to it, the relay does not read the other side.
  - Half-close: when one side stops sending, the relay tells the other side, which may go on sending.
  - An error closes both sides at once.
  - A relay that ends clears its bytes from the buffer: it may take long until another relay overwrites them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from stoplist.core.wire.conversations import Conversation
from stoplist.proxy.counting.shared_counters import Number, SharedCounters
from stoplist.proxy.lane.epoll import Poll

CHUNK = 128 * 1024
"""How many bytes the relay receives at once; also the most that it keeps for a slow side."""

_BUFFER = bytearray(CHUNK)
_VIEW = memoryview(_BUFFER)


class Relay:
    """Both directions between `client` and `server`: non-blocking, connected sockets that the relay owns.

    `first` are bytes of the client that were received already. The `conversation` decides which bytes pass until it is
    over; where it is None, all bytes pass. `clock` tells the time in seconds. The relay counts bytes in `counters`. It
    calls `on_end` once, when both sockets are closed, with the error that ended it, or None.
    """

    __slots__ = ("_client", "_on_end", "_poll", "_server", "clock", "conversation", "numbers", "seen", "used", "ways")

    def __init__(
        self,
        poll: Poll,
        clock: Callable[[], float],
        counters: SharedCounters,
        client: socket.socket,
        server: socket.socket,
        first: bytes,
        on_end: Callable[[BaseException | None], None],
        conversation: Conversation | None = None,
    ) -> None:
        self._poll = poll
        self._on_end: Callable[[BaseException | None], None] | None = on_end
        self._client, self._server = client, server
        self.clock = clock
        self.seen = clock()
        """When the relay last received or sent bytes."""
        self.used = 0
        """How many bytes of the buffer this relay has written to."""
        self.ways = 2
        """How many directions have not ended."""
        self.numbers = counters.numbers
        self.conversation = conversation
        from_server = conversation.from_server if conversation is not None else None
        from_client = conversation.from_client if conversation is not None else None
        poll.add_reader(server, _Way(self, poll, server, client, Number.TO_CLIENTS, from_server).read)
        _Way(self, poll, client, server, Number.FROM_CLIENTS, from_client).send(first)

    def end(self, error: BaseException | None = None) -> None:
        """Close both sides; bytes that were not sent yet are lost."""
        if self._on_end is None:
            return
        _VIEW[: self.used] = bytes(self.used)
        self._poll.close(self._client)
        self._poll.close(self._server)
        on_end, self._on_end = self._on_end, None
        on_end(error)


class _Way:
    """One direction: it sends the bytes of `source` to `sink`, through `look` until the conversation is over."""

    __slots__ = ("_look", "_number", "_poll", "_relay", "_rest", "_sink", "_source")

    def __init__(
        self,
        relay: Relay,
        poll: Poll,
        source: socket.socket,
        sink: socket.socket,
        number: Number,
        look: Callable[[bytes], bytes] | None,
    ) -> None:
        self._look = look
        self._relay = relay
        self._poll = poll
        self._source = source
        self._sink = sink
        self._number = int(number)
        self._rest: bytes | memoryview = b""

    def read(self) -> None:
        """Relay the bytes that the source has sent."""
        try:
            count = self._source.recv_into(_BUFFER)
            if count:
                self._relay.seen = self._relay.clock()
                if count > self._relay.used:
                    self._relay.used = count
                if self._look is None:
                    self._carry(_VIEW[:count])
                elif may_go := self._looked_at(bytes(_VIEW[:count])):
                    self._carry(may_go)
            else:
                self._end()
        except BlockingIOError:
            return
        except Exception as error:
            self._relay.end(error)

    def send(self, data: bytes) -> None:
        """Relay `data`, then the bytes that the source sends."""
        try:
            if data and self._look is not None:
                data = self._looked_at(data)
            if not data or self._carry(data):
                self._poll.add_reader(self._source, self.read)
        except Exception as error:
            self._relay.end(error)

    def _looked_at(self, data: bytes) -> bytes:
        """Those of these bytes, and of the bytes held back before, that may pass."""
        assert self._look is not None
        assert self._relay.conversation is not None
        may_go = self._look(data)
        if self._relay.conversation.is_over:
            self._look = None
        return may_go

    def _carry(self, data: bytes | memoryview) -> bool:
        """Send the bytes that the sink takes at once. Whether these are all.

        If not, the relay does not read the source until it has sent the rest.
        """
        self._relay.numbers[self._number] += len(data)
        try:
            sent = self._sink.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self._rest = memoryview(bytes(data[sent:]))
        self._poll.remove_reader(self._source)
        self._poll.add_writer(self._sink, self._write)
        return False

    def _write(self) -> None:
        try:
            self._rest = self._rest[self._sink.send(self._rest) :]
            self._relay.seen = self._relay.clock()
            if not self._rest:
                self._rest = b""
                self._poll.remove_writer(self._sink)
                self._poll.add_reader(self._source, self.read)
        except BlockingIOError:
            return
        except Exception as error:
            self._relay.end(error)

    def _end(self) -> None:
        conversation, self._look = self._relay.conversation if self._look is not None else None, None
        if conversation is not None and self._number == Number.FROM_CLIENTS:
            conversation.client_ended()
        elif conversation is not None:
            rest = conversation.held_back
            if rest and not self._carry(rest):
                return
        self._relay.ways -= 1
        if not self._relay.ways:
            self._relay.end()
        else:
            self._poll.remove_reader(self._source)
            self._sink.shutdown(socket.SHUT_WR)
