"""Listening: the sockets that clients connect to, made here or handed down by a supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

BACKLOG = 1024
"""How many connections may wait to be accepted; the system may allow fewer."""

type SocketAddress = tuple[str, int]
"""Where to listen: a host and a port."""
type Sockets = dict[SocketAddress, list[socket.socket]]
type Described = Sequence[tuple[str, int, Sequence[int]]]
"""Sockets as one process tells them to another: host, port, descriptors."""


def listen(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """A listening socket for each address of `host`, all on one port; an empty host is every address of the machine.

    Port 0 is any free one. Where it is `shared`, more sockets can be bound to the same address (SO_REUSEPORT).
    Raises OSError.
    """
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listening = socket.socket(family, kind, protocol)
            found.append(listening)
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((address[0], port, *address[2:]))
            listening.listen(BACKLOG)
            port = listening.getsockname()[1]
    except OSError:
        for listening in found:
            listening.close()
        raise
    return found


def describe(sockets: Sockets) -> Described:
    return [(host, port, [each.fileno() for each in found]) for (host, port), found in sockets.items()]


def adopt(described: Described) -> Sockets:
    """The sockets of descriptors that another process handed down; they are this one's only from then on."""
    sockets: Sockets = {}
    for host, port, files in described:
        sockets[host, port] = [socket.socket(fileno=file) for file in files]
        for each in sockets[host, port]:
            each.set_inheritable(False)
            each.setblocking(False)
    return sockets


def all_of(sockets: Sockets) -> list[socket.socket]:
    return [each for found in sockets.values() for each in found]


class ListeningSockets:
    """Where the process listens: at places for which it was handed sockets, and anywhere else by itself."""

    def __init__(self, handed: Sockets | None = None) -> None:
        handed = handed or {}
        self.ports = {place: place[1] or found[0].getsockname()[1] for place, found in handed.items()}
        """The port at each place that was handed down: where any free one was wanted, which one it is."""
        self._handed = {(host, self.ports[host, port]): found for (host, port), found in handed.items()}

    def sockets(self, host: str, port: int) -> list[socket.socket]:
        """Raises OSError."""
        handed = self._handed.get((host, port))
        return list(handed) if handed is not None else listen(host, port)

    def install(self, loop: Any) -> None:
        """Have the event loop's `create_server` use what was handed down."""
        create_server = loop.create_server

        async def create(protocol: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
            if (host, port) not in self._handed:
                return await create_server(protocol, host, port, **options)
            return _Servers([await create_server(protocol, sock=each, **options) for each in self._handed[host, port]])

        loop.create_server = create


class _Servers:
    """Several servers of asyncio, as one."""

    def __init__(self, servers: Sequence[asyncio.Server]) -> None:
        self._servers = servers

    @property
    def sockets(self) -> list[Any]:
        return [each for server in self._servers for each in server.sockets]

    def close(self) -> None:
        for server in self._servers:
            server.close()
