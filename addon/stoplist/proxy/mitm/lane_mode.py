"""The lane as a mode of mitmproxy: an explicit proxy whose listener is ours, and the hand-over to mitmproxy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from mitmproxy import ctx
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.modes import HttpProxy
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import RegularMode

from stoplist.proxy.lane.lane import Lane
from stoplist.proxy.lane.listener import Listener
from stoplist.proxy.mitm.layers.first_layers import Continued
from stoplist.proxy.mitm.modes import parse
from stoplist.proxy.outbound.connector import Opened, handing_over

if TYPE_CHECKING:
    from stoplist.proxy.mitm.addon import Stoplist


class LaneMode(RegularMode):
    """An explicit proxy, as `regular` is."""


def in_lane(placed: Iterable[str]) -> list[str]:
    """These modes, with the lane in place of mitmproxy's own explicit proxy."""
    regular, lane = RegularMode.type_name, LaneMode.type_name
    return [lane + text.removeprefix(regular) if parse(text).type_name == regular else text for text in placed]


class LaneServer(AsyncioServerInstance[LaneMode]):
    """mitmproxy's server of one listening address."""

    def make_top_layer(self, context: Context) -> Layer:
        return HttpProxy(context)

    async def listen(self, host: str, port: int) -> Any:
        self._loop = asyncio.get_running_loop()
        stoplist: Stoplist = ctx.master.addons.get("stoplist")
        lane = Lane(
            stoplist.context,
            self._loop,
            self._hand_over,
            asks_for_passwords=bool(getattr(ctx.options, "proxyauth", None)),
        )
        return [Listener(listening, lane) for listening in stoplist.context.listening.sockets(host, port)]

    async def _hand_over(
        self, client: socket.socket, data: bytes, opened: Opened | None, on_taken: Callable[[], None]
    ) -> None:
        """Hand a client over to mitmproxy (see `HandOver`)."""
        reader = _Begun(loop=self._loop)
        if data:
            reader.feed_data(data)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client)
        except BaseException:
            client.close()
            raise
        try:
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            handler = ProxyConnectionHandler(ctx.master, reader, writer, ctx.options, self.mode)
            if handler.client.peername is None:  # the client is gone
                transport.abort()
                return
            handler.layer = _top_layer(handler.layer.context, opened)
            with (
                self.manager.register_connection(handler.client.id, handler),
                handing_over(opened) if opened is not None else nullcontext(),
            ):
                on_taken()
                await handler.handle_client()
        except BaseException:
            transport.abort()
            raise


def _top_layer(context: Context, opened: Opened | None) -> Layer:
    return HttpProxy(context) if opened is None else Continued(context, (opened.host, opened.port))


class _Begun(asyncio.StreamReader):
    """The stream from a client whose first bytes were received already.

    The first read still yields to the event loop, because mitmproxy must have to wait for the first bytes.
    """

    _has_waited = False

    async def read(self, n: int = -1) -> bytes:
        if not self._has_waited:
            self._has_waited = True
            await asyncio.sleep(0)
        return await super().read(n)
