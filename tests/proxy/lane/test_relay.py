"""Relay: what one side sends reaches the other as it is, and so does its end.

Real sockets on loopback, on uvloop's event loop and on asyncio's. The test holds the far ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import random
import socket
import struct
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoplist.proxy.counting.shared_counters import Number, SharedCounters
from stoplist.proxy.event_loop import new_event_loop
from stoplist.proxy.lane.epoll import Poll, poll_for
from stoplist.proxy.lane.relay import _BUFFER, CHUNK, Relay
from tests.e2e.network import SECONDS
from tests.examples import examples

SMALL = 8 * 1024
"""A socket buffer that is soon full, in bytes; the system makes a little more of it."""
LARGE = 1024 * 1024
LATE = 0.02
"""After so many seconds what was sent on loopback has arrived."""
TURNS = 20
"""After so many turns of the event loop what was due has been done, however slow the machine is."""

type Loops = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loops(request: pytest.FixtureRequest) -> Loops:
    return request.param


polls: dict[asyncio.AbstractEventLoop, Poll] = {}
"""The one of the loop that runs."""


def a_relay(loop: asyncio.AbstractEventLoop, *arguments, counters: SharedCounters | None = None) -> Relay:
    return Relay(polls[loop], loop.time, counters or SharedCounters(None), *arguments)


async def settle(turns: int = TURNS) -> None:
    for _ in range(turns):
        await asyncio.sleep(0.001)


def run(loops: Loops, main: Callable[[], Awaitable[None]]) -> None:
    faults: list[Exception] = []

    async def timed() -> None:
        polls.clear()
        polls[asyncio.get_running_loop()] = poll_for(asyncio.get_running_loop(), faults.append)
        async with asyncio.timeout(SECONDS):
            await main()

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(timed())
    assert not faults


@dataclass
class Link:
    """A relay between `client` and `server`, which are the far ends; `near` are the relay's own sockets."""

    relay: Relay
    client: socket.socket
    server: socket.socket
    near: tuple[socket.socket, socket.socket]
    numbers: tuple[int, int]
    """The file descriptors of `near`."""
    counters: SharedCounters
    ends: list[BaseException | None] = field(default_factory=list)
    """What `on_end` was called with."""

    @property
    def relayed(self) -> tuple[int, int]:
        """How many bytes were counted from the client, and to it."""
        return self.counters.numbers[Number.FROM_CLIENTS], self.counters.numbers[Number.TO_CLIENTS]

    def far(self, side: str) -> tuple[socket.socket, socket.socket]:
        """This side, and the other one."""
        return (self.client, self.server) if side == "client" else (self.server, self.client)

    async def end(self) -> BaseException | None:
        """What the relay ended with."""
        await until(lambda: bool(self.ends))
        await settle()
        (error,) = self.ends
        return error


def pair(buffer: int = 0, kind: type[socket.socket] = socket.socket) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, the second of this kind."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.socket()
        for end in (far, listening) if buffer else ():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        far.connect(listening.getsockname())
        accepted, _ = listening.accept()
    near = kind(fileno=accepted.detach())
    for end in (far, near):
        end.setblocking(False)
    return far, near


@contextlib.asynccontextmanager
async def linked(
    first: bytes = b"",
    *,
    buffer: int = 0,
    before: Callable[[socket.socket, socket.socket], None] = lambda client, server: None,
    kinds: tuple[type[socket.socket], type[socket.socket]] = (socket.socket, socket.socket),
) -> AsyncIterator[Link]:
    """A link; `before` is done with its far ends before there is a relay."""
    (client, to_client), (server, to_server) = (pair(buffer, kind) for kind in kinds)
    before(client, server)
    ends: list[BaseException | None] = []
    numbers = (to_client.fileno(), to_server.fileno())
    counters = SharedCounters(None)
    relay = a_relay(asyncio.get_running_loop(), to_client, to_server, first, ends.append, counters=counters)
    try:
        yield Link(relay, client, server, (to_client, to_server), numbers, counters, ends)
    finally:
        relay.end()
        client.close()
        server.close()


async def until(claim: Callable[[], bool]) -> None:
    while not claim():  # noqa: ASYNC110  what is waited for happens outside of the event loop
        await asyncio.sleep(0.001)


