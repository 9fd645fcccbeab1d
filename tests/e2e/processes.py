"""Processes: what the system knows of those of a gate, and what they have counted."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

from stoplist.core.counts import Outcome
from stoplist.state import State


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def workers(supervisor: int) -> set[int]:
    return {pid for pid in children(supervisor) if _is_worker(pid)}


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b'STOPLIST_TASK={"worker"' in Path(f"/proc/{pid}/environ").read_bytes()
    return False


def counted(state: Path) -> Counter[Outcome]:
    """The exact numbers of a gate that has ended, whatever period they are of."""
    opened = State.open_read_only(state)
    sums: Counter[Outcome] = Counter()
    for count in opened.counts(0, 2**40):
        sums[count.cell.outcome] += count.requests
    opened.close()
    return +sums
