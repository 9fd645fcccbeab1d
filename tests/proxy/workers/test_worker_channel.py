"""Link: what one end says the other one hears, whole and in order; an end that is gone is an end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoplist.proxy.workers.worker_channel import MAX_FILES, Word, WorkerChannel


@pytest.fixture
def ends() -> Iterator[tuple[WorkerChannel, WorkerChannel]]:
    ours, theirs = WorkerChannel.pair()
    other = WorkerChannel(theirs)
    yield ours, other
    ours.close()
    other.close()


@pytest.mark.parametrize("word", Word)
def test_each_word_is_heard(ends: tuple[WorkerChannel, WorkerChannel], word: Word):
    for one, other in (ends, ends[::-1]):
        one.send(word)
        assert other.receive() == (word, [])


def test_words_are_single_letters_of_their_own():
    assert {len(word.value) for word in Word} == {1}
    assert len({word.value for word in Word}) == len(Word)


def test_messages_stay_apart_and_in_order(ends: tuple[WorkerChannel, WorkerChannel]):
    one, other = ends
    said = list(Word) * 10
    with Path("/dev/null").open() as file:
        for number, word in enumerate(said):
            one.send(word, files=[file.fileno()] * (number % 3))
    for number, word in enumerate(said):
        message = other.receive()
        assert message is not None
        assert (message[0], len(message[1])) == (word, number % 3)
        for received in message[1]:
            os.close(received)


def test_a_message_says_one_word_and_nothing_more(ends: tuple[WorkerChannel, WorkerChannel]):
    """Whatever else there was in it, it is not read."""
    one, other = ends
    one.connection.send(Word.READY.value + b"www.listed.test")
    one.send(Word.TAKEN)
    assert other.receive() == (Word.READY, [])
    assert other.receive() == (Word.TAKEN, [])


@pytest.mark.parametrize("number", [1, 3, MAX_FILES])
def test_descriptors_come_as_the_receivers_own(ends: tuple[WorkerChannel, WorkerChannel], number: int):
    one, other = ends
    reading, writing = os.pipe()
    one.send(Word.RULESET, files=[writing] * number)
    os.close(writing)
    message = other.receive()
    assert message is not None
    word, files = message
    assert (word, len(files)) == (Word.RULESET, number)
    assert not any(map(os.get_inheritable, files))
    for file in files:
        os.write(file, b"x")
        os.close(file)
    assert os.read(reading, 1000) == b"x" * number
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_more_descriptors_than_a_message_holds_are_an_error(ends: tuple[WorkerChannel, WorkerChannel]):
    with pytest.raises(OSError, match=r"argument|Too many"):
        ends[0].send(Word.RULESET, files=[0] * (MAX_FILES + 1))


def test_what_was_said_before_the_end_is_heard(ends: tuple[WorkerChannel, WorkerChannel]):
    one, other = ends
    one.send(Word.RELEASED)
    one.close()
    assert other.receive() == (Word.RELEASED, [])
    assert other.receive() is None
    assert other.receive() is None


def test_an_end_that_is_gone_with_something_unread_is_gone(ends: tuple[WorkerChannel, WorkerChannel]):
    """The system says ECONNRESET then, and not that it has ended."""
    one, other = ends
    other.send(Word.TAKE)
    one.close()
    assert other.receive() is None


def test_nothing_can_be_said_to_an_end_that_is_gone(ends: tuple[WorkerChannel, WorkerChannel]):
    ends[1].close()
    with pytest.raises(BrokenPipeError):
        ends[0].send(Word.TAKE)


def test_a_process_that_is_killed_is_an_end_that_is_gone():
    ours, theirs = WorkerChannel.pair()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    theirs.close()
    os.kill(pid, signal.SIGKILL)
    assert ours.receive() is None
    os.waitpid(pid, 0)
    ours.close()


def test_who_does_not_listen_is_found_out_without_waiting(ends: tuple[WorkerChannel, WorkerChannel]):
    one, _ = ends
    one.connection.setblocking(False)

    def say_on_and_on() -> None:
        for _ in range(100_000):
            one.send(Word.TAKE)

    with pytest.raises(BlockingIOError):
        say_on_and_on()


def test_nothing_to_hear_is_no_end(ends: tuple[WorkerChannel, WorkerChannel]):
    ends[0].connection.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends[0].receive()


@pytest.mark.parametrize("data", [b"\xff", b"Z[]", b"\0"])
def test_what_is_no_word_is_an_error(ends: tuple[WorkerChannel, WorkerChannel], data: bytes):
    one, other = ends
    one.connection.send(data)
    with pytest.raises(ValueError, match="not a valid Word"):
        other.receive()
    one.send(Word.READY)
    assert other.receive() == (Word.READY, [])
