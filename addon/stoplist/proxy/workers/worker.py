"""Worker: what a process that serves a gate with others has in place of files and state.

Its rulesets come from the supervisor, which reads what it counts from its counters (see supervisor.py).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stoplist.errors import StoplistError
from stoplist.proxy.counting.shared_counters import SharedCounters
from stoplist.proxy.counting.verdict_counter import VerdictCounter
from stoplist.proxy.reload import shared_rulesets
from stoplist.proxy.reload.ruleset_store import InForce
from stoplist.proxy.workers.listening_sockets import ListeningSockets, adopt
from stoplist.proxy.workers.worker_channel import Word, WorkerChannel


class Worker:
    """What the supervisor handed down: `task` is from its supervisor.py.

    `own` is where the supervisor itself listens; `has_all` says whether to serve the modes that only one process
    can serve; `on_take` is called when they are to be served from then on, `on_end` when the supervisor is gone.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        connection = socket.socket(fileno=task["link"])
        connection.set_inheritable(False)
        self.channel = WorkerChannel(connection)
        self.listening = ListeningSockets(adopt(task["listening"]))
        os.set_inheritable(task["board"], False)
        self.counters = SharedCounters(task["board"])
        self.own = [(host, port) for host, port in task["own"]]
        self.has_all = bool(task["has_all"])
        self.on_take: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None

    def release(self) -> None:
        """Say that the modes which only one process can serve are free."""
        with suppress(OSError):
            self.channel.send(Word.RELEASED)


class Follower:
    """The ruleset in force, as the supervisor says. Waits for the first one when it is made.

    `on_change` is called, by a thread, with each one that follows, `on_word` with every other word of the
    supervisor, and with None when it is gone. `counter` counts in the worker's counters by what is in force.
    """

    def __init__(
        self, worker: Worker, on_change: Callable[[InForce], None], on_word: Callable[[Word | None], None]
    ) -> None:
        self._channel = channel = worker.channel
        self._on_change = on_change
        self._on_word = on_word
        first = channel.receive()
        if first is None:
            raise StoplistError("the supervisor is gone")
        ruleset, page, layout = shared_rulesets.unpack(first[1])
        self.counter = VerdictCounter(worker.counters, layout)
        self.current = InForce(ruleset, page)

    def watch(self) -> None:
        threading.Thread(target=self._run, name="stoplist-link", daemon=True).start()

    def close(self) -> None:
        """Nothing is held but the link, which ends with the process."""

    def _run(self) -> None:
        try:
            while (message := self._channel.receive()) is not None:
                word, files = message
                if word is Word.RULESET:
                    ruleset, page, layout = shared_rulesets.unpack(files)
                    self.counter.follow(layout)
                    self.current = InForce(ruleset, page)
                    self._on_change(self.current)
                    self._channel.send(Word.TAKEN)
                else:
                    self._on_word(word)
        finally:  # who cannot follow must not go on with what was in force: the supervisor ends it
            with suppress(OSError):
                self._channel.connection.shutdown(socket.SHUT_RDWR)
            self._on_word(None)
