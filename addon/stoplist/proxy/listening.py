"""Listening sockets of the lane."""

from __future__ import annotations

import socket

BACKLOG = 1024
"""How many connections may wait to be accepted; the system may allow fewer."""


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of `host`, all on one port; an empty host is every address of the machine.

    Port 0 is any free one. Raises OSError.
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
