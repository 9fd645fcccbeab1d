"""Listening sockets: the process makes them itself, or gets them from its supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from stoplist.core.policy.values import ListenAddress
from stoplist.errors import StoplistError
from stoplist.proxy.log import log_allowlist, records

BACKLOG = 1024
"""How many connections may wait to be accepted; the system may allow fewer."""

type SocketAddress = tuple[str, int]
"""A host and a port to listen at."""
type Sockets = dict[SocketAddress, list[socket.socket]]
type Described = Sequence[tuple[str, int, Sequence[int]]]
"""Sockets, as one process describes them to another: host, port, file descriptors."""


def listen(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """A listening socket for each address of `host`, all on one port. An empty host means every address of the machine.

    Port 0 means any free port. With `shared`, other sockets can bind to the same address (SO_REUSEPORT).
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
    """Make sockets from file descriptors that another process handed down. Child processes do not inherit them."""
    sockets: Sockets = {}
    for host, port, files in described:
        sockets[host, port] = [socket.socket(fileno=file) for file in files]
        for each in sockets[host, port]:
            each.set_inheritable(False)
            each.setblocking(False)
    return sockets


def cannot_listen(error: BaseException) -> StoplistError:
    return StoplistError(
        f"cannot listen: {error}",
        hint="choose another address with --listen HOST:PORT, or with --mode MODE@HOST:PORT",
    )


def all_of(sockets: Sockets) -> list[socket.socket]:
    return [each for found in sockets.values() for each in found]


class SharedSockets:
    """The listening sockets of `count` workers: each has its own at each of `places`, which map to names of modes.

    The system spreads new connections among the sockets of one place (SO_REUSEPORT).
    """

    def __init__(self, places: Mapping[SocketAddress, str], count: int) -> None:
        self._places = places
        self.count = count
        self._sockets: list[Sockets] = []

    def open(self, kept: Sequence[Described] = ()) -> None:
        """Open all sockets. Sockets that were `kept` stay open if they are still wanted. Raises StoplistError."""
        before = [adopt(described) for described in kept]
        for slot in range(self.count):
            old = before[slot] if slot < len(before) else {}
            self._sockets.append({})
            for place in self._places:
                self._sockets[slot][place] = old.pop(place) if place in old else self._bind(place)
        for sockets in before:
            for unused in all_of(sockets):
                unused.close()

    def _bind(self, place: SocketAddress) -> list[socket.socket]:
        host, port = place
        first = self._sockets[0].get(place)
        try:
            return listen(host, first[0].getsockname()[1] if first else port, shared=True)
        except OSError as error:
            raise cannot_listen(error) from None

    def of(self, slot: int) -> Sockets:
        """The sockets of one worker."""
        return self._sockets[slot]

    def say_where(self) -> None:
        """Write the addresses at which clients connect to the log."""
        for place, mode in self._places.items():
            for address in self._addresses(place):
                log_allowlist.say(records.Listening(address, mode, self.count))

    @property
    def addresses(self) -> list[str]:
        """The addresses at which clients connect."""
        return [address for place in self._places for address in self._addresses(place)]

    def _addresses(self, place: SocketAddress) -> list[str]:
        return [
            str(ListenAddress(*each)) for each in sorted({each.getsockname()[:2] for each in self._sockets[0][place]})
        ]

    def keep(self) -> list[Described]:
        """The argument for `open` after this process has executed itself anew. The sockets stay open over exec."""
        for sockets in self._sockets:
            for each in all_of(sockets):
                each.set_inheritable(True)
        return [describe(sockets) for sockets in self._sockets]

    def close(self) -> None:
        for sockets in self._sockets:
            for each in all_of(sockets):
                each.close()


class ListeningSockets:
    """Gives the sockets for a place: those that a supervisor handed down, or new ones where there are none."""

    def __init__(self, handed: Sockets | None = None) -> None:
        handed = handed or {}
        self.ports = {place: place[1] or found[0].getsockname()[1] for place, found in handed.items()}
        """The port at each place that was handed down. Where any free port was wanted, this is the one in use."""
        self._handed = {(host, self.ports[host, port]): found for (host, port), found in handed.items()}

    def sockets(self, host: str, port: int) -> list[socket.socket]:
        """The listening sockets for a host and a port. Raises OSError."""
        handed = self._handed.get((host, port))
        return list(handed) if handed is not None else listen(host, port)

    def install(self, loop: Any) -> None:
        """Make the event loop's `create_server` use the sockets that were handed down."""
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