async def send(connection: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, data)


async def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes, fewer only if there are no more."""
    data, loop = bytearray(), asyncio.get_running_loop()
    while len(data) < size and (part := await loop.sock_recv(connection, min(size - len(data), 1 << 16))):
        data += part
    return bytes(data)


async def receive_all(connection: socket.socket) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await receive(connection, 1 << 20):
            data += part
    return bytes(data)


async def fill(connection: socket.socket) -> bytes:
    """Send until nothing is taken any more; what was."""
    sent, block, quiet = bytearray(), random.Random(1).randbytes(CHUNK), 0
    while quiet < 10:
        try:
            sent += block[: connection.send(block)]
            quiet = 0
        except BlockingIOError:
            quiet += 1
            await asyncio.sleep(0.002)
    return bytes(sent)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def is_silent(connection: socket.socket) -> bool:
    """Whether nothing, and no end, has arrived."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


# Bytes


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 7])
def test_both_directions_carry_bytes_as_they_are_at_the_same_time(loops: Loops, size: int) -> None:
    there, back = random.Random(2).randbytes(size), random.Random(3).randbytes(size)

    async def main() -> None:
        async with linked() as link:
            results = await asyncio.gather(
                *(send(link.client, there), send(link.server, back)),
                *(receive(link.server, size), receive(link.client, size)),
            )
            assert results[2] == there
            assert results[3] == back
            assert is_silent(link.client)
            assert is_silent(link.server)
            assert not link.ends

    run(loops, main)


PIECES = st.lists(st.integers(1, 2 * CHUNK), max_size=5)


@pytest.mark.parametrize("buffer", [0, SMALL], ids=["usual buffers", "small buffers"])
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(there=PIECES, back=PIECES, first=st.integers(0, 2 * CHUNK))
def test_what_was_sent_is_what_arrives_however_it_was_cut(
    loops: Loops, buffer: int, there: list[int], back: list[int], first: int
) -> None:
    chance = random.Random(4)
    pieces = [[chance.randbytes(size) for size in sizes] for sizes in (there, back)]
    head = chance.randbytes(first)

    async def say(connection: socket.socket, parts: list[bytes]) -> None:
        for part in parts:
            await send(connection, part)
        connection.shutdown(socket.SHUT_WR)

    async def main() -> None:
        async with linked(head, buffer=buffer) as link:
            _, _, at_server, at_client = await asyncio.gather(
                *(say(link.client, pieces[0]), say(link.server, pieces[1])),
                *(receive_all(link.server), receive_all(link.client)),
            )
            assert at_server == head + b"".join(pieces[0])
            assert at_client == b"".join(pieces[1])
            assert await link.end() is None
            assert link.relayed == (len(at_server), len(at_client))

    run(loops, main)


def test_all_relays_of_a_board_count_together_the_first_bytes_too(loops: Loops) -> None:
    async def main() -> None:
        counters, loop = SharedCounters(None), asyncio.get_running_loop()
        for first, there, back in ((b"", b"12", b"3"), (b"123", b"4567", b""), (b"", b"", b"1234")):
            (client, to_client), (server, to_server) = pair(), pair()
            before = list(counters.numbers[:4])
            relay = a_relay(loop, to_client, to_server, first, lambda _: None, counters=counters)
            client.send(there)
            server.send(back)
            assert await receive(server, len(first + there)) == first + there
            assert await receive(client, len(back)) == back
            assert counters.numbers[Number.FROM_CLIENTS] - before[Number.FROM_CLIENTS] == len(first + there)
            assert counters.numbers[Number.TO_CLIENTS] - before[Number.TO_CLIENTS] == len(back)
            relay.end()
            client.close()
            server.close()

    run(loops, main)


def test_the_first_bytes_come_before_those_that_wait_already(loops: Loops) -> None:
    first = random.Random(5).randbytes(3 * CHUNK)

    async def main() -> None:
        async with linked(first, buffer=SMALL, before=lambda client, server: client.sendall(b"then this")) as link:
            assert await receive(link.server, len(first) + 9) == first + b"then this"

    run(loops, main)


def test_what_the_server_said_before_there_was_a_relay_arrives(loops: Loops) -> None:
    async def main() -> None:
        async with linked(b"hello", before=lambda client, server: server.sendall(b"220 welcome")) as link:
            assert await receive(link.client, 11) == b"220 welcome"
            assert await receive(link.server, 5) == b"hello"

    run(loops, main)


