"""SharedCounters: numbers in memory that two processes share. One process of a gate writes them, its supervisor reads.

When a worker is killed, its counts are not lost, and the supervisor reads them without asking the worker. A gate of
one process has shared counters as well.

Rules
  - The memory holds only numbers, of fixed size, at fixed places. It holds no host, no address and no time.
  - One process writes a number, and only its supervisor writes how much of it was `taken`.
  - The counts in cells become visible in closed periods only (see period_counts.py). The other numbers are visible at
    any time. So they concern traffic that passes, never requests that are stopped.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Self

from stoplist.core.counts import Cell

NUMBERS = 1024
"""Enough for the cells of all lists that a policy can have in force, and of those before them."""
FIRST_CELL = 64
"""The place of the first cell."""
OPENED_WITHIN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The steps, in seconds, of the histogram of how long tunnels took to open."""

_SIZE = 8


class Number(IntEnum):
    """The numbers that are no cells."""

    TUNNELS = 0
    """Open tunnels of the lane that relay bytes. Like the lane's numbers below, it leaves out observed tunnels."""
    FROM_CLIENTS = 1
    """Bytes that the lane has relayed from clients to servers; TO_CLIENTS counts the other direction."""
    TO_CLIENTS = 2
    FAULTS = 3
    OPENED_MICROSECONDS = 4
    """How long all tunnels of the lane took to open, in total."""
    OPENED = 5
    """How many tunnels opened within the first step of OPENED_WITHIN.

    The numbers of the next steps follow, then the number of tunnels that took longer than all steps.
    """


class SharedCounters:
    """The numbers of one process.

    `file` is the file descriptor of their memory, None where no other process can share it.
    """

    def __init__(self, file: int | None) -> None:
        self.file = file
        self._memory = mmap.mmap(-1 if file is None else file, 2 * NUMBERS * _SIZE)
        both = memoryview(self._memory).cast("q")
        self.numbers = both[:NUMBERS]
        self.taken = both[NUMBERS:]

    @classmethod
    def make(cls) -> Self:
        """New counters, at zero, that other processes can share."""
        file = os.memfd_create("stoplist", os.MFD_CLOEXEC)
        os.ftruncate(file, 2 * NUMBERS * _SIZE)
        return cls(file)

    def close(self) -> None:
        """Close the file descriptor. The memory is freed when no process uses it any more."""
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def opened(self, seconds: float) -> None:
        """Count a tunnel that has opened, and the seconds that it took."""
        self.numbers[Number.OPENED + bisect_left(OPENED_WITHIN, seconds)] += 1
        self.numbers[Number.OPENED_MICROSECONDS] += int(seconds * 1_000_000)


class Layout:
    """The places of cells in the shared counters of a gate. All its counters have the same layout.

    The layout gives the place of one cell to another only when no place is free. It takes the place of the cell that
    has not been used for the longest time.
    """

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        self._cells: dict[Cell, int] = {cell: FIRST_CELL + at for at, cell in enumerate(cells)}

    def of(self, cells: Iterable[Cell]) -> Mapping[Cell, int]:
        """The places of these cells, which are all in use from now on."""
        wanted = list(cells)
        for cell in wanted:
            place = self._cells.pop(cell, None)
            self._cells[cell] = self._free_place() if place is None else place
        return {cell: self._cells[cell] for cell in wanted}

    def items(self) -> list[tuple[Cell, int]]:
        return list(self._cells.items())

    def by_place(self) -> list[Cell]:
        """The cells, in the order of their places."""
        return sorted(self._cells, key=self._cells.__getitem__)

    def _free_place(self) -> int:
        if len(self._cells) < NUMBERS - FIRST_CELL:
            return FIRST_CELL + len(self._cells)
        return self._cells.pop(next(iter(self._cells)))
