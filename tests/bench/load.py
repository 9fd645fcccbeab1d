"""The load: many clients in one thread, each a generator that yields when it has to wait.

A client yields a socket to wait until that can be read, None to wait for the same socket once more, or a
float to pause for so many seconds; `drive` runs many of them side by side. A new tunnel is: connect, CONNECT,
the 200, a ClientHello that Python's ssl wrote, the first bytes of the origin's answer, close. The handshake
is not completed: the proxies that pass it through would not see the difference, and the client would cost
more than what is measured.
"""

from __future__ import annotations

import functools
import http.client
import itertools
import select
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

LOOPBACK = "127.0.0.1"
SITES = [f"www.shop{number}.site{number}.test" for number in range(16)]
"""Unlisted hosts, all of them the origin."""
LISTED = "www.listed.test"
SILENCE_SECONDS = 30
"""A proxy that is silent for so long has failed."""
PING = b"\x17\x03\x03\x00\x64" + bytes(100)
"""A TLS record, for the replaying origin to send back."""
STREAM = b"\x17\x03\x03\x00\x08" + (1 << 60).to_bytes(8)
"""A TLS record that asks the replaying origin for so many bytes."""

type Client = Generator[socket.socket | float | None]
type Going = Callable[[], bool]
"""Whether a client should go on."""
type Note = Callable[[float], None]
"""Takes the seconds, or the bytes, of what a client has just done."""
type Opening = Generator[socket.socket | None, None, socket.socket]

_WAIT = select.EPOLLIN | select.EPOLLONESHOT
_ENDED = object()
_DISCARD = bytearray(1 << 20)


class BrokenError(Exception):
    """The proxy did not do what it was asked for."""


class Target(NamedTuple):
    """What a client says to open a tunnel to a port of a site."""

    connect: bytes
    hello: bytes


def drive(clients: Iterable[Client]) -> None:
    """Run the clients side by side until all have ended. Raises what a client raises, or BrokenError."""
    waiting: dict[int, Client] = {}
    pausing: list[tuple[float, int, Client, int]] = []
    alive = 0
    with select.epoll() as poll:

        def advance(client: Client, fd: int) -> bool:
            """Run `client` until it waits again; whether it does. `fd` is what it waited for last."""
            wanted = next(client, _ENDED)
            if wanted is None:
                poll.modify(fd, _WAIT)
            elif isinstance(wanted, socket.socket):
                waiting[wanted.fileno()] = client
                poll.register(wanted, _WAIT)
            elif isinstance(wanted, float):
                heappush(pausing, (time.perf_counter() + wanted, id(client), client, fd))
            return wanted is not _ENDED

        for client in clients:
            alive += advance(client, -1)
        while alive:
            pause = pausing[0][0] - time.perf_counter() if pausing else SILENCE_SECONDS
            events = poll.poll(max(pause, 0), 256)
            if not events and not pausing:
                raise BrokenError(f"nothing came for {SILENCE_SECONDS} s")
            for fd, _ in events:
                alive -= not advance(waiting[fd], fd)
            while pausing and pausing[0][0] <= time.perf_counter():
                alive -= not advance(*heappop(pausing)[2:])


@functools.cache
def targets(port: int) -> list[Target]:
    return [Target(_connect_head(site, port), _client_hello(site)) for site in SITES]


def open_tunnel(proxy: int | None, port: int, target: Target) -> Opening:
    """A tunnel to `port` of the origin, in which the ClientHello was answered. No proxy: a connection."""
    connection = socket.socket()
    connection.connect((LOOPBACK, proxy or port))
    if proxy:
        connection.send(target.connect)
        yield connection
        head = connection.recv(4096)
        if head[8:12] != b" 200":
            raise BrokenError(f"CONNECT was answered with {head[:40]!r}")
    connection.send(target.hello)
    yield None if proxy else connection
    if connection.recv(65536)[:1] != b"\x16":
        raise BrokenError("the ClientHello was not answered")
    return connection


def new_tunnels(proxy: int | None, port: int, *, parallel: int, seconds: float) -> list[float]:
    """Open and close tunnels for so long, `parallel` at once; the seconds that each took to open."""
    return _timed(lambda going, note: opener(proxy, port, going, note), parallel, seconds)


def hold_tunnels(proxy: int | None, port: int, count: int) -> list[socket.socket]:
    """So many open tunnels."""
    held: list[socket.socket] = []
    order = itertools.islice(itertools.cycle(targets(port)), count)

    def hold() -> Client:
        for target in order:
            tunnel = yield from open_tunnel(proxy, port, target)
            held.append(tunnel)

    drive(hold() for _ in range(32))
    return held


