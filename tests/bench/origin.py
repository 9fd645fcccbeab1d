"""An origin that costs next to nothing: TLS records without TLS. Run: python -m tests.bench.origin PORT

What a proxy passes through it cannot tell from the real thing. A handshake record is answered with one of the
size of a server's first flight; a data record of eight bytes asks for so many bytes, which are sent from
memory without being copied; any other data record is sent back.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading

HANDSHAKE = 22
FLIGHT = b"\x16\x03\x03\x04\xb0" + bytes(1200)
BULK = 64 * (b"\x17\x03\x03\x40\x00" + bytes(16384))


def serve(port: int) -> None:
    """Serve on loopback until killed."""
    bulk = os.memfd_create("bulk")
    os.write(bulk, BULK)
    connections: dict[int, tuple[socket.socket, bytearray]] = {}
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listener, select.epoll() as poll:
        poll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == listener.fileno():
                    connection, _ = listener.accept()
                    connections[connection.fileno()] = connection, bytearray()
                    poll.register(connection, select.EPOLLIN)
                elif not _is_served(*connections[fd], bulk):
                    poll.unregister(fd)  # a stream may still hold a duplicate
                    connections.pop(fd)[0].close()


def _is_served(connection: socket.socket, pending: bytearray, bulk: int) -> bool:
    """Answer the whole records that came; false if the client is gone."""
    try:
        data = connection.recv(65536)
        pending += data
        while len(pending) >= 5 and len(pending) >= (size := 5 + int.from_bytes(pending[3:5])):
            record = bytes(pending[:size])
            del pending[:size]
            if record[0] == HANDSHAKE:
                connection.send(FLIGHT)
            elif size == 5 + 8:
                threading.Thread(target=_stream, args=(connection.dup(), int.from_bytes(record[5:]), bulk)).start()
            else:
                connection.send(record)
    except OSError:
        return False
    return bool(data)


def _stream(connection: socket.socket, missing: int, bulk: int) -> None:
    with connection, contextlib.suppress(OSError):
        while missing > 0:
            missing -= os.sendfile(connection.fileno(), bulk, 0, min(missing, len(BULK)))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
