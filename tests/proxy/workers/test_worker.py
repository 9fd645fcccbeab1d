"""Worker: it follows what its supervisor says, and ends where it cannot; it counts where it is told to."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from stoplist.core.counts import Cell, Outcome
from stoplist.core.decide import Action, Ruleset, Verdict, decide
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.proxy.counting.shared_counters import Layout, SharedCounters
from stoplist.proxy.counting.verdict_counter import cells
from stoplist.proxy.reload.ruleset_store import InForce
from stoplist.proxy.reload.shared_rulesets import pack, share
from stoplist.proxy.workers.worker import Follower, Worker
from stoplist.proxy.workers.worker_channel import Word, WorkerChannel
from tests.e2e.network import SECONDS
from tests.fixed_time import NOW
from tests.rulesets import page_of, ruleset, signed

LISTED = Host.parse("listed.test")
PASSING = Host.parse("pass.test")


def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def _verdict(follower: Follower, host: Host) -> Verdict:
    return decide(follower.current.ruleset, host, NOW.timestamp())


class Supervisor:
    """The other end, in this process, and what it has handed to its `worker`."""

    def __init__(self) -> None:
        self.channel, theirs = WorkerChannel.pair()
        self.channel.connection.settimeout(SECONDS)
        self.counters, self.layout = SharedCounters.make(), Layout()
        self.worker = Worker(
            {"link": theirs.detach(), "listening": [], "board": os.dup(self.counters.file), "own": [], "has_all": True}
        )
        self.changes: list[InForce] = []
        self.words: list[Word | None] = []
        self.shared = share(ruleset(signed("listed.test")))

    def give(self, rules: Ruleset, *, before: Ruleset | None = None) -> Ruleset:
        """Pass a ruleset on, as the one that follows `before`; the one that was passed on."""
        shared = share(rules)
        wanted = [*cells(shared), *(cells(before) if before is not None else ())]
        files = pack(shared, page_of(shared.policy), self.layout.of(wanted))
        self.channel.send(Word.RULESET, files=files)
        os.close(files[0])
        return shared

    def follower(self, on_change: Callable[[InForce], None] | None = None) -> Follower:
        self.give(self.shared)
        follower = Follower(self.worker, on_change or self.changes.append, self.words.append)
        follower.watch()
        return follower


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # as log_allowlist.install has it: it counts
    supervisor = Supervisor()
    yield supervisor
    supervisor.channel.close()
    for thread in threading.enumerate():
        if thread.name == "stoplist-link":
            thread.join(SECONDS)
    supervisor.worker.channel.close()
    supervisor.worker.counters.close()
    supervisor.counters.close()


# Rulesets


def test_the_first_ruleset_is_in_force_before_anything_else(supervisor: Supervisor):
    follower = supervisor.follower()
    assert decide(follower.current.ruleset, LISTED, NOW.timestamp()).action is Action.STOP
    assert not supervisor.changes


def test_each_ruleset_that_follows_is_in_force_and_acknowledged(supervisor: Supervisor):
    follower = supervisor.follower()
    for serial in range(2, 6):
        supervisor.give(ruleset(signed("listed.test", serial=serial)))
        assert supervisor.channel.receive() == (Word.TAKEN, [])
        assert follower.current.ruleset.lists[0].header.serial == serial
        assert supervisor.changes[-1] is follower.current
    assert len(supervisor.changes) == 4


def test_every_other_word_is_passed_on(supervisor: Supervisor):
    supervisor.follower()
    for _ in range(3):
        supervisor.channel.send(Word.TAKE)
    assert _until(lambda: supervisor.words == [Word.TAKE] * 3)


def test_a_supervisor_that_is_gone_is_told_of_once(supervisor: Supervisor):
    supervisor.follower()
    supervisor.channel.close()
    assert _until(lambda: supervisor.words == [None])
    time.sleep(0.05)
    assert supervisor.words == [None]


def test_a_supervisor_that_is_gone_at_the_start_is_an_error(supervisor: Supervisor):
    supervisor.channel.close()
    with pytest.raises(StoplistError, match="the supervisor is gone"):
        Follower(supervisor.worker, supervisor.changes.append, supervisor.words.append)


def test_a_supervisor_that_is_gone_before_the_answer_is_told_of(supervisor: Supervisor):
    """Killed after it gave a ruleset: the answer cannot be sent."""
    supervisor.follower(on_change=lambda _: supervisor.channel.close())
    supervisor.give(ruleset(signed("other.test", serial=2)))
    assert _until(lambda: supervisor.words == [None])


def _without_descriptors(channel: WorkerChannel) -> None:
    channel.send(Word.RULESET)


def _with_a_foreign_descriptor(channel: WorkerChannel) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"nonsense")
    os.close(writing)
    channel.send(Word.RULESET, files=[reading])
    os.close(reading)


def _no_word(channel: WorkerChannel) -> None:
    channel.connection.send(b"\xffnonsense")


@pytest.mark.parametrize("harm", [_without_descriptors, _with_a_foreign_descriptor, _no_word])
def test_who_cannot_follow_any_more_does_not_go_on(supervisor: Supervisor, harm: Callable[[WorkerChannel], None]):
    """A worker without a free descriptor gets none of a ruleset: it must not judge by the old one for ever."""
    follower = supervisor.follower()
    before = follower.current
    harm(supervisor.channel)
    assert _until(lambda: supervisor.words == [None])
    assert supervisor.channel.receive() is None
    assert follower.current is before


# Counts


def _counted(supervisor: Supervisor) -> dict[Cell, int]:
    found = {cell: supervisor.counters.numbers[place] for cell, place in supervisor.layout.items()}
    return {cell: requests for cell, requests in found.items() if requests}


def test_what_is_counted_stands_on_the_board_that_was_handed_down(supervisor: Supervisor):
    follower = supervisor.follower()
    for _ in range(3):
        follower.counter.add(_verdict(follower, LISTED), page=True)
    follower.counter.add(_verdict(follower, PASSING))
    follower.counter.add(_verdict(follower, Host.parse("127.0.0.1")))
    follower.counter.add(_verdict(follower, Host.parse("check.stoplist.invalid")))
    assert _counted(supervisor) == {
        Cell("worst-of", 1, Outcome.STOPPED): 3,
        Cell(None, None, Outcome.PASSED): 1,
        Cell(None, None, Outcome.REFUSED): 1,
    }


def test_each_ruleset_is_counted_where_the_supervisor_says(supervisor: Supervisor):
    follower = supervisor.follower()
    follower.counter.add(_verdict(follower, LISTED), page=True)
    supervisor.give(ruleset(signed("listed.test", serial=2)), before=supervisor.shared)
    assert supervisor.channel.receive() == (Word.TAKEN, [])
    follower.counter.add(_verdict(follower, LISTED), page=True)
    follower.counter.add(_verdict(follower, LISTED), page=True)
    assert _counted(supervisor) == {Cell("worst-of", 1, Outcome.STOPPED): 1, Cell("worst-of", 2, Outcome.STOPPED): 2}


def test_a_request_of_any_moment_of_a_change_can_be_counted(supervisor: Supervisor):
    """Requests go on by the ruleset before until the one that follows is in force, and are counted right after."""
    follower = supervisor.follower()
    over, counted, faults = threading.Event(), 0, []

    def change_on_and_on() -> None:
        before = supervisor.shared
        for serial in range(2, 60):
            before = supervisor.give(ruleset(signed("listed.test", serial=serial)), before=before)
            supervisor.channel.receive()
            seen = counted
            _until(lambda seen=seen: counted > seen + 1)
        over.set()

    thread = threading.Thread(target=change_on_and_on)
    thread.start()
    while not over.is_set():
        try:
            follower.counter.add(_verdict(follower, LISTED), page=True)
            counted += 1
        except KeyError as error:
            faults.append(error)
        time.sleep(0)  # the thread that changes is not kept waiting for its turn
    thread.join()
    assert not faults
    assert sum(_counted(supervisor).values()) == counted


def test_what_was_counted_can_be_read_once_the_worker_is_gone(supervisor: Supervisor):
    def work() -> None:
        follower = supervisor.follower()
        follower.counter.add(_verdict(follower, LISTED), page=True)
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    supervisor.layout.of(cells(supervisor.shared))
    assert _counted(supervisor) == {Cell("worst-of", 1, Outcome.STOPPED): 1}


# What is handed down


def test_what_was_handed_down_is_the_workers_own():
    ours, theirs = WorkerChannel.pair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        task = {"link": os.dup(theirs.fileno()), "listening": [["127.0.0.1", 8080, [os.dup(listening.fileno())]]]}
    theirs.close()
    counters = SharedCounters.make()
    file = os.dup(counters.file)
    for each in (*task["listening"][0][2], task["link"], file):
        os.set_inheritable(each, True)  # as it is after the start of a program
    worker = Worker(task | {"board": file, "own": [["127.0.0.1", 9464]], "has_all": False})
    (handed,) = worker.listening.sockets("127.0.0.1", 8080)
    with handed:
        assert handed.getsockname() == address
        assert not handed.get_inheritable()
        assert not worker.channel.connection.get_inheritable()
        assert not os.get_inheritable(worker.counters.file)
        assert not worker.has_all
        assert worker.own == [("127.0.0.1", 9464)]
        worker.counters.numbers[3] = 21
        assert counters.numbers[3] == 21
        worker.release()
        assert ours.receive() == (Word.RELEASED, [])
        ours.close()
        worker.release()
    worker.channel.close()
    worker.counters.close()
    counters.close()