def is_open(tunnel: socket.socket) -> bool:
    """Whether the other side has not closed it."""
    try:
        return bool(tunnel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


def kept_tunnels(proxy: int | None, port: int, *, tunnels: int, seconds: float) -> list[float]:
    """Send a record to and fro in each of so many open tunnels; the seconds of each round trip."""
    held = iter(hold_tunnels(proxy, port, tunnels))
    return _timed(lambda going, note: _pinger(next(held), going, note), tunnels, seconds)


def plain_requests(proxy: int | None, port: int, *, parallel: int, seconds: float, keep: bool = True) -> list[float]:
    """Ask for a page over HTTP; the seconds of each."""
    return _timed(lambda going, note: fetcher(proxy, port, going, note, keep=keep), parallel, seconds)


def bulk(proxy: int | None, port: int, *, parallel: int, seconds: float) -> float:
    """How many bytes came through so many tunnels. They are discarded in the kernel."""
    return sum(_timed(lambda going, note: _downloader(proxy, port, going, note), parallel, seconds))


def pages(proxy: int, host: str, port: int, status: int, trust: ssl.SSLContext, *, seconds: float) -> list[float]:
    """Ask for a page over HTTPS, one after the other, each in a tunnel and TLS of its own; the seconds from the
    first step to the first byte of each."""
    end, found = time.perf_counter() + seconds, list[float]()
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        connection = http.client.HTTPSConnection(LOOPBACK, proxy, context=trust, timeout=SILENCE_SECONDS)
        connection.set_tunnel(host, port)
        connection.request("GET", "/", headers={"Accept": "text/html", "Sec-Fetch-Dest": "document"})
        answer = connection.getresponse()
        found.append(time.perf_counter() - start)
        answer.read()
        connection.close()
        if answer.status != status:
            raise BrokenError(f"the page came with status {answer.status}")
    return found


def opener(proxy: int | None, port: int, going: Going, note: Note, pause: float = 0.0) -> Client:
    """Opens and closes tunnels for as long as `going`."""
    for target in _while(going, targets(port)):
        start = time.perf_counter()
        (yield from open_tunnel(proxy, port, target)).close()
        note(time.perf_counter() - start)
        if pause:
            yield pause


def fetcher(proxy: int | None, port: int, going: Going, note: Note, pause: float = 0.0, *, keep: bool = True) -> Client:
    """Asks for a page over HTTP for as long as `going`, on one connection or on one each."""
    connection = None
    for site in _while(going, SITES):
        start = time.perf_counter()
        is_new = connection is None
        if is_new:
            connection = socket.create_connection((LOOPBACK, proxy or port))
        address = f"http://{site}:{port}/" if proxy else "/"
        connection.send(f"GET {address} HTTP/1.1\r\nHost: {site}:{port}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\norigin\n"):
            yield connection if is_new else None
            is_new = False
            answer += (more := connection.recv(65536))
            if not more:
                raise BrokenError(f"a request was answered with {answer[:40]!r}")
        note(time.perf_counter() - start)
        if not keep:
            connection.close()
            connection = None
        if pause:
            yield pause


def _pinger(tunnel: socket.socket, going: Going, note: Note) -> Client:
    wanted: socket.socket | None = tunnel
    for ping in _while(going, [PING]):
        start = time.perf_counter()
        tunnel.send(ping)
        missing = len(ping)
        while missing:
            yield wanted
            wanted = None
            got = len(tunnel.recv(missing))
            missing -= got
            if not got:
                raise BrokenError("a tunnel ended")
        note(time.perf_counter() - start)


def _downloader(proxy: int | None, port: int, going: Going, note: Note) -> Client:
    tunnel = yield from open_tunnel(proxy, port, targets(port)[0])
    tunnel.send(STREAM)
    for _ in _while(going, [None]):
        yield None
        got = tunnel.recv_into(_DISCARD, len(_DISCARD), socket.MSG_TRUNC)
        note(got)
        if not got:
            raise BrokenError("a tunnel ended")


def _timed(client: Callable[[Going, Note], Client], parallel: int, seconds: float) -> list[float]:
    """Run so many clients for so long; what they noted."""
    log: list[float] = []
    end = time.perf_counter() + seconds
    drive([client(lambda: time.perf_counter() < end, log.append) for _ in range(parallel)])
    if not log:
        raise BrokenError(f"nothing was done in {seconds:g} s")
    return log


def _while[T](going: Going, values: list[T]) -> Iterator[T]:
    """The values again and again for as long as `going`."""
    return itertools.takewhile(lambda _: going(), itertools.cycle(values))


def _connect_head(host: str, port: int) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def _client_hello(host: str) -> bytes:
    sent = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError
