"""Worker: what a process that serves a gate with others has in place of files and log.

Its rulesets come from the supervisor, and what it counts goes there (see workers.py).
"""

from __future__ import annotations

import json
import math
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from stoplist.core.counts import Cell
from stoplist.core.decide import Action, Ruleset, Verdict
from stoplist.errors import StoplistError
from stoplist.proxy import sharing
from stoplist.proxy.link import Link, Word
from stoplist.proxy.listening import Listening, adopt
from stoplist.proxy.page import StopPage
from stoplist.proxy.store import InForce
from stoplist.proxy.tally import cell_of


class Worker:
    """What the supervisor handed down: `task` is from its workers.py.

    `has_all` says whether to serve the modes that only one process can serve; `on_take` is called when they
    are to be served from then on, `on_end` when the supervisor is gone.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        connection = socket.socket(fileno=task["link"])
        connection.set_inheritable(False)
        self.link = Link(connection)
        self.listening = Listening(adopt(task["listening"]))
        self.has_all = bool(task["has_all"])
        self.on_take: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    def release(self) -> None:
        """Say that the modes which only one process can serve are free."""
        with suppress(OSError):
            self.link.send(Word.RELEASED)


class Follower:
    """The ruleset in force, as the supervisor says. Waits for the first one when it is made.

    `on_change` is called, by a thread, with each one that follows, `on_word` with every other word of the
    supervisor, and with None when it is gone.
    """

    def __init__(
        self, link: Link, on_change: Callable[[InForce], None], on_word: Callable[[Word | None], None]
    ) -> None:
        self._link = link
        self._on_change = on_change
        self._on_word = on_word
        first = link.receive()
        if first is None:
            raise StoplistError("the supervisor is gone")
        self.current = _in_force(first[2])

    def watch(self) -> None:
        threading.Thread(target=self._run, name="stoplist-link", daemon=True).start()

    def close(self) -> None:
        """Nothing is held but the link, which ends with the process."""

    def _run(self) -> None:
        try:
            while (message := self._link.receive()) is not None:
                word, _, files = message
                if word is Word.RULESET:
                    self.current = _in_force(files)
                    self._on_change(self.current)
                    self._link.send(Word.TAKEN)
                else:
                    self._on_word(word)
        finally:  # who cannot follow must not go on with what was in force: the supervisor ends it
            with suppress(OSError):
                self._link.connection.shutdown(socket.SHUT_RDWR)
            self._on_word(None)


class Reports:
    """Counts verdicts, and says how many there were when the supervisor asks. Used from the event loop only."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._counts: Counter[Cell] = Counter()

    def follow(self, ruleset: Ruleset) -> None:
        """Nothing: which rows there are is the supervisor's business."""

    def add(self, verdict: Verdict) -> None:
        if verdict.is_counted:
            self._counts[cell_of(verdict)] += 1

    def report(self) -> None:
        with suppress(OSError):  # the supervisor is gone, and the gate ends
            self._link.send(Word.COUNTS, _write_counts(self._counts))
            self._counts.clear()

    def close_period(self, now: float) -> float:  # noqa: ARG002
        """Periods are closed by the supervisor."""
        return math.inf

    def stop(self, now: float) -> None:  # noqa: ARG002
        self.report()


def _write_counts(counts: Mapping[Cell, int]) -> bytes:
    return json.dumps([[cell.list, cell.serial, cell.action, requests] for cell, requests in counts.items()]).encode()


def read_counts(content: bytes) -> dict[Cell, int]:
    """What a worker has counted, as it said it. Not pickled: a worker is nearer to strangers than its supervisor.

    Raises ValueError or TypeError for what no worker says.
    """
    counts: dict[Cell, int] = {}
    for name, serial, action, requests in json.loads(content):
        of_a_list = type(name) is str and type(serial) is int
        if not (of_a_list or name is serial is None) or type(requests) is not int or requests < 1:
            raise ValueError("no counts")
        counts[Cell(name, serial, Action(action))] = requests
    return counts


def _in_force(files: list[int]) -> InForce:
    ruleset = sharing.unpack(files)
    return InForce(ruleset, StopPage.render(ruleset.policy))
