"""WorkerProcess: the supervisor's handle of one worker, to start it, speak to it, and end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from stoplist.proxy.counting.shared_counters import SharedCounters
from stoplist.proxy.workers.listening_sockets import SocketAddress, Sockets, all_of, describe
from stoplist.proxy.workers.worker_channel import WorkerChannel

TASK = "STOPLIST_TASK"
"""The environment variable that gives a process of a gate its task. It is unset where a person starts the gate."""
END_SECONDS = 10.0
"""How long a worker may take to end, beyond the time to drain. After that the supervisor kills it."""


def same_command() -> list[str]:
    """The command line of this process: each process of a gate has the same one."""
    return [sys.executable, *sys.orig_argv[1:]]


def environment_with(task: Mapping[str, Any]) -> dict[str, str]:
    """The environment for another process of this gate, which gets this task."""
    return os.environ | {TASK: json.dumps(task)}


@dataclass(eq=False)
class WorkerProcess:
    """The process `pid` that serves the sockets of `slot`, a number from 0.

    `has_all` says whether it has the modes that only one process can serve. `is_old` says whether this process
    started it before it executed itself anew.
    """

    slot: int
    pid: int
    channel: WorkerChannel
    counters: SharedCounters
    has_all: bool
    is_old: bool = False
    is_ready: bool = False
    is_leaving: bool = False
    born: float = field(default_factory=time.monotonic)
    has_taken: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def start(cls, slot: int, sockets: Sockets, own: Sequence[SocketAddress], *, has_all: bool) -> Self:
        """Start a worker. The supervisor itself listens at `own`. Raises OSError."""
        channel, theirs = WorkerChannel.pair()
        counters = SharedCounters.make()
        task = {
            "listening": describe(sockets),
            "link": theirs.fileno(),
            "board": counters.file,
            "has_all": has_all,
            "own": own,
        }
        files = [theirs.fileno(), counters.file, *(each.fileno() for each in all_of(sockets))]
        with theirs:
            pid = os.posix_spawn(
                sys.executable,
                same_command(),
                environment_with({"worker": task}),
                file_actions=[(os.POSIX_SPAWN_DUP2, file, file) for file in files],  # keeps them open over exec
            )
        return cls(slot, pid, channel, counters, has_all)

    def keep(self) -> list[Any]:
        """The argument for `kept` after this process has executed itself anew. File descriptors stay open over exec."""
        connection, file = self.channel.connection, self.counters.file
        assert file is not None
        connection.set_inheritable(True)
        os.set_inheritable(file, True)
        return [self.slot, self.pid, connection.fileno(), file, self.has_all, self.is_leaving]

    @classmethod
    def kept(cls, told: Sequence[Any]) -> Self:
        """The worker that `keep` described. It serves already."""
        slot, pid, channel, counters, has_all, is_leaving = told
        for file in (channel, counters):
            os.set_inheritable(file, False)
        return cls(
            slot,
            pid,
            WorkerChannel(socket.socket(fileno=channel)),
            SharedCounters(counters),
            has_all,
            is_old=True,
            is_ready=True,
            is_leaving=is_leaving,
        )

    @property
    def serves(self) -> bool:
        """Whether it is ready, and not a worker from before this process executed itself anew."""
        return self.is_ready and not self.is_old

    def dismiss(self, number: int) -> None:
        """Tell the worker to end: on SIGTERM when its connections have ended, on SIGINT at once."""
        self.is_leaving = True
        if number == signal.SIGINT and not self.is_ready:
            number = signal.SIGKILL  # Python would print that it was interrupted
        self._send(number)

    def kill(self) -> None:
        """End the worker at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def see_off(self, drain: float) -> None:
        """Wait until a dismissed worker has ended; kill it when it takes too long. `drain` is in seconds."""
        try:
            await asyncio.wait_for(self.gone.wait(), drain + END_SECONDS)
        except TimeoutError:
            self.kill()
            await self.gone.wait()

    async def ended(self, seconds: float) -> int:
        """Wait for the exit status, as subprocess gives it. Kill the worker if it still runs after `seconds`."""
        status = asyncio.ensure_future(asyncio.to_thread(_wait_for, self.pid))
        await asyncio.wait([status], timeout=seconds)
        if not status.done():
            self.kill()
        return await status


def _wait_for(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0
