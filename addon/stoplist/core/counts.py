"""Counts over closed periods that identify nobody.

What is counted: requests, by (list, serial, action), over a day or an hour in UTC. What leaves
this module: one row for each of them when its period has closed, rounded, and hidden where small.

Rules (statistical disclosure control: Hundepool et al., Handbook on Statistical Disclosure
Control, 2010, sections 4.2 and 4.4)
  - A count below `hide_below` is hidden. Zero is hidden like any small count, so that a row tells
    nothing about whether anybody was stopped.
  - A shown count is rounded to a multiple of `round_to`; no totals are given.
  - The time of a hit is known to the length of the period only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

type PeriodLength = Literal["day", "hour"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one count is about. `list` and `serial` are None for requests refused by no list."""

    list: str | None
    serial: int | None
    action: str


@dataclass(frozen=True, slots=True)
class Row:
    """One count that may be shown: `requests` is None where it is hidden."""

    period: str
    cell: Cell
    requests: int | None
    partial: bool


@dataclass(frozen=True, slots=True)
class Disclosure:
    """How much a count may tell."""

    hide_below: int = 10
    round_to: int = 5

    def apply(self, count: int) -> int | None:
        """The number to show for `count`, or None to hide it. What is shown is never 0."""
        if count < self.hide_below:
            return None
        return max(1, (count + self.round_to // 2) // self.round_to) * self.round_to


class Counts:
    """The counts of one period, the one that holds the POSIX time `now`. Not safe for several threads."""

    def __init__(self, length: PeriodLength, disclosure: Disclosure, now: float) -> None:
        start = datetime.fromtimestamp(now, UTC).replace(minute=0, second=0, microsecond=0)
        if length == "day":
            start = start.replace(hour=0)
        self._end = (start + (timedelta(days=1) if length == "day" else timedelta(hours=1))).timestamp()
        self._name = start.strftime("%Y-%m-%d" if length == "day" else "%Y-%m-%dT%HZ")
        self._disclosure = disclosure
        self._cells: Counter[Cell] = Counter()

    def expect(self, cells: Iterable[Cell]) -> None:
        """Name cells that shall have a row, whether or not anything is counted in them."""
        for cell in cells:
            self._cells.setdefault(cell, 0)

    def add(self, cell: Cell, requests: int = 1) -> None:
        self._cells[cell] += requests

    def seconds_left(self, now: float) -> float:
        """How long the period stays open, 0 once it has closed."""
        return max(0.0, self._end - now)

    def rows(self, *, partial: bool) -> list[Row]:
        """One row for each cell. `partial` marks a period that did not run to its end."""
        return [
            Row(self._name, cell, self._disclosure.apply(count), partial)
            for cell, count in sorted(self._cells.items(), key=lambda item: str(item[0]))
        ]

    def __repr__(self) -> str:
        return "Counts(...)"