def test_relays_that_share_a_buffer_do_not_mix(loops: Loops) -> None:
    """Each has bytes that its side has not taken while the others receive."""
    count, size = 30, 4 * CHUNK

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            links = [await stack.enter_async_context(linked(buffer=SMALL)) for _ in range(count)]
            bodies = [bytes([number]) * size for number in range(count)]
            sending = [asyncio.create_task(send(link.client, body)) for link, body in zip(links, bodies, strict=True)]
            await settle()
            received = await asyncio.gather(*(receive(link.server, size) for link in links))
            await asyncio.gather(*sending)
            assert received == bodies

    run(loops, main)


# Back-pressure


@pytest.mark.parametrize("slow", ["client", "server"])
def test_who_takes_nothing_is_sent_no_more_than_fits_and_loses_nothing(loops: Loops, slow: str) -> None:
    async def main() -> None:
        async with linked(buffer=SMALL) as link:
            sink, source = link.far(slow)
            sent = await fill(source)
            assert len(sent) < CHUNK + 16 * SMALL
            assert await receive(sink, len(sent)) == sent
            await send(source, b"more")
            assert await receive(sink, 4) == b"more"

    run(loops, main)


def test_what_is_slow_in_one_direction_is_not_in_the_other(loops: Loops) -> None:
    async def main() -> None:
        async with linked(buffer=SMALL) as link:
            await fill(link.server)
            body = random.Random(6).randbytes(5 * CHUNK)
            received, _ = await asyncio.gather(receive(link.server, len(body)), send(link.client, body))
            assert received == body

    run(loops, main)


@pytest.mark.parametrize("state", ["idle", "full", "half closed"])
def test_a_relay_that_waits_does_nothing(loops: Loops, state: str) -> None:
    async def main() -> None:
        async with linked(buffer=SMALL) as link:
            if state == "full":
                await fill(link.server)
                await fill(link.client)
            elif state == "half closed":
                link.client.shutdown(socket.SHUT_WR)
                assert await receive(link.server, 1) == b""
            await settle(5 * TURNS)
            used, seen = time.process_time(), link.relay.seen
            await asyncio.sleep(0.3)
            assert time.process_time() - used < 0.1
            assert link.relay.seen == seen
            assert not link.ends

    run(loops, main)


# Ends


@pytest.mark.parametrize("first", ["client", "server"])
def test_one_side_ends_and_the_other_goes_on(loops: Loops, first: str) -> None:
    async def main() -> None:
        async with linked() as link:
            one, other = link.far(first)
            await send(one, b"my last words")
            one.shutdown(socket.SHUT_WR)
            assert await receive_all(other) == b"my last words"
            body = random.Random(7).randbytes(10 * CHUNK)
            received, _ = await asyncio.gather(receive(one, len(body)), send(other, body))
            assert received == body
            assert not link.ends
            other.shutdown(socket.SHUT_WR)
            assert await receive(one, 1) == b""
            assert await link.end() is None

    run(loops, main)


@pytest.mark.parametrize("first", ["client", "server"])
def test_an_end_comes_after_all_that_was_sent_before_it(loops: Loops, first: str) -> None:
    async def main() -> None:
        async with linked(buffer=SMALL) as link:
            one, other = link.far(first)
            sent = await fill(one)
            one.shutdown(socket.SHUT_WR)
            await settle()
            assert await receive_all(other) == sent
            assert not link.ends

    run(loops, main)


def test_both_end_at_the_same_time(loops: Loops) -> None:
    def end(client: socket.socket, server: socket.socket) -> None:
        for side in (client, server):
            side.sendall(b"bye")
            side.shutdown(socket.SHUT_WR)

    async def main() -> None:
        async with linked(b"first ", before=end) as link:
            assert await receive_all(link.server) == b"first bye"
            assert await receive_all(link.client) == b"bye"
            assert await link.end() is None

    run(loops, main)


