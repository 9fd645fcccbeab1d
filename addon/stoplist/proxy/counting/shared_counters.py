"""SharedCounters: numbers that one process of a gate writes, and its supervisor reads, in memory that both have.

A worker that is killed has lost nothing of what stands there, and nobody is asked for it. A gate of one process
has them as well.

Rules
  - Numbers only, of fixed size, at fixed places. No host, no address, no time.
  - One process writes a number, and only its supervisor says how much of it was `taken`.
  - What is counted in cells goes into closed periods only (see period_counts.py). The other numbers may be seen at any
    time, and so have to do with what passes, never with what is stopped.
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
"""Where the numbers of cells begin."""
OPENED_WITHIN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The steps, in seconds, by which it is counted how long tunnels took to open."""

_SIZE = 8


class Number(IntEnum):
    """The numbers that are no cells."""

    TUNNELS = 0
    """Tunnels of the lane that carry bytes, and are not observed; neither are those that are counted below."""
    FROM_CLIENTS = 1
    """Bytes relayed by the lane."""
    TO_CLIENTS = 2
    FAULTS = 3
    OPENED_MICROSECONDS = 4
    """How long all tunnels of the lane took to open."""
    OPENED = 5
    """How many opened within the first step of OPENED_WITHIN; the next ones follow, then those that took longer."""


class SharedCounters:
    """The numbers of one process. `file` is the descriptor of their memory, None where nobody else can have it."""

    def __init__(self, file: int | None) -> None:
        self.file = file
        self._memory = mmap.mmap(-1 if file is None else file, 2 * NUMBERS * _SIZE)
        both = memoryview(self._memory).cast("q")
        self.numbers = both[:NUMBERS]
        self.taken = both[NUMBERS:]

    @classmethod
    def make(cls) -> Self:
        """Counters at zero that can be passed on."""
        file = os.memfd_create("stoplist", os.MFD_CLOEXEC)
        os.ftruncate(file, 2 * NUMBERS * _SIZE)
        return cls(file)

    def close(self) -> None:
        """Give up the descriptor; the memory goes with the last who has it."""
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def opened(self, seconds: float) -> None:
        """A tunnel was opened, and took so long."""
        self.numbers[Number.OPENED + bisect_left(OPENED_WITHIN, seconds)] += 1
        self.numbers[Number.OPENED_MICROSECONDS] += int(seconds * 1_000_000)


class Layout:
    """Which cell stands where in the shared counters of a gate: the same in all of them.

    A place is given to another cell only when there is no other left, and the one that was not used for
    the longest time first.
    """

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        self._cells: dict[Cell, int] = {cell: FIRST_CELL + at for at, cell in enumerate(cells)}

    def of(self, cells: Iterable[Cell]) -> Mapping[Cell, int]:
        """Where the cells stand, that are all in use from now on."""
        wanted = list(cells)
        for cell in wanted:
            place = self._cells.pop(cell, None)
            self._cells[cell] = self._free_place() if place is None else place
        return {cell: self._cells[cell] for cell in wanted}

    def items(self) -> list[tuple[Cell, int]]:
        return list(self._cells.items())

    def by_place(self) -> list[Cell]:
        """The cells as they stand."""
        return sorted(self._cells, key=self._cells.__getitem__)

    def _free_place(self) -> int:
        if len(self._cells) < NUMBERS - FIRST_CELL:
            return FIRST_CELL + len(self._cells)
        return self._cells.pop(next(iter(self._cells)))
