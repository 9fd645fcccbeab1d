"""Link: what supervisor and worker say to each other, over a socket pair.

A message is one letter, which says what it is, and the descriptors that belong to it. No host, no address and
no request is ever in one; counts are in the worker's counters.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from enum import Enum
from typing import Self

MAX_FILES = 253
"""How many descriptors one message may hold (SCM_MAX_FD of Linux)."""


class Word(Enum):
    RULESET = b"r"
    """To a worker: judge by this from now on; descriptors of a ruleset (see shared_rulesets.py)."""
    TAKE = b"t"
    """To a worker: serve the modes that only one process can."""
    READY = b"R"
    """To the supervisor: connections are accepted."""
    TAKEN = b"a"
    """To the supervisor: the ruleset is in force."""
    RELEASED = b"x"
    """To the supervisor: the modes that only one process can serve are free."""


class WorkerChannel:
    """One end, which is closed with it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """This end, and the socket of the other one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, word: Word, files: Sequence[int] = ()) -> None:
        """Raises OSError where the other end is gone, or does not listen."""
        socket.send_fds(self.connection, [word.value], files)

    def receive(self) -> tuple[Word, list[int]] | None:
        """The next message; None if the other end is gone. The descriptors are the caller's."""
        try:
            data, files, _, _ = socket.recv_fds(self.connection, 1, MAX_FILES)
        except ConnectionError:
            return None
        for file in files:
            os.set_inheritable(file, False)
        return (Word(data), files) if data else None

    def close(self) -> None:
        self.connection.close()
