"""Relay: carries bytes between two sockets, and nothing else.

The sockets are read and written by themselves, not through asyncio's transports: what one side sends is
received into one buffer that all relays share, and sent on from there, so that an idle relay holds no
buffer, and a busy one copies nothing but what the other side does not take at once.

Rules
  - Back-pressure: as long as one side has not taken what it was sent, the other is not read.
  - Half-close: where one side ends its sending, the other is told, and may go on.
  - An error ends both, at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

CHUNK = 128 * 1024
"""How much is received at once, in bytes; also the most that is kept for a side that is slow."""

_BUFFER = bytearray(CHUNK)
_VIEW = memoryview(_BUFFER)


class Relay:
    """Both directions between `client` and `server`, non-blocking connected sockets that are its own from then on.

    `first` are bytes of the client that were received already. `on_end` is called once, when both are closed.
    """

    __slots__ = ("_ends", "_loop", "_on_end", "_ways", "seen")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: socket.socket,
        server: socket.socket,
        first: bytes,
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        self._loop = loop
        self._on_end: Callable[[BaseException | None], None] | None = on_end
        self._ends = (client, server)
        self.seen = loop.time()
        """When bytes were seen last, by the clock of the event loop."""
        there, back = _Way(self, loop, client, server), _Way(self, loop, server, client)
        self._ways = (there, back)
        back.resume()
        if first:
            there.send(first)
        else:
            there.resume()

    def goes_on(self) -> bool:
        """Whether one direction has not ended; where both have, both sides are closed."""
        there, back = self._ways
        if there.ended and back.ended:
            self.end()
            return False
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Close both sides; what was not sent yet is lost."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        for connection in self._ends:
            self._loop.remove_reader(connection)
            self._loop.remove_writer(connection)
            connection.close()
        on_end(error)


class _Way:
    """One direction: what `source` sends goes to `sink`."""

    __slots__ = ("_is_reset", "_loop", "_relay", "_rest", "_sink", "_source", "ended")

    def __init__(
        self, relay: Relay, loop: asyncio.AbstractEventLoop, source: socket.socket, sink: socket.socket
    ) -> None:
        self._relay = relay
        self._loop = loop
        self._source = source
        self._sink = sink
        self._rest: bytes | memoryview = b""
        self._is_reset = False
        self.ended = False

    def resume(self) -> None:
        self._loop.add_reader(self._source, self._read)

    def send(self, data: bytes) -> None:
        """Send `data`, then what the source sends."""
        self._rest = data
        self._write()

    def _read(self) -> None:
        try:
            while count := self._source.recv_into(_BUFFER):
                self._relay.seen = self._loop.time()
                sent = self._try(_VIEW[:count])
                if sent < count:
                    self._rest = memoryview(bytes(_VIEW[sent:count]))
                    self._loop.remove_reader(self._source)
                    self._loop.add_writer(self._sink, self._write)
                    return
                # Of a reset uvloop tells once: what came before it is read now, or never.
                self._is_reset = self._is_reset or self._source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
                if not self._is_reset:
                    return
            if self._is_reset:
                raise ConnectionResetError
            self._end()
        except BlockingIOError:
            return
        except Exception as error:
            self._relay.end(error)

    def _write(self) -> None:
        try:
            self._rest = self._rest[self._try(self._rest) :]
            self._relay.seen = self._loop.time()
            if self._rest:
                self._loop.add_writer(self._sink, self._write)
            else:
                self._rest = b""
                self._loop.remove_writer(self._sink)
                self.resume()
        except Exception as error:
            self._relay.end(error)

    def _try(self, data: bytes | memoryview) -> int:
        try:
            return self._sink.send(data)
        except BlockingIOError:
            return 0

    def _end(self) -> None:
        self.ended = True
        if self._relay.goes_on():
            self._loop.remove_reader(self._source)
            self._sink.shutdown(socket.SHUT_WR)
