"""Relay: carries bytes between two sockets, which it looks at only as long as a conversation asks for it.

The sockets are read and written by themselves, not through asyncio's transports: what one side sends is
received into one buffer that all relays share, and sent on from there, so that an idle relay holds no
buffer, and a busy one copies nothing but what the other side does not take at once.

Rules
  - Back-pressure: as long as one side has not taken what it was sent, the other is not read.
  - Half-close: where one side ends its sending, the other is told, and may go on.
  - An error ends both, at once.
  - What a relay left in the buffer goes with it: another one may not come for long.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from stoplist.core.wire.conversations import Conversation
from stoplist.proxy.counting.shared_counters import Number, SharedCounters
from stoplist.proxy.lane.epoll import Poll

CHUNK = 128 * 1024
"""How much is received at once, in bytes; also the most that is kept for a side that is slow."""

_BUFFER = bytearray(CHUNK)
_VIEW = memoryview(_BUFFER)


class Relay:
    """Both directions between `client` and `server`, non-blocking connected sockets that are its own from then on.

    `first` are bytes of the client that were received already; `conversation` has a say in what is carried until it is
    over, None if nothing has. `clock` tells the time in seconds, and bytes are
    counted in `counters`. `on_end` is called once, when both are closed, with what it ended for, if that was an error.
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
        """When bytes were seen last."""
        self.used = 0
        """How much of the buffer it has written to, in bytes."""
        self.ways = 2
        """How many directions have not ended."""
        self.numbers = counters.numbers
        self.conversation = conversation
        from_server = conversation.from_server if conversation is not None else None
        from_client = conversation.from_client if conversation is not None else None
        poll.add_reader(server, _Way(self, poll, server, client, Number.TO_CLIENTS, from_server).read)
        _Way(self, poll, client, server, Number.FROM_CLIENTS, from_client).send(first)

    def end(self, error: BaseException | None = None) -> None:
        """Close both sides; what was not sent yet is lost."""
        if self._on_end is None:
            return
        _VIEW[: self.used] = bytes(self.used)
        self._poll.close(self._client)
        self._poll.close(self._server)
        on_end, self._on_end = self._on_end, None
        on_end(error)


class _Way:
    """One direction: what `source` sends goes to `sink`, and through `look` until the conversation is over."""

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
        """Carry what the source has sent."""
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
        """Carry `data`, then what the source sends."""
        try:
            if data and self._look is not None:
                data = self._looked_at(data)
            if not data or self._carry(data):
                self._poll.add_reader(self._source, self.read)
        except Exception as error:
            self._relay.end(error)

    def _looked_at(self, data: bytes) -> bytes:
        """Those of the bytes, and of what was held back before, that may be carried."""
        assert self._look is not None
        assert self._relay.conversation is not None
        may_go = self._look(data)
        if self._relay.conversation.is_over:
            self._look = None
        return may_go

    def _carry(self, data: bytes | memoryview) -> bool:
        """Send what the sink takes at once. Whether that is all; else the source is not read until it was sent."""
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
