"""Connections: which hosts the connections that are open now have passed to.

A tunnel that is open when its host becomes listed must end. For that, and for nothing else, the names
that a connection passed with are kept, in memory, as long as the connection itself.

Rules
  - Nothing here is ever written, and nothing outlives its connection.
  - Looking through all of them yields to the event loop often: no request waits for it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Protocol

from stoplist.core.decide import PASS, Action
from stoplist.core.hosts import Host
from stoplist.proxy.judge import Judge

MAX_HOSTS = 64
"""How many hosts are kept for one connection: the last ones. Only plain HTTP reaches more than a few."""

_BATCH = 100

type Handlers = Mapping[Any, Handler]
"""Those of the connections that are open, as mitmproxy's proxyserver keeps them."""


class Handler(Protocol):
    """mitmproxy's ConnectionHandler: a client's connection, with the transports of it and of its servers."""

    client: Any
    transports: Any


class OpenTunnel(Protocol):
    """A connection in the lane (see lane/tunnel.py)."""

    @property
    def hosts(self) -> Collection[Host]:
        """What it passed with."""

    @property
    def address(self) -> str:
        """The client's."""

    @property
    def seen(self) -> float:
        """When it carried something last, by the clock of the event loop."""

    def end(self) -> None:
        """End it, and what it led to, at once."""


class Connections:
    """`tunnels` are those of the lane; all others are mitmproxy's."""

    def __init__(self) -> None:
        self.tunnels: set[OpenTunnel] = set()
        self._passed: weakref.WeakKeyDictionary[Any, dict[Host, None]] = weakref.WeakKeyDictionary()
        self._ended: weakref.WeakSet[Any] = weakref.WeakSet()

    def passed(self, client: Any, host: Host) -> None:
        """A request of this client passed, and claimed this host."""
        kept = self._passed.setdefault(client, {})
        kept.pop(host, None)
        kept[host] = None
        if len(kept) > MAX_HOSTS:
            del kept[next(iter(kept))]

    def end_here(self, client: Any) -> None:
        """The tunnel of this client ends at the gate, to serve a page in it: nothing of it is forwarded."""
        self._ended.add(client)

    def ends_here(self, client: Any) -> bool:
        return client in self._ended

    async def close_stopped(self, judge: Judge, handlers: Handlers, serves: Callable[[str], bool]) -> None:
        """End each connection that would not pass now, or whose client is not served any more.

        `serves` says of a client's address whether it is.
        """

        def must_end(hosts: Collection[Host], address: str) -> bool:
            verdict = judge.verdict(*hosts, client=address) if hosts else PASS
            if verdict.action in (Action.STOP, Action.REFUSE):
                judge.count(verdict)
                return True
            return not serves(address)

        async for tunnel in _in_batches(self.tunnels):
            if must_end(tunnel.hosts, tunnel.address):
                tunnel.end()
        async for handler in _in_batches(handlers.values()):
            if must_end(self._passed.get(handler.client, ()), handler.client.peername[0]):
                abort(handler)

    async def close_idle(self, since: float) -> None:
        """End each tunnel of the lane that carried nothing after `since`; mitmproxy sees to its own."""
        async for tunnel in _in_batches(self.tunnels):
            if tunnel.seen < since:
                tunnel.end()

    def abort_all(self, handlers: Handlers) -> None:
        for tunnel in list(self.tunnels):
            tunnel.end()
        abort_all(handlers)


async def _in_batches[T](things: Collection[T]) -> AsyncIterator[T]:
    """All `things` that there are now; the event loop has its turn after each few."""
    for number, thing in enumerate(list(things)):
        if number % _BATCH == _BATCH - 1:
            await asyncio.sleep(0)
        yield thing


def close_left(handler: Handler) -> None:
    """Close what a client that is gone has left open.

    mitmproxy forgets to close a connection whose task was cancelled while it waited for its turn to tell of the
    end (`server_event`). uvloop would have the socket of such a one closed as garbage, and libuv ends the
    process that closes a descriptor which it watches.
    """
    for transport in handler.transports.values():
        if isinstance(transport.writer, asyncio.StreamWriter):
            transport.writer.close()


def abort_all(handlers: Handlers) -> None:
    for handler in list(handlers.values()):
        abort(handler)


def abort(handler: Handler) -> None:
    """End a client's connection, and all that it led to, at once: what is in buffers is lost."""
    for transport in list(handler.transports.values()):
        if transport.handler is not None:
            transport.handler.cancel("ended by the gate")
        if isinstance(transport.writer, asyncio.StreamWriter):
            transport.writer.transport.abort()
