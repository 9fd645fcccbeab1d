"""Worker: it follows what its supervisor says, and ends where it cannot; its counts are read with care."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from stoplist.core.counts import Cell
from stoplist.core.decide import PASS, Action, Ruleset, decide
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.proxy.link import Link, Word
from stoplist.proxy.sharing import pack, share
from stoplist.proxy.store import InForce
from stoplist.proxy.worker import Follower, Reports, Worker, read_counts
from tests.keys import NOW
from tests.rulesets import ruleset, signed

LISTED = Host.parse("listed.test")
PASSING = Host.parse("pass.test")


def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def _give(link: Link, shared: Ruleset) -> None:
    files = pack(shared)
    link.send(Word.RULESET, files=files)
    os.close(files[0])


class Supervisor:
    """The other end, in this process."""

    def __init__(self) -> None:
        self.link, theirs = Link.pair()
        self.link.connection.settimeout(10)
        self.theirs = Link(theirs)
        self.changes: list[InForce] = []
        self.words: list[Word | None] = []
        self.shared = share(ruleset(signed("listed.test")))

    def follower(self, on_change: Callable[[InForce], None] | None = None) -> Follower:
        _give(self.link, self.shared)
        follower = Follower(self.theirs, on_change or self.changes.append, self.words.append)
        follower.watch()
        return follower


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # as quiet.install has it: it counts
    supervisor = Supervisor()
    yield supervisor
    supervisor.link.close()
    for thread in threading.enumerate():
        if thread.name == "stoplist-link":
            thread.join(10)
    supervisor.theirs.close()


# Rulesets


def test_the_first_ruleset_is_in_force_before_anything_else(supervisor: Supervisor):
    follower = supervisor.follower()
    assert decide(follower.current.ruleset, LISTED, NOW.timestamp()).action is Action.STOP
    assert not supervisor.changes


def test_each_ruleset_that_follows_is_in_force_and_acknowledged(supervisor: Supervisor):
    follower = supervisor.follower()
    for serial in range(2, 6):
        _give(supervisor.link, share(ruleset(signed("listed.test", serial=serial))))
        assert supervisor.link.receive() == (Word.TAKEN, b"", [])
        assert follower.current.ruleset.lists[0].header.serial == serial
        assert supervisor.changes[-1] is follower.current
    assert len(supervisor.changes) == 4


def test_every_other_word_is_passed_on(supervisor: Supervisor):
    supervisor.follower()
    for word in (Word.REPORT, Word.TAKE, Word.REPORT):
        supervisor.link.send(word)
    assert _until(lambda: supervisor.words == [Word.REPORT, Word.TAKE, Word.REPORT])


def test_a_supervisor_that_is_gone_is_told_of_once(supervisor: Supervisor):
    supervisor.follower()
    supervisor.link.close()
    assert _until(lambda: supervisor.words == [None])
    time.sleep(0.05)
    assert supervisor.words == [None]


def test_a_supervisor_that_is_gone_at_the_start_is_an_error(supervisor: Supervisor):
    supervisor.link.close()
    with pytest.raises(StoplistError, match="the supervisor is gone"):
        Follower(supervisor.theirs, supervisor.changes.append, supervisor.words.append)


def test_a_supervisor_that_is_gone_before_the_answer_is_told_of(supervisor: Supervisor):
    """Killed after it gave a ruleset: the answer cannot be sent."""
    supervisor.follower(on_change=lambda _: supervisor.link.close())
    _give(supervisor.link, share(ruleset(signed("other.test", serial=2))))
    assert _until(lambda: supervisor.words == [None])


def _without_descriptors(link: Link) -> None:
    link.send(Word.RULESET)


def _with_a_foreign_descriptor(link: Link) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"nonsense")
    os.close(writing)
    link.send(Word.RULESET, files=[reading])
    os.close(reading)


def _no_word(link: Link) -> None:
    link.connection.send(b"\xffnonsense")


@pytest.mark.parametrize("harm", [_without_descriptors, _with_a_foreign_descriptor, _no_word])
def test_who_cannot_follow_any_more_does_not_go_on(supervisor: Supervisor, harm: Callable[[Link], None]):
    """A worker without a free descriptor gets none of a ruleset: it must not judge by the old one for ever."""
    follower = supervisor.follower()
    before = follower.current
    harm(supervisor.link)
    assert _until(lambda: supervisor.words == [None])
    assert supervisor.link.receive() is None
    assert follower.current is before


# Counts


def _verdict(host: Host, serial: int = 1):
    return decide(ruleset(signed("listed.test", serial=serial)), host, NOW.timestamp())


@pytest.fixture
def reports() -> Iterator[tuple[Reports, Link]]:
    ours, theirs = Link.pair()
    ours.connection.settimeout(10)
    with theirs:
        yield Reports(Link(theirs)), ours
    ours.close()


def _heard(link: Link) -> dict[Cell, int]:
    message = link.receive()
    assert message is not None
    assert message[0] is Word.COUNTS
    return read_counts(message[1])


def test_what_was_counted_is_reported_once(reports: tuple[Reports, Link]):
    counter, link = reports
    for _ in range(3):
        counter.add(_verdict(LISTED))
    counter.add(_verdict(LISTED, serial=2))
    counter.add(PASS)
    counter.add(_verdict(Host.parse("check.stoplist.invalid")))
    counter.report()
    assert _heard(link) == {Cell("worst-of", 1, Action.STOP): 3, Cell("worst-of", 2, Action.STOP): 1}
    counter.report()
    assert _heard(link) == {}
    counter.add(_verdict(LISTED))
    counter.stop(0)
    assert _heard(link) == {Cell("worst-of", 1, Action.STOP): 1}


def test_refusals_have_a_cell_without_a_list(reports: tuple[Reports, Link]):
    counter, link = reports
    counter.add(_verdict(Host.parse("127.0.0.1")))
    counter.report()
    assert _heard(link) == {Cell(None, None, Action.REFUSE): 1}


def test_a_report_that_nobody_hears_breaks_nothing(reports: tuple[Reports, Link]):
    counter, link = reports
    counter.add(_verdict(LISTED))
    link.close()
    counter.report()
    counter.stop(0)


def test_what_was_read_is_added_to_what_is_counted_here():
    counts: Counter[Cell] = Counter({Cell("a", 1, Action.STOP): 2})
    counts.update(read_counts(b'[["a", 1, "stop", 3], ["a", 1, "observe", 4]]'))
    assert counts == {Cell("a", 1, Action.STOP): 5, Cell("a", 1, Action.OBSERVE): 4}


GARBAGE = [
    *(b"", b"\xff", b"{", b"null", b"7", b'"a"', b'{"a": 1}', b"[1]", b"[null]", b"[[]]", b'[["a", 1, "stop"]]'),
    *(b'[["a", 1, "stop", 1, 1]]', b'[[["a"], 1, "stop", 1]]', b"[" * 100_000),
]


@pytest.mark.parametrize("content", GARBAGE, ids=lambda content: repr(content[:20]))
def test_counts_that_are_none_are_an_error(content: bytes):
    with pytest.raises((ValueError, TypeError, RecursionError)):
        read_counts(content)


STRANGE = [
    pytest.param(b'[["a", 1, "stop", "7"]]', id="a text as a number"),
    pytest.param(b'[["a", 1, "stop", -7]]', id="below zero"),
    pytest.param(b'[["a", 1, "stop", 0.5]]', id="a fraction"),
    pytest.param(b'[["a", 1, "stop", true]]', id="a truth"),
    pytest.param(b'[["a", 1, "stop", NaN]]', id="no number"),
    pytest.param(b'[["a", 1, "www.listed.test", 1]]', id="a host as an action"),
    pytest.param(b'[["www.listed.test", "x", "stop", 1]]', id="a text as a serial"),
    pytest.param(b'[["a", null, "stop", 1]]', id="a list without a serial"),
    pytest.param(b'[[null, 1, "stop", 1]]', id="a serial without a list"),
]


@pytest.mark.parametrize("content", STRANGE)
def test_counts_that_no_gate_makes_are_an_error(content: bytes):
    with pytest.raises((ValueError, TypeError)):
        read_counts(content)


# What is handed down


def test_what_was_handed_down_is_the_workers_own():
    ours, theirs = Link.pair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        task = {"link": os.dup(theirs.fileno()), "listening": [["127.0.0.1", 8080, [os.dup(listening.fileno())]]]}
    theirs.close()
    worker = Worker(task | {"has_all": False})
    (handed,) = worker.listening.sockets("127.0.0.1", 8080)
    with handed:
        assert handed.getsockname() == address
        assert not handed.get_inheritable()
        assert not worker.link.connection.get_inheritable()
        assert not worker.has_all
        worker.release()
        assert ours.receive() == (Word.RELEASED, b"", [])
        ours.close()
        worker.release()
    worker.link.close()
