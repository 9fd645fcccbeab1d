"""What the gate remembers of QUIC: no more, and no longer, than it must."""

from __future__ import annotations

import pytest

from stoplist.proxy.mitm.layers import quic_memory
from stoplist.proxy.mitm.layers.quic_memory import MEMORY_SECONDS, SERVER_SECONDS, QuicMemory

SERVER = ("192.0.2.1", 4433)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> QuicMemory:
    return QuicMemory(clock)


def test_an_id_belongs_to_one_flow_until_it_was_silent_for_long(memory: QuicMemory, clock: Clock) -> None:
    one, two = object(), object()
    assert memory.claim(b"id", one)
    assert memory.claim(b"id", one)
    clock.seconds = MEMORY_SECONDS
    assert not memory.claim(b"id", two)
    clock.seconds = 2 * MEMORY_SECONDS
    assert not memory.claim(b"id", two), "its packets count, whichever flow they come in"
    clock.seconds += MEMORY_SECONDS + 1
    assert memory.claim(b"id", two)
    assert not memory.claim(b"id", one)


def test_without_room_no_connection_begins_and_none_is_forgotten(
    memory: QuicMemory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic_memory, "MAX_IDS", 2)
    one, two = object(), object()
    assert memory.claim(b"a", one)
    assert memory.claim(b"b", one)
    assert not memory.claim(b"c", two)
    assert not memory.claim(b"a", two)
    assert memory.claim(b"a", one)
    clock.seconds = MEMORY_SECONDS + 1
    assert memory.claim(b"c", two)
    assert list(memory._owners) == [b"c"]


def test_a_server_is_remembered_for_an_hour_after_its_last_packet(memory: QuicMemory, clock: Clock) -> None:
    key = memory.key_of(SERVER)
    assert not memory.speaks_quic(key)
    memory.has_answered(key)
    clock.seconds = SERVER_SECONDS - 1
    assert memory.speaks_quic(key)
    assert not memory.speaks_quic(memory.key_of(("192.0.2.1", 4434)))
    memory.has_answered(key)
    clock.seconds += SERVER_SECONDS
    assert not memory.speaks_quic(key)


def test_servers_are_bounded_and_no_address_can_be_read(memory: QuicMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_memory, "MAX_SERVERS", 2)
    keys = [memory.key_of(("192.0.2.1", port)) for port in (1, 2, 3)]
    for key in keys:
        memory.has_answered(key)
    assert [memory.speaks_quic(key) for key in keys] == [False, True, True]
    assert keys[0] != QuicMemory().key_of(("192.0.2.1", 1)), "each process has a key of its own"
