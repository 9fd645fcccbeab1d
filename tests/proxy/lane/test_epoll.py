"""Poll: who watches a socket is told of it, and of no other that had its number before."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator

import pytest

from stoplist.proxy.event_loop import new_event_loop
from stoplist.proxy.lane.epoll import AT_ONCE, Poll, _Loop, poll_for
from tests.e2e.network import SECONDS

TURNS = 20
"""After so many turns of the event loop all callbacks that were due have been called, however slow the machine is."""

type Main = Callable[[Poll, list[Exception]], Awaitable[None]]


@pytest.fixture(params=["epoll on uvloop", "epoll on asyncio", "the event loop"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a test with each kind of poll, and the list of its faults."""

    async def timed(main: Main) -> None:
        loop, faults = asyncio.get_running_loop(), list[Exception]()
        async with asyncio.timeout(SECONDS):
            await main(_Loop(loop) if "loop" in request.param.split() else poll_for(loop, faults.append), faults)

    def run(main: Main) -> None:
        factory = asyncio.new_event_loop if request.param == "epoll on asyncio" else new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(timed(main))

    return run


@pytest.fixture
def pair() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:

        def pair() -> tuple[socket.socket, socket.socket]:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                far = stack.enter_context(socket.create_connection(listening.getsockname()))
                near = stack.enter_context(listening.accept()[0])
            far.setblocking(False)
            near.setblocking(False)
            return near, far

        yield pair


async def settle(turns: int = TURNS) -> None:
    for _ in range(turns):
        await asyncio.sleep(0.001)


type Pair = Callable[[], tuple[socket.socket, socket.socket]]


