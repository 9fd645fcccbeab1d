"""The lane: the fast path for what passes, and the hand-over to mitmproxy of all the rest.

A proxy mode of our own: still mitmproxy's server, with a listener that reads the first bytes of each
connection itself. Almost all that a network asks for is a CONNECT to an unlisted host and TLS in it: that needs
nothing of mitmproxy, and gets none of it.

  CONNECT host:port     judged as everywhere; what passes is resolved, connected, answered with 200
  the first bytes       a ClientHello: its name is judged as well, then the bytes are relayed (relay.py)
                        neither TLS nor HTTP, or the server speaks first: relayed
  anything else         handed to mitmproxy with the bytes that were read, where the hooks of addon.py decide:
                        other requests, TLS to the gate, HTTP in a tunnel, and every name that does not pass

Rules
  - The lane asks the same judge, and only ever lets pass: who stops, refuses or counts it is the hooks.
  - What a client sent is handed over whole, and so is the connection to the server, unread.
  - A fault ends the connection, and is counted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mitmproxy import ctx
from mitmproxy.net.http.http1 import assemble_response
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import RegularMode

from stoplist.core.clienthello import HelloError, extensions_of, server_name
from stoplist.core.decide import Action, Reason, Verdict
from stoplist.core.heads import RequestHead, find_end
from stoplist.core.hosts import Host, HostError
from stoplist.core.openings import Opening, recognise
from stoplist.proxy.http1 import established, read_head, response
from stoplist.proxy.layers import Continued
from stoplist.proxy.outbound import DeniedError, Opened, handing_over
from stoplist.proxy.page import UNREACHABLE, refusal
from stoplist.proxy.relay import Relay

if TYPE_CHECKING:
    from stoplist.proxy.addon import Stoplist

ACCEPTED_AT_ONCE = 64
"""After so many new connections those that are open have their turn."""
REST_SECONDS = 0.5
"""How long nothing is accepted when the process has no file descriptor left."""

_PIECE = 64 * 1024
_CONNECT = b"CONNECT "
_ESTABLISHED = assemble_response(established())


class LaneMode(RegularMode):
    """An explicit proxy, as `regular` is."""


class Lane(AsyncioServerInstance[LaneMode]):
    """The lane of one listening address."""

    def make_top_layer(self, context: Context) -> Layer:
        return modes.HttpProxy(context)

    async def listen(self, host: str, port: int) -> Any:
        self.loop = asyncio.get_running_loop()
        self.stoplist: Stoplist = ctx.master.addons.get("stoplist")
        self._asks_for_passwords = bool(ctx.options.proxyauth)
        return [_Listener(listening, self) for listening in self.stoplist.listening.sockets(host, port)]

    def takes(self, head: RequestHead) -> bool:
        """Whether a CONNECT needs nothing of mitmproxy, if it passes."""
        policy, outbound = self.stoplist.judge.policy, self.stoplist.outbound
        is_ours = policy.tls == "passthrough" and not self._asks_for_passwords
        return is_ours and head.target is not None and (head.target.address, head.port) not in outbound.trusted

    async def hand_over(self, client: socket.socket, data: bytes, top: Callable[[Context], Layer]) -> None:
        """Have mitmproxy serve a client, of which `data` was received already, to its end."""
        reader = asyncio.StreamReader(loop=self.loop)
        if data:
            reader.feed_data(data)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self.loop)
        try:
            transport, _ = await self.loop.connect_accepted_socket(lambda: protocol, client)
        except BaseException:
            client.close()
            raise
        writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
        handler = ProxyConnectionHandler(ctx.master, reader, writer, ctx.options, self.mode)
        if handler.client.peername is None:  # the client is gone
            transport.abort()
            return
        handler.layer = top(handler.layer.context)
        with self.manager.register_connection(handler.client.id, handler):
            await handler.handle_client()


class _Listener:
    """A listening socket, as mitmproxy holds it; accepts from the moment it is made."""

    def __init__(self, listening: socket.socket, lane: Lane) -> None:
        self.sockets = (listening,)
        self._listening = listening
        self._lane = lane
        self._rest: asyncio.TimerHandle | None = None
        self._begin()

    def close(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._lane.loop.remove_reader(self._listening)
        self._listening.close()

    def _begin(self) -> None:
        self._rest = None
        self._lane.loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._lane.stoplist.faults.add("lane", error)
                self._lane.loop.remove_reader(self._listening)
                self._rest = self._lane.loop.call_later(REST_SECONDS, self._begin)
                return
            Passage(self._lane, client, address[0])


class Passage:
    """One connection in the lane, from its first byte to its end, or to its hand-over."""

    __slots__ = ("_client", "_lane", "_relay", "_seen", "_server", "_task", "address", "hosts")

    def __init__(self, lane: Lane, client: socket.socket, address: str) -> None:
        self._lane = lane
        self._client: socket.socket | None = client
        self._server: socket.socket | None = None
        self._relay: Relay | None = None
        self._seen = lane.loop.time()
        self.address = address
        self.hosts: tuple[Host, ...] = ()
        lane.stoplist.connections.tunnels.add(self)
        self._task = lane.loop.create_task(self._run(client))

    @property
    def seen(self) -> float:
        return self._relay.seen if self._relay is not None else self._seen

    def end(self) -> None:
        if self._relay is not None:
            self._relay.end()
        else:
            self._task.cancel()

    async def _run(self, client: socket.socket) -> None:
        try:
            await self._serve(client)
        except OSError:
            pass  # the client or the server is gone
        except Exception as error:
            self._lane.stoplist.faults.add("lane", error)
            self._lane.stoplist.count_fault()
        finally:
            if self._relay is None:
                self._forget()
            for connection in (self._client, self._server):
                if connection is not None:
                    connection.close()

    def _forget(self) -> None:
        self._lane.stoplist.connections.tunnels.discard(self)

    async def _serve(self, client: socket.socket) -> None:
        lane, stoplist = self._lane, self._lane.stoplist
        if not stoplist.serves(self.address):
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data, head = await self._read_head(client)
        verdict = self._verdict(head) if head is not None else None
        if head is None or head.target is None or verdict is None:
            if data:
                await self._hand_over(client, data, modes.HttpProxy)
            return
        self.hosts = (head.target,)
        stoplist.judge.count(verdict)
        try:
            server = self._server = await stoplist.outbound.open(head.target.address, head.port)
        except OSError as error:
            answer = refusal(Reason.DENIED) if isinstance(error, DeniedError) else UNREACHABLE
            await lane.loop.sock_sendall(client, assemble_response(response(answer)))
            return
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await lane.loop.sock_sendall(client, _ESTABLISHED)
        await self._enter(client, server, data[find_end(data) :].lstrip(b"\r\n"), verdict, head.port)

    async def _read_head(self, client: socket.socket) -> tuple[bytes, RequestHead | None]:
        """What the client sent, and the head of its CONNECT; None for all that is none, or cannot be read."""
        data = b""
        while more := await self._receive(client):
            data += more
            if data[: len(_CONNECT)] != _CONNECT[: len(data)]:
                break
            head = read_head(data, self._lane.stoplist.judge)
            if head is not None:
                return data, head if isinstance(head, RequestHead) else None
        return data, None

    def _verdict(self, head: RequestHead) -> Verdict | None:
        """The verdict by which the target of a CONNECT passes; None where the lane must not take it."""
        verdict = self._lane.stoplist.judge.of_head(head)
        return verdict if _passes(verdict) and self._lane.takes(head) else None

    async def _enter(
        self, client: socket.socket, server: socket.socket, data: bytes, verdict: Verdict, port: int
    ) -> None:
        """Let the client speak in its tunnel, of which `data` was received already."""
        while (may_relay := self._may_relay(data, verdict)) is None:
            more = await self._receive(client, None if data else server)
            if not more:  # the server speaks first, or the client has ended: some servers take that for a line's end
                if recognise(data + b"\n") not in (Opening.INCOMPLETE, Opening.OTHER):
                    return
                may_relay = True
                break
            data += more
        if may_relay:
            self._client = self._server = None
            self._relay = Relay(self._lane.loop, client, server, data, self._ended)
        else:
            opened = Opened(self.hosts[0].address, port, server)
            self._server = None
            with handing_over(opened):
                await self._hand_over(client, data, lambda context: Continued(context, (opened.host, opened.port)))

    def _may_relay(self, data: bytes, verdict: Verdict) -> bool | None:
        """Whether what a client sent in its tunnel may be relayed; None as long as it does not say."""
        match recognise(data):
            case Opening.INCOMPLETE:
                return None
            case Opening.TLS:
                return self._may_relay_hello(data, verdict)
            case Opening.OTHER:
                return True
        return False

    def _may_relay_hello(self, data: bytes, verdict: Verdict) -> bool | None:
        try:
            extensions = extensions_of(data)
            name = server_name(extensions) if extensions is not None else None
        except (HelloError, HostError):
            return False
        if extensions is None:
            return None
        judge, target = self._lane.stoplist.judge, self.hosts[0]
        both = judge.verdict(target, name)
        if not _passes(both):
            return False
        if both != verdict:
            judge.count(both)
        if name is not None and name != target:
            self.hosts = (target, name)
        return True

    async def _hand_over(self, client: socket.socket, data: bytes, top: Callable[[Context], Layer]) -> None:
        self._forget()
        self._client = None
        await self._lane.hand_over(client, data, top)

    async def _receive(self, client: socket.socket, server: socket.socket | None = None) -> bytes:
        """What the client sends next, b"" at its end; b"" as well where `server`, if given, speaks before it."""
        while True:
            try:
                data = client.recv(_PIECE)
                self._seen = self._lane.loop.time()
                return data
            except BlockingIOError:
                if await _first_readable(self._lane.loop, client, server) is not client:
                    return b""

    def _ended(self, error: BaseException | None) -> None:
        self._forget()
        if error is not None and not isinstance(error, OSError):
            self._lane.stoplist.faults.add("lane", error)


async def _first_readable(loop: asyncio.AbstractEventLoop, *connections: socket.socket | None) -> socket.socket:
    """The first of the connections from which something can be received."""
    found = loop.create_future()

    def wake(connection: socket.socket) -> None:
        if not found.done():
            found.set_result(connection)

    wanted = [connection for connection in connections if connection is not None]
    for connection in wanted:
        loop.add_reader(connection, wake, connection)
    try:
        result: socket.socket = await found
        return result
    finally:
        for connection in wanted:
            loop.remove_reader(connection)


def _passes(verdict: Verdict) -> bool:
    return verdict.action in (Action.PASS, Action.OBSERVE)