@pytest.mark.parametrize("size", [0, 10, 3 * CHUNK])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_ends_both_and_what_came_before_it_arrives(loops: Loops, side: str, size: int) -> None:
    body = random.Random(8).randbytes(size)

    async def main() -> None:
        async with linked() as link:
            one, other = link.far(side)
            near = link.near[0 if side == "client" else 1]
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * CHUNK)
            one.setblocking(True)
            one.sendall(body)
            await asyncio.sleep(0)
            reset(one)
            received = await receive_all(other)
            assert body.startswith(received)
            assert isinstance(await link.end(), OSError)

    run(loops, main)


@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, 2 * CHUNK])
@pytest.mark.parametrize("is_slow", [False, True], ids=["at once", "slowly"])
def test_all_that_waits_when_a_reset_comes_is_sent_on(loops: Loops, size: int, is_slow: bool) -> None:
    """The relay sees bytes and reset at once: of that uvloop tells one time, and never again."""
    body = random.Random(9).randbytes(size)

    def say_and_reset(client: socket.socket, server: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL if is_slow else LARGE)
        assert server.send(body) == size
        while _unsent(server):
            time.sleep(0.001)
        reset(server)
        time.sleep(LATE)

    async def main() -> None:
        async with linked(buffer=LARGE, before=say_and_reset) as link:
            await settle()
            assert await receive_all(link.client) == body
            assert isinstance(await link.end(), OSError)

    run(loops, main)


