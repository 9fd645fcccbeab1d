"""Worker: the connection of one worker process to its supervisor, in place of files and state.

The supervisor sends the rulesets, and reads the counts from the worker's counters (see supervisor.py).
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
    """The channel, sockets and counters that the supervisor handed down. `task` comes from worker_process.py.

    `own` are the places at which the supervisor itself listens. `has_all` says whether this worker serves the modes
    that only one process can serve. `on_take` is called when it must serve them from then on, `on_end` when the
    supervisor is gone.
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
        """Tell the supervisor that the modes which only one process can serve are free."""
        with suppress(OSError):
            self.channel.send(Word.RELEASED)


class Follower:
    """Follows the ruleset in force of the supervisor. The constructor waits for the first one.

    A thread calls `on_change` with each later ruleset. It calls `on_word` with every other word of the supervisor,
    and with None when the supervisor is gone. `counter` counts in the worker's counters, by the ruleset in force.
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
        """Do nothing: the follower holds only the channel, which ends with the process."""

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
        finally:  # a worker that cannot follow must not go on with an old ruleset: the supervisor ends it
            with suppress(OSError):
                self._channel.connection.shutdown(socket.SHUT_RDWR)
            self._on_word(None)