def test_who_reads_is_told_as_long_as_there_is_something(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        (near, far), heard = pair(), []
        poll.add_reader(near, lambda: heard.append(near.recv(1)))
        await settle()
        assert heard == []
        far.send(b"abc")
        await settle()
        assert heard == [b"a", b"b", b"c"]
        poll.remove_reader(near)
        far.send(b"d")
        await settle()
        assert heard == [b"a", b"b", b"c"]
        poll.add_reader(near, lambda: heard.append(near.recv(1)))
        await settle()
        assert heard[3:] == [b"d"]
        poll.close(near)

    run(main)


def test_who_writes_is_told_when_there_is_room(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        (near, far), told = pair(), []
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(65536))

        def write() -> None:
            told.append("room")
            poll.remove_writer(near)

        poll.add_writer(near, write)
        await settle()
        assert told == []
        with contextlib.suppress(BlockingIOError):
            while True:
                far.recv(1 << 20)
        await settle()
        assert told == ["room"]
        poll.close(near)

    run(main)


def test_both_directions_of_a_socket_are_watched_apart(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        (near, far), told = pair(), []

        def write() -> None:
            told.append("room")
            poll.remove_writer(near)

        def read() -> None:
            told.append(near.recv(10))

        poll.add_reader(near, read)
        poll.add_writer(near, write)
        await settle()
        far.send(b"a")
        await settle()
        poll.add_writer(near, write)
        poll.remove_reader(near)
        far.send(b"b")
        await settle()
        assert told == ["room", b"a", "room"]
        poll.close(near)

    run(main)


def test_the_last_callback_is_the_one_that_counts(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        (near, far), told = pair(), []
        poll.add_reader(near, lambda: told.append("first"))
        poll.add_reader(near, lambda: told.append(near.recv(10)))
        far.send(b"a")
        await settle()
        assert told == [b"a"]
        poll.close(near)

    run(main)


@pytest.mark.parametrize("add", ["add_reader", "add_writer"])
def test_a_reset_is_told_to_whoever_watches(run: Callable[[Main], None], pair: Pair, add: str) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        (near, far), told = pair(), []
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(65536))

        def call() -> None:
            told.append(near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)
            poll.close(near)

        getattr(poll, add)(near, call)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await settle()
        assert told == [True]

    run(main)


def test_bytes_before_a_reset_and_the_reset_are_both_told(run: Callable[[Main], None], pair: Pair) -> None:
    """The event loop itself tells one time only: what is not read then is told of by nobody."""

    async def main(poll: Poll, _: list[Exception]) -> None:
        if isinstance(poll, _Loop):
            pytest.skip("uvloop's own: systems without epoll have no uvloop either")
        (near, far), told = pair(), []
        far.send(b"abc")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await settle()

        def read() -> None:
            try:
                told.append(near.recv(2))
            except ConnectionResetError:
                told.append(b"reset")
                poll.close(near)

        poll.add_reader(near, read)
        await settle()
        assert told == [b"ab", b"c", b"reset"]

    run(main)


def test_a_number_that_is_used_again_at_once_is_not_told_of_its_past(run: Callable[[Main], None], pair: Pair) -> None:
    """Of several sockets that can be read the first one closes the others, and takes their numbers."""

    async def main(poll: Poll, _: list[Exception]) -> None:
        pairs = [pair() for _ in range(20)]
        fresh: list[socket.socket] = []
        told = []

        def close_and_open() -> None:
            numbers = {near.fileno() for near, _ in pairs} - {-1}
            for near, _ in pairs:
                if near.fileno() != -1:
                    poll.close(near)
            while numbers:
                near, far = pair()
                fresh.append(near)
                numbers -= {near.fileno(), far.fileno()}
                poll.add_reader(near, lambda: told.append("read"))
                poll.add_writer(far, lambda far=far: poll.remove_writer(far))

        for near, far in pairs:
            poll.add_reader(near, close_and_open)
            far.send(b"x")
        await settle()
        assert len(fresh) >= 10
        assert told == []
        for near in fresh:
            poll.close(near)

    run(main)


def test_what_was_removed_is_not_told_even_of_what_has_happened(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        pairs, told = [pair() for _ in range(10)], []

        def read() -> None:
            told.append("read")
            for near, _ in pairs:
                poll.remove_reader(near)

        for near, far in pairs:
            poll.add_reader(near, read)
            far.send(b"x")
        await settle()
        assert told == ["read"]

    run(main)


def test_a_callback_that_raises_is_told_of_and_the_others_are_called(pair: Pair) -> None:
    async def main() -> None:
        faults: list[Exception] = []
        poll, pairs, told = poll_for(asyncio.get_running_loop(), faults.append), [pair() for _ in range(5)], []

        def read(number: int, near: socket.socket) -> None:
            told.append(number)
            poll.close(near)
            if number == 2:
                raise ValueError("broken")

        for number, (near, far) in enumerate(pairs):
            poll.add_reader(near, lambda number=number, near=near: read(number, near))
            far.send(b"x")
        await settle()
        assert sorted(told) == [0, 1, 2, 3, 4]
        assert [type(fault) for fault in faults] == [ValueError]

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


def test_more_sockets_than_are_served_at_once_have_their_turn(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, _: list[Exception]) -> None:
        pairs, told = [pair() for _ in range(AT_ONCE + 50)], []

        def read(near: socket.socket) -> None:
            told.append(near)
            poll.close(near)

        for near, far in pairs:
            poll.add_reader(near, lambda near=near: read(near))
            far.send(b"x")
        await settle(10 * TURNS)
        assert len(told) == len(set(told)) == AT_ONCE + 50

    run(main)


def test_to_stop_twice_and_to_close_what_is_not_watched_is_no_fault(run: Callable[[Main], None], pair: Pair) -> None:
    async def main(poll: Poll, faults: list[Exception]) -> None:
        near, far = pair()
        poll.remove_reader(near)
        poll.remove_writer(near)
        poll.add_reader(near, lambda: None)
        poll.remove_reader(near)
        poll.remove_reader(near)
        poll.close(near)
        poll.close(far)
        assert faults == []

    run(main)


def test_a_socket_that_another_process_has_too_is_forgotten_when_it_is_closed(
    run: Callable[[Main], None], pair: Pair
) -> None:
    """A listening socket that a supervisor handed down: epoll knows it as long as anybody has it."""

    async def main(poll: Poll, _: list[Exception]) -> None:
        (near, far), (other, _) = pair(), pair()
        number, told = near.fileno(), []
        with near.dup() as kept:
            poll.add_reader(near, lambda: told.append("before"))
            poll.close(near)
            with socket.socket(fileno=fcntl.fcntl(other, fcntl.F_DUPFD_CLOEXEC, number)) as again:
                assert again.fileno() == number
                poll.add_reader(again, lambda: told.append("spurious"))
                far.send(b"for the other process")
                await settle()
                assert told == []
                poll.remove_reader(again)
            assert kept.recv(5) == b"for t"

    run(main)
