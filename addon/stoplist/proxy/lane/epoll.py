"""Poll: waits for many sockets at once.

An event loop needs several system calls and objects to start watching a socket, and as many to stop. So the lane
has one epoll of its own for its sockets (Linux), and the event loop watches only that epoll.

Rules
  - Level-triggered: while a socket can be read or written, the poll calls its callback again.
  - An error of a socket calls its callbacks, for reading and for writing.
  - A callback that raises affects no other connection.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol

type Callback = Callable[[], None]

AT_ONCE = 256
"""How many sockets the poll serves before the event loop has its turn."""


class Poll(Protocol):
    """Watches sockets as an event loop of asyncio does, with one callback for each socket and direction."""

    def add_reader(self, watched: socket.socket, callback: Callback) -> None: ...

    def remove_reader(self, watched: socket.socket) -> None: ...

    def add_writer(self, watched: socket.socket, callback: Callback) -> None: ...

    def remove_writer(self, watched: socket.socket) -> None: ...

    def turn(self, watched: socket.socket, callback: Callback) -> None:
        """Stop waiting until the socket can be written, and wait until it can be read."""

    def close(self, watched: socket.socket) -> None:
        """Stop watching the socket, and close it."""


def poll_for(loop: asyncio.AbstractEventLoop, on_fault: Callable[[Exception], None]) -> Poll:
    """A new poll for this event loop. Where it is an epoll, it calls `on_fault` with the exceptions of callbacks."""
    return _Epoll(loop, on_fault) if hasattr(select, "epoll") else _Loop(loop)


class _Epoll:
    def __init__(self, loop: asyncio.AbstractEventLoop, on_fault: Callable[[Exception], None]) -> None:
        self._on_fault = on_fault
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._new: set[int] = set()
        """File descriptors added since events were taken. An event for one of them belongs to a socket closed since."""
        loop.add_reader(self._epoll, self._call)

    def add_reader(self, watched: socket.socket, callback: Callback) -> None:
        self._add(watched.fileno(), callback, self._readers, self._writers)

    def remove_reader(self, watched: socket.socket) -> None:
        self._remove(watched.fileno(), self._readers, self._writers)

    def add_writer(self, watched: socket.socket, callback: Callback) -> None:
        self._add(watched.fileno(), callback, self._writers, self._readers)

    def remove_writer(self, watched: socket.socket) -> None:
        self._remove(watched.fileno(), self._writers, self._readers)

    def turn(self, watched: socket.socket, callback: Callback) -> None:
        number = watched.fileno()
        del self._writers[number]
        self._readers[number] = callback
        self._epoll.modify(number, select.EPOLLIN)

    def close(self, watched: socket.socket) -> None:
        number = watched.fileno()
        reader, writer = self._readers.pop(number, None), self._writers.pop(number, None)
        if reader or writer:  # epoll forgets a socket by itself only when no other process has it either
            self._epoll.unregister(number)
        watched.close()

    def _add(
        self, number: int, callback: Callback, callbacks: dict[int, Callback], others: dict[int, Callback]
    ) -> None:
        if number not in callbacks:
            if number in others:
                self._epoll.modify(number, select.EPOLLIN | select.EPOLLOUT)
            else:
                self._epoll.register(number, select.EPOLLIN if callbacks is self._readers else select.EPOLLOUT)
                self._new.add(number)
        callbacks[number] = callback

    def _remove(self, number: int, callbacks: dict[int, Callback], others: dict[int, Callback]) -> None:
        if callbacks.pop(number, None) is None:
            return
        if number in others:
            self._epoll.modify(number, select.EPOLLOUT if callbacks is self._readers else select.EPOLLIN)
        else:
            self._epoll.unregister(number)

    def _call(self) -> None:
        new = self._new
        new.clear()
        readers, writers = self._readers, self._writers
        for number, events in self._epoll.poll(0, AT_ONCE):
            if number in new:
                continue
            try:
                if events != select.EPOLLOUT and (callback := readers.get(number)):
                    callback()
                if events != select.EPOLLIN and number not in new and (callback := writers.get(number)):
                    callback()
            except Exception as error:
                self._on_fault(error)


class _Loop:
    """Lets the event loop watch, on systems without epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add_reader(self, watched: socket.socket, callback: Callback) -> None:
        self._loop.add_reader(watched, callback)

    def remove_reader(self, watched: socket.socket) -> None:
        self._loop.remove_reader(watched)

    def add_writer(self, watched: socket.socket, callback: Callback) -> None:
        self._loop.add_writer(watched, callback)

    def remove_writer(self, watched: socket.socket) -> None:
        self._loop.remove_writer(watched)

    def turn(self, watched: socket.socket, callback: Callback) -> None:
        self.add_reader(watched, callback)
        self.remove_writer(watched)

    def close(self, watched: socket.socket) -> None:
        self.remove_reader(watched)
        self.remove_writer(watched)
        watched.close()
