"""What is kept of connections that are open, and what a client that is gone has left open."""

from __future__ import annotations

import asyncio
import gc
import socket
from types import SimpleNamespace

import pytest
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.server import ConnectionIO

from stoplist.core.decide import TOO_MANY
from stoplist.core.hosts import Host
from stoplist.core.wire.conversations import RefusedError
from stoplist.proxy.event_loop import new_event_loop
from stoplist.proxy.outbound.open_connections import MAX_HOSTS, Connections, close_left
from tests.e2e.network import SECONDS


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
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1), SECONDS)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(forget()) == b""


def test_no_host_of_a_connection_is_forgotten_and_one_too_many_is_refused():
    connections = Connections()
    client = Client(peername=("198.51.100.2", 50000), sockname=("198.51.100.1", 8080))
    hosts = [Host.parse(f"host{number}.test") for number in range(MAX_HOSTS)]
    for host in (*hosts, hosts[40]):
        connections.passed(client, host)
    with pytest.raises(RefusedError, match=TOO_MANY.reason.value):
        connections.passed(client, Host.parse("other.test"))
    connections.passed(client, hosts[0])
    (kept,) = connections._passed.values()
    assert kept == set(hosts)
    del client
    gc.collect()
    assert not connections._passed
