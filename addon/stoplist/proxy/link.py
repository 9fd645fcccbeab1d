"""Link: what supervisor and worker say to each other, over a socket pair.

A message is one letter, which says what it is, and what belongs to it: descriptors or counts. No host, no
address and no request is ever in one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from enum import Enum
from typing import Self

MAX_FILES = 253
"""How many descriptors one message may hold (SCM_MAX_FD of Linux)."""
_MAX_CONTENT = 128 * 1024


class Word(Enum):
    RULESET = b"r"
    """To a worker: judge by this from now on; descriptors of a ruleset (see sharing.py)."""
    REPORT = b"?"
    """To a worker: say what was counted since the last time."""
    TAKE = b"t"
    """To a worker: serve the modes that only one process can."""
    READY = b"R"
    """To the supervisor: connections are accepted."""
    TAKEN = b"a"
    """To the supervisor: the ruleset is in force."""
    COUNTS = b"c"
    """To the supervisor: how often something was counted since the last time."""
    RELEASED = b"x"
    """To the supervisor: the modes that only one process can serve are free."""


class Link:
    """One end, which is closed with it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """This end, and the socket of the other one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def send(self, word: Word, content: bytes = b"", files: Sequence[int] = ()) -> None:
        """Raises OSError where the other end is gone, or does not listen."""
        socket.send_fds(self.connection, [word.value + content], files)

    def receive(self) -> tuple[Word, bytes, list[int]] | None:
        """The next message; None if the other end is gone. The descriptors are the caller's."""
        try:
            data, files, _, _ = socket.recv_fds(self.connection, _MAX_CONTENT, MAX_FILES)
        except ConnectionError:
            return None
        for file in files:
            os.set_inheritable(file, False)
        return (Word(data[:1]), data[1:], files) if data else None

    def close(self) -> None:
        self.connection.close()
