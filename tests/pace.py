"""What work costs in steps of this machine: the same number on a slow machine, or a busy one, as on a fast one.

It is for claims of proportion, such as that hostile input cannot make reading take long: what is in proportion to the
length costs some million steps, what grows with its square costs a hundred times as many.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def million_steps(work: Callable[[], object]) -> float:
    """How many million steps of an empty loop take as much CPU as the work."""
    before = _seconds(_a_million_steps)
    seconds = _seconds(work)
    return seconds / max(before, _seconds(_a_million_steps))


def _a_million_steps() -> None:
    for _ in range(1_000_000):
        pass


def _seconds(work: Callable[[], object]) -> float:
    """Of CPU of this process: what else runs on the machine does not count."""
    begun = time.process_time()
    work()
    return time.process_time() - begun