def _unsent(connection: socket.socket) -> int:
    """How many bytes the system of the other side has not received yet."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset_of_who_takes_nothing_ends_both(loops: Loops, side: str) -> None:
    async def main() -> None:
        async with linked(buffer=SMALL) as link:
            slow, source = link.far(side)
            await fill(source)
            reset(slow)
            assert isinstance(await link.end(), OSError)
            await receive_all(source)

    run(loops, main)


def test_a_reset_after_a_half_close_is_noticed_with_the_next_bytes(loops: Loops) -> None:
    async def main() -> None:
        async with linked() as link:
            link.client.shutdown(socket.SHUT_WR)
            assert await receive(link.server, 1) == b""
            reset(link.client)
            await settle()
            for _ in range(2):
                await send(link.server, b"anybody there?")
                await settle()
            assert isinstance(await link.end(), OSError)

    run(loops, main)


def _refuse(client: socket.socket, server: socket.socket) -> None:
    reset(server)
    time.sleep(LATE)


def _leave(client: socket.socket, server: socket.socket) -> None:
    reset(client)
    time.sleep(LATE)


@pytest.mark.parametrize("before", [_refuse, _leave], ids=["the server", "the client"])
@pytest.mark.parametrize("first", [b"", b"hello", bytes(10 * CHUNK)], ids=["no bytes", "a few bytes", "many bytes"])
def test_who_is_gone_before_there_is_a_relay_ends_it(
    loops: Loops, first: bytes, before: Callable[[socket.socket, socket.socket], None]
) -> None:
    async def main() -> None:
        async with linked(first, before=before) as link:
            assert isinstance(await link.end(), OSError)

    run(loops, main)


def test_its_owner_may_end_it_and_only_the_first_end_counts(loops: Loops) -> None:
    async def main() -> None:
        async with linked(b"hello") as link:
            link.relay.end()
            link.relay.end(ValueError("later"))
            assert await receive_all(link.server) == b"hello"
            assert await receive_all(link.client) == b""
            assert await link.end() is None

    run(loops, main)


def test_it_may_be_ended_by_what_is_told_of_its_end(loops: Loops) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        (client, to_client), (server, to_server) = pair(), pair()
        ends: list[BaseException | None] = []
        with client, server:

            def on_end(error: BaseException | None) -> None:
                ends.append(error)
                relay.end()

            relay = a_relay(loop, to_client, to_server, b"", on_end)
            relay.end()
            assert ends == [None]

    run(loops, main)


def test_when_it_was_told_of_the_end_both_sides_are_closed(loops: Loops) -> None:
    async def main() -> None:
        async with linked() as link:
            link.client.shutdown(socket.SHUT_WR)
            link.server.shutdown(socket.SHUT_WR)
            await until(lambda: bool(link.ends))
            assert [near.fileno() for near in link.near] == [-1, -1]

    run(loops, main)


# What is left behind


def _close(link: Link) -> None:
    link.client.close()
    link.server.close()


ENDINGS: dict[str, Callable[[Link], None]] = {
    "closed": _close,
    "reset by the client": lambda link: reset(link.client),
    "reset by the server": lambda link: reset(link.server),
    "ended by its owner": lambda link: link.relay.end(),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("is_full", [False, True], ids=["idle", "full"])
def test_nothing_is_left_of_a_relay_that_ended(loops: Loops, ending: str, is_full: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked(buffer=SMALL) as link:
            if is_full:
                await fill(link.client)
                await fill(link.server)
            ENDINGS[ending](link)
            await link.end()
            assert not any(loop.remove_reader(number) or loop.remove_writer(number) for number in link.numbers)

    run(loops, main)
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Relay)]
    assert not any(_BUFFER), "bytes that it carried"


def test_no_file_descriptor_is_lost(loops: Loops) -> None:

    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main() -> None:
        before = opened()
        for number in range(100):
            async with linked(b"x" * number) as link:
                ENDINGS[list(ENDINGS)[number % len(ENDINGS)]](link)
                await until(lambda ends=link.ends: bool(ends))
        assert opened() == before

    run(loops, main)


def test_a_descriptor_is_used_again_by_the_next_relay(loops: Loops) -> None:
    async def main() -> None:
        used = set()
        for number in range(20):
            async with linked() as link:
                used.update(link.numbers)
                await send(link.client, b"ping")
                assert await receive(link.server, 4) == b"ping"
                link.server.send(b"x" * number)
                reset(link.server)
                await until(lambda ends=link.ends: bool(ends))
        assert len(used) < 12

    run(loops, main)


# When it was used last


def test_bytes_of_either_side_are_seen(loops: Loops) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with linked() as link:
            assert link.relay.seen <= loop.time()
            for one, other in (link.far("client"), link.far("server")):
                await asyncio.sleep(0.02)
                before, sent = link.relay.seen, loop.time()
                await send(one, b"x")
                assert await receive(other, 1) == b"x"
                assert before < sent - 0.01 <= link.relay.seen <= loop.time()

    run(loops, main)


def test_bytes_that_go_off_slowly_are_seen(loops: Loops) -> None:
    async def main() -> None:
        async with linked(buffer=SMALL) as link:
            sent = await fill(link.server)
            before = link.relay.seen
            await asyncio.sleep(0.02)
            await receive(link.client, len(sent) // 2)
            await settle()
            assert link.relay.seen > before

    run(loops, main)


# Faults


class BrokenError(Exception):
    pass


def _raise(*_: object) -> int:
    raise BrokenError


class NoReceiving(socket.socket):
    recv_into = _raise


class NoSending(socket.socket):
    send = _raise


class NoEnding(socket.socket):
    shutdown = _raise


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        pytest.param((NoReceiving, socket.socket), b"", id="receiving from the client"),
        pytest.param((socket.socket, NoReceiving), b"", id="receiving from the server"),
        pytest.param((NoSending, socket.socket), b"", id="sending to the client"),
        pytest.param((socket.socket, NoSending), b"first", id="sending the first bytes"),
        pytest.param((socket.socket, NoEnding), b"", id="telling of an end"),
    ],
)
def test_a_fault_ends_both_and_its_owner_is_told(
    loops: Loops, kinds: tuple[type[socket.socket], type[socket.socket]], first: bytes
) -> None:
    async def main() -> None:
        async with linked(first, kinds=kinds) as link:
            with contextlib.suppress(OSError):  # it may have ended already
                await send(link.client, b"from the client")
                await send(link.server, b"from the server")
                link.client.shutdown(socket.SHUT_WR)
            assert isinstance(await link.end(), BrokenError)
            assert [near.fileno() for near in link.near] == [-1, -1]

    run(loops, main)


class SendsLate(socket.socket):
    """Its first bytes are not taken at once; what is sent later fails."""

    calls = 0

    def send(self, data: bytes) -> int:
        self.calls += 1
        if self.calls == 1:
            raise BlockingIOError
        raise BrokenError


def test_a_fault_with_what_was_kept_back_is_told_as_well(loops: Loops) -> None:
    async def main() -> None:
        async with linked(kinds=(socket.socket, SendsLate)) as link:
            await send(link.client, b"from the client")
            assert isinstance(await link.end(), BrokenError)

    run(loops, main)
