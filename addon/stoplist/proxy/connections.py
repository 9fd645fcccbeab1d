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
from collections.abc import Callable, Mapping

from mitmproxy.connection import Client
from mitmproxy.proxy.server import ConnectionHandler

from stoplist.core.decide import PASS, Action
from stoplist.core.hosts import Host
from stoplist.proxy.judge import Judge

MAX_HOSTS = 64
"""How many hosts are kept for one connection: the last ones. Only plain HTTP reaches more than a few."""

_BATCH = 100

type Handlers = Mapping[tuple[object, ...] | str, ConnectionHandler]
"""mitmproxy's handlers of the connections that are open, as its proxyserver keeps them."""


class Connections:
    def __init__(self) -> None:
        self._passed: weakref.WeakKeyDictionary[Client, dict[Host, None]] = weakref.WeakKeyDictionary()
        self._ended: weakref.WeakSet[Client] = weakref.WeakSet()

    def passed(self, client: Client, host: Host) -> None:
        """A request of this client passed, and claimed this host."""
        kept = self._passed.setdefault(client, {})
        kept.pop(host, None)
        kept[host] = None
        if len(kept) > MAX_HOSTS:
            del kept[next(iter(kept))]

    def end_here(self, client: Client) -> None:
        """The tunnel of this client ends at the gate, to serve a page in it: nothing of it is forwarded."""
        self._ended.add(client)

    def ends_here(self, client: Client) -> bool:
        return client in self._ended

    async def close_stopped(
        self,
        judge: Judge,
        handlers: Handlers,
        serves: Callable[[Client], bool],
    ) -> None:
        """End each connection that would not pass now, or whose client is not served any more."""
        for number, handler in enumerate(list(handlers.values())):
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
            hosts = self._passed.get(handler.client, ())
            verdict = judge.verdict(*hosts) if hosts else PASS
            if verdict.action in (Action.STOP, Action.REFUSE):
                judge.count(verdict)
                abort(handler)
            elif not serves(handler.client):
                abort(handler)


def abort_all(handlers: Handlers) -> None:
    for handler in list(handlers.values()):
        abort(handler)


def abort(handler: ConnectionHandler) -> None:
    """End a client's connection, and all that it led to, at once: what is in buffers is lost."""
    for transport in list(handler.transports.values()):
        if transport.handler is not None:
            transport.handler.cancel("ended by the gate")
        if isinstance(transport.writer, asyncio.StreamWriter):
            transport.writer.transport.abort()
