"""The channel between supervisor and worker: a socket pair.

A message is one letter, which gives its kind, and the file descriptors that belong to it. A message holds no host,
no address and no request. Counts are in the worker's counters.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from enum import Enum
from typing import Self

MAX_FILES = 253
"""How many file descriptors one message may hold (SCM_MAX_FD of Linux)."""


class Word(Enum):
    RULESET = b"r"
    """To a worker: judge by this ruleset from now on. It comes as file descriptors (see shared_rulesets.py)."""
    TAKE = b"t"
    """To a worker: serve the modes that only one process can serve."""
    READY = b"R"
    """To the supervisor: the worker accepts connections."""
    TAKEN = b"a"
    """To the supervisor: the ruleset is in force."""
    RELEASED = b"x"
    """To the supervisor: the modes that only one process can serve are free."""


class WorkerChannel:
    """One end of the channel. `close` closes its socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """This end, and the socket of the other one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, word: Word, files: Sequence[int] = ()) -> None:
        """Send a message. Raises OSError where the other end is gone, or does not read."""
        socket.send_fds(self.connection, [word.value], files)

    def receive(self) -> tuple[Word, list[int]] | None:
        """The next message; None if the other end is gone. The caller owns the file descriptors."""
        try:
            data, files, _, _ = socket.recv_fds(self.connection, 1, MAX_FILES)
        except ConnectionError:
            return None
        for file in files:
            os.set_inheritable(file, False)
        return (Word(data), files) if data else None

    def close(self) -> None:
        self.connection.close()
