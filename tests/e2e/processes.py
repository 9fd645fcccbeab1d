"""Processes: what the system knows of those of a gate."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def workers_of(supervisor: int) -> set[int]:
    return {pid for pid in children(supervisor) if _is_worker(pid)}


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b'STOPLIST_TASK={"worker"' in Path(f"/proc/{pid}/environ").read_bytes()
    return False
