"""Listener: accepts clients from one listening socket, and makes a tunnel of each."""

from __future__ import annotations

import asyncio
import socket

from stoplist.proxy.lane.lane import Lane
from stoplist.proxy.lane.tunnel import Tunnel

ACCEPTED_AT_ONCE = 64
"""How many new connections the listener accepts before the open ones have their turn."""
REST_SECONDS = 0.5
"""How long the listener pauses after it could not accept, such as when no file descriptor is left."""


class Listener:
    """A listening socket, in the form that mitmproxy expects. It accepts connections as soon as it is made."""

    def __init__(self, listening: socket.socket, lane: Lane) -> None:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        if hasattr(socket, "TCP_DEFER_ACCEPT"):  # an accepted socket can be read at once
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        self.sockets = (listening,)
        self._listening = listening
        self._lane = lane
        self._rest: asyncio.TimerHandle | None = None
        self._begin()

    def close(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._lane.poll.close(self._listening)

    def _begin(self) -> None:
        self._rest = None
        self._lane.poll.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._lane.gate.faults.add("lane", error)
                self._lane.poll.remove_reader(self._listening)
                self._rest = self._lane.loop.call_later(REST_SECONDS, self._begin)
                return
            Tunnel(self._lane, client, address[0])
