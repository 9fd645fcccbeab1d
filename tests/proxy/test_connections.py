"""What a client that is gone has left open is closed."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest
from mitmproxy.connection import Server
from mitmproxy.proxy.server import ConnectionIO

from stoplist.proxy.connections import close_left
from stoplist.proxy.loop import new_event_loop


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, new_event_loop], ids=["asyncio", "the gate's"])
def test_a_connection_that_mitmproxy_forgets_to_close_is_closed(new_loop):
    async def forget() -> bytes:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        _, writer = await asyncio.open_connection(sock=ours)
        server = Server(address=("192.0.2.1", 443))
        transports = {server: ConnectionIO(writer=writer), Server(address=("192.0.2.2", 443)): ConnectionIO()}
        close_left(SimpleNamespace(transports=transports))
        with theirs:
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1), 5)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(forget()) == b""
