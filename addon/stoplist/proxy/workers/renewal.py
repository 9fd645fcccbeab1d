"""Renewal: on SIGHUP a supervisor executes itself anew, with the code and the policy that are on disk then."""

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
"""The signals that a supervisor handles."""

_HAD_TERMINAL = sys.stderr.isatty()


def terminal_is_gone() -> bool:
    """Whether the terminal in which this process was started is closed: the original meaning of SIGHUP."""
    return _HAD_TERMINAL and not os.isatty(sys.stderr.fileno())


async def would_start(held: Sequence[SocketAddress]) -> bool:
    """Whether this same command would start now, beside the gate that runs and listens at the places `held`."""
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
    """Replace this process by the same program, and pass it `kept`.

    The system holds signals back until the new program handles them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.execve(sys.executable, same_command(), environment_with({"kept": kept}))  # noqa: S606  the same program
