"""Listening: sockets that several processes can have, made here or handed down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from stoplist.proxy.event_loop import new_event_loop
from stoplist.proxy.workers.listening_sockets import ListeningSockets, Sockets, adopt, all_of, describe, listen
from tests.e2e.network import SECONDS

LOOPBACK = "127.0.0.1"

type Listen = Callable[..., list[socket.socket]]


@pytest.fixture
def opened() -> Iterator[Listen]:
    with contextlib.ExitStack() as stack:

        def opened(*where: object, **options: bool) -> list[socket.socket]:
            return [stack.enter_context(each) for each in listen(*where, **options)]

        yield opened


def _port(sockets: list[socket.socket]) -> int:
    (port,) = {each.getsockname()[1] for each in sockets}
    return port


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 here")


def test_any_free_port_is_one_that_can_be_reached(opened: Listen):
    (found,) = opened(LOOPBACK, 0)
    assert _connects(*found.getsockname())
    assert not found.getblocking()
    assert not found.get_inheritable()


@needs_ipv6
def test_no_host_is_every_address_on_one_port(opened: Listen):
    found = opened("", 0)
    assert {each.family for each in found} == {socket.AF_INET, socket.AF_INET6}
    assert all(_connects(address, _port(found)) for address in ("127.0.0.1", "::1"))


@needs_ipv6
def test_a_name_is_each_of_its_addresses_on_one_port(opened: Listen, monkeypatch: pytest.MonkeyPatch):
    both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, (LOOPBACK, 0))]
    answer = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for family, address in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    found = opened("gate.test", 0)
    assert [each.getsockname()[0] for each in found] == ["::1", LOOPBACK]
    assert _port(found)


@needs_ipv6
def test_ipv6_takes_no_ipv4(opened: Listen):
    port = _port(opened("::", 0))
    assert _connects("::1", port)
    assert not _connects(LOOPBACK, port)


def test_an_address_in_use_is_an_error_and_leaves_nothing_open(opened: Listen):
    port = _port(opened(LOOPBACK, 0))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  of a folder that changes as it is read
    for shared in (False, True):
        with pytest.raises(OSError, match="in use") as caught:
            listen(LOOPBACK, port, shared=shared)
        assert caught.value.errno == errno.EADDRINUSE
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@needs_ipv6
def test_one_of_several_addresses_in_use_is_an_error(opened: Listen):
    port = _port(opened(LOOPBACK, 0))
    with pytest.raises(OSError, match="in use"):
        listen("", port)
    assert not _connects("::1", port)


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(OSError, match="annot assign") as caught:
        listen("203.0.113.7", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_shared_sockets_have_one_port_and_both_are_served(opened: Listen):
    (one,) = opened(LOOPBACK, 0, shared=True)
    (other,) = opened(LOOPBACK, _port([one]), shared=True)
    assert one.getsockname() == other.getsockname()
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(one.getsockname(), timeout=SECONDS))
        accepted = [_accept_all(each, stack) for each in (one, other)]
    assert sum(accepted) == 60
    assert min(accepted) >= 5


def _accept_all(listening: socket.socket, stack: contextlib.ExitStack) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            stack.enter_context(listening.accept()[0])
            count += 1
    return count


def test_who_does_not_share_gets_no_part_of_a_shared_port(opened: Listen):
    port = _port(opened(LOOPBACK, 0, shared=True))
    with pytest.raises(OSError, match="in use"):
        listen(LOOPBACK, port)


def test_what_waits_in_a_socket_waits_for_whoever_adopts_it(opened: Listen):
    place = (LOOPBACK, 0)
    sockets: Sockets = {place: opened(*place)}
    address = sockets[place][0].getsockname()
    described = json.loads(
        json.dumps([[host, port, list(map(os.dup, files))] for host, port, files in describe(sockets)])
    )
    with socket.create_connection(address, timeout=SECONDS) as client:
        client.sendall(b"before")
        for each in all_of(sockets):
            each.close()
        adopted = adopt(described)
        (listening,) = adopted[place]
        with listening, listening.accept()[0] as accepted:
            accepted.settimeout(SECONDS)
            assert accepted.recv(100) == b"before"
            assert listening.getsockname() == address
            assert not listening.get_inheritable()
            assert not listening.getblocking()


ADOPT = """
import json, sys
from stoplist.proxy.workers.listening_sockets import adopt, all_of
(listening,) = all_of(adopt(json.loads(sys.argv[1])))
listening.setblocking(True)
print("adopted", flush=True)
connection, _ = listening.accept()
connection.sendall(b"served by another program")
"""


def test_another_program_serves_what_was_handed_to_it(opened: Listen):
    place = (LOOPBACK, 0)
    sockets: Sockets = {place: opened(*place)}
    (listening,) = sockets[place]
    described = json.dumps(describe(sockets))
    program = subprocess.Popen(
        [sys.executable, "-c", ADOPT, described], pass_fds=[listening.fileno()], stdout=subprocess.PIPE
    )
    with program:
        address = listening.getsockname()
        listening.close()
        assert program.stdout is not None
        assert program.stdout.readline() == b"adopted\n"
        with socket.create_connection(address, timeout=SECONDS) as client:
            assert client.recv(100) == b"served by another program"
    assert program.returncode == 0


def test_what_was_not_handed_down_is_listened_on_here(opened: Listen):
    handed: Sockets = {(LOOPBACK, 8080): opened(LOOPBACK, 0)}
    listening = ListeningSockets(handed)
    assert listening.sockets(LOOPBACK, 8080) == handed[LOOPBACK, 8080]
    (own,) = listening.sockets(LOOPBACK, 0)
    with own:
        assert own.getsockname() != handed[LOOPBACK, 8080][0].getsockname()


def test_where_any_free_port_was_wanted_the_one_that_was_handed_down_is_listened_at(opened: Listen):
    """mitmproxy asks for no port 0: it looks for a free one itself."""
    handed: Sockets = {(LOOPBACK, 0): opened(LOOPBACK, 0), (LOOPBACK, 8080): opened(LOOPBACK, 0)}
    port = handed[LOOPBACK, 0][0].getsockname()[1]
    listening = ListeningSockets(handed)
    assert listening.ports == {(LOOPBACK, 0): port, (LOOPBACK, 8080): 8080}
    assert listening.sockets(LOOPBACK, port) == handed[LOOPBACK, 0]


@pytest.mark.parametrize("factory", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_an_event_loop_serves_what_was_handed_down(opened: Listen, factory: Callable[[], asyncio.AbstractEventLoop]):
    handed: Sockets = {(LOOPBACK, 8080): [*opened(LOOPBACK, 0), *opened(LOOPBACK, 0)]}
    addresses = [each.getsockname() for each in all_of(handed)]

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def heard(address: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        data = await reader.read()
        writer.close()
        return data

    async def main() -> None:
        ListeningSockets(handed).install(asyncio.get_running_loop())
        served = await asyncio.start_server(say, LOOPBACK, 8080)
        own = await asyncio.start_server(say, LOOPBACK, 0)
        assert [each.getsockname() for each in served.sockets] == addresses
        assert [await heard(address) for address in addresses] == [b"hello", b"hello"]
        assert await heard(own.sockets[0].getsockname()) == b"hello"
        served.close()
        own.close()
        await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS))
    assert not any(_connects(*address) for address in addresses)
