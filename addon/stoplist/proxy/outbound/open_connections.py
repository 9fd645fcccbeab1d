"""Connections: the hosts with which each open connection has passed.

An open tunnel must end when its host becomes listed. For this only, the gate keeps the names with which a connection
passed. It keeps them in memory, as long as the connection itself.

Rules
  - These names are never written, and never outlive their connection. None is forgotten before that: a connection that
    has too many ends, or gets no further one.
  - A search through all connections yields to the event loop often: no request waits for it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Protocol

from stoplist.core.decide import PASS, TOO_MANY, Action
from stoplist.core.hosts import Host
from stoplist.core.wire.conversations import RefusedError
from stoplist.proxy.judge import Judge

MAX_HOSTS = 1024
"""How many hosts one connection may have. Only plain HTTP from another proxy reaches more than a few."""

_BATCH = 100

type Handlers = Mapping[Any, Handler]
"""The handlers of the open connections, as mitmproxy's proxyserver keeps them."""


class Handler(Protocol):
    """mitmproxy's ConnectionHandler: a client's connection, with the transports of it and of its servers."""

    client: Any
    transports: Any


class OpenTunnel(Protocol):
    """A connection in the lane (see lane/tunnel.py)."""

    @property
    def hosts(self) -> Collection[Host]:
        """The hosts with which it passed."""

    @property
    def address(self) -> str:
        """The address of its client."""

    @property
    def seen(self) -> float:
        """When it last carried bytes, by the clock of the event loop."""

    def end(self) -> None:
        """Close it, and its connection to the server, at once."""


class Connections:
    """The open connections. `tunnels` are those of the lane; all others belong to mitmproxy."""

    def __init__(self) -> None:
        self.tunnels: set[OpenTunnel] = set()
        self._passed: weakref.WeakKeyDictionary[Any, set[Host]] = weakref.WeakKeyDictionary()
        self._ended: weakref.WeakSet[Any] = weakref.WeakSet()

    def passed(self, client: Any, host: Host) -> None:
        """Remember that a request of this client passed, and claimed this host.

        Raises RefusedError if the connection has too many hosts already. The request must not go on then.
        """
        kept = self._passed.setdefault(client, set())
        if host not in kept and len(kept) >= MAX_HOSTS:
            raise RefusedError(TOO_MANY)
        kept.add(host)

    def end_here(self, client: Any) -> None:
        """Remember that the tunnel of this client ends at the gate, to serve a page. None of it is forwarded."""
        self._ended.add(client)

    def ends_here(self, client: Any) -> bool:
        return client in self._ended

    async def close_stopped(self, judge: Judge, handlers: Handlers, serves: Callable[[str], bool]) -> None:
        """End each connection that would not pass now, or that has a client which the gate does not serve any more.

        `serves` tells from a client's address whether the gate serves it.
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
            hosts = list(self._passed.get(handler.client, ()))
            if len(hosts) > _BATCH:
                await asyncio.sleep(0)
            if must_end(hosts, handler.client.peername[0]):
                abort(handler)

    async def close_idle(self, since: float) -> None:
        """End each tunnel of the lane that carried no bytes after `since`. mitmproxy ends its own idle connections."""
        async for tunnel in _in_batches(self.tunnels):
            if tunnel.seen < since:
                tunnel.end()

    def abort_all(self, handlers: Handlers) -> None:
        for tunnel in list(self.tunnels):
            tunnel.end()
        abort_all(handlers)


async def _in_batches[T](things: Collection[T]) -> AsyncIterator[T]:
    """All `things` that there are now. After each batch the event loop has its turn."""
    for number, thing in enumerate(list(things)):
        if number % _BATCH == _BATCH - 1:
            await asyncio.sleep(0)
        yield thing


def close_left(handler: Handler) -> None:
    """Close the connections that a client has left open, when it is gone.

    mitmproxy does not close a connection if its task was cancelled while it waited to report the end (`server_event`).
    With uvloop, garbage collection would then close the socket. But libuv aborts a process that closes a file
    descriptor which libuv watches.
    """
    for transport in handler.transports.values():
        if isinstance(transport.writer, asyncio.StreamWriter):
            transport.writer.close()


def abort_all(handlers: Handlers) -> None:
    for handler in list(handlers.values()):
        abort(handler)


def abort(handler: Handler) -> None:
    """Close a client's connection, and its connections to servers, at once. Bytes in buffers are lost."""
    for transport in list(handler.transports.values()):
        if transport.handler is not None:
            transport.handler.cancel("ended by the gate")
        if isinstance(transport.writer, asyncio.StreamWriter):
            transport.writer.transport.abort()
