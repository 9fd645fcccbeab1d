"""Renewal: a supervisor executes itself anew on SIGHUP, with the code and the policy that are on disk then."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from stoplist.proxy.workers.listening_sockets import SocketAddress
from stoplist.proxy.workers.worker_pool import START_SECONDS
from stoplist.proxy.workers.worker_process import environment_with, same_command

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What a supervisor is told things by."""

_HAD_TERMINAL = sys.stderr.isatty()


def terminal_is_gone() -> bool:
    """Whether SIGHUP says what it first said: the terminal that this was started in was closed."""
    return _HAD_TERMINAL and not os.isatty(sys.stderr.fileno())


async def would_start(held: Sequence[SocketAddress]) -> bool:
    """Whether this very command would start now, beside what runs and listens at the places `held`."""
    environment = environment_with({"check": held})
    try:
        process = await asyncio.create_subprocess_exec(*same_command(), env=environment)
    except OSError:
        return False
    try:
        return await asyncio.wait_for(process.wait(), START_SECONDS) == 0
    except TimeoutError:
        process.kill()
        return False


def execute_anew(kept: Mapping[str, Any]) -> None:
    """Become this very program anew, which is told what was `kept`. Signals wait until it handles them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.execve(sys.executable, same_command(), environment_with({"kept": kept}))  # noqa: S606  this very program
