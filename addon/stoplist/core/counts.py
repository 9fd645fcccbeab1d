"""Counts over closed periods that can identify nobody: periods, cells, and the numbers that a report may show.

The gate counts requests by (period, list, serial, outcome). A report shows one number for each (period, list,
outcome) once the period has closed. The number is rounded, and hidden if it is small. A hidden number stays hidden
whatever else the report shows. The rules below see to that (statistical disclosure control: Hundepool et al.,
Handbook on Statistical Disclosure Control, 2010, sections 4.2 to 4.4 and 5.4).

Rules
  1. Closed periods. The gate shows nobody the counts of an open period, so that the moment of a request is known
     to the length of its period only.
  2. Threshold. A number below `hide_below` is hidden; zero is hidden like any small number. There is a row for
     each outcome that a list in force can have, whether or not anything was counted.
  3. Rounding. A number that is shown is a multiple of `round_to`.
  4. One partition. The report adds up serials before it hides anything, and never shows them apart. Requests that
     passed are a row of their own. The report never shows how many requests were judged, since that would bound
     the hidden numbers.
  5. Complementary hiding between gates. Each gate shows its own numbers, so a sum over gates would give away a
     number that only one gate hides. Small numbers of several gates enter their sum only if it lies between
     `hide_below` and the limit up to which each of them could still be anything:
     (number of small ones - 1) x (hide_below - 1). Otherwise the sum is that of the others, and marked as
     incomplete, or hidden.
  6. Totals over periods, lists or outcomes are sums of numbers that are shown (`total`), and so tell nothing new.

By rules 4 to 6 a hidden number can be anything from 0 to hide_below - 1, even for a person who has every report of
every gate and knows these rules. The rules do not cover reports over different sets of gates, or with other values
of `hide_below` and `round_to`: a person can subtract these from each other. So add up the same gates each time, by
the same rules. And a person who knows the exact number of one gate knows more of the sum of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Literal, Self

type PeriodLength = Literal["day", "hour"]

_HOUR = 3600


class Outcome(StrEnum):
    """What became of a request, as the gate counts it."""

    STOPPED = "stopped"
    """The gate served the stop page."""
    NOT_SHOWN = "page not shown"
    """The gate stopped the request where it could show no page."""
    REFUSED = "refused"
    OBSERVED = "observed"
    PASSED = "passed"


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A day or an hour of a time zone. `starts` and `ends` are POSIX seconds; `name` is its local beginning."""

    starts: int
    ends: int
    name: str

    @classmethod
    def at(cls, now: float, length: PeriodLength, zone: tzinfo = UTC) -> Self:
        """The period that holds the POSIX time `now`. Each one begins where the one before it ends.

        A day goes from midnight to midnight and has 23 to 25 hours when clocks change. If clocks are set back over
        midnight, the day begins at the first midnight. Hours count from midnight; the last one is cut short if the
        day does not have whole hours.
        """
        midnight = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        following = midnight + timedelta(days=1)
        if following.timestamp() <= now:
            midnight, following = following, following + timedelta(days=1)
        day = cls(int(midnight.timestamp()), int(following.timestamp()), f"{midnight:%Y-%m-%d}")
        if length == "day":
            return day
        starts = day.starts + (int(now) - day.starts) // _HOUR * _HOUR
        return cls(starts, min(starts + _HOUR, day.ends), _hour_name(datetime.fromtimestamp(starts, zone)))

    def through(self, last: Self) -> str:
        """The words for the range from this period to the last one: `2026-11-01 to 2026-11-30`."""
        return self.name if self == last else f"{self.name} to {last.name}"

    def seconds_left(self, now: float) -> float:
        """How many seconds the period stays open, 0 once it has closed."""
        return max(0.0, self.ends - now)


@dataclass(frozen=True, slots=True)
class Cell:
    """The subject of one count. `list` and `serial` are None for requests that no list decided."""

    list: str | None
    serial: int | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Count:
    """The count of one gate in a cell. `requests` is exact, and nobody may be shown it.

    `fresh` and `expired` are the seconds in which the gate counted there, while the list was fresh or expired.
    """

    period: Period
    cell: Cell
    requests: int
    fresh: int
    expired: int

    def __repr__(self) -> str:
        return "Count(...)"


@dataclass(frozen=True, slots=True)
class Shown:
    """A number as a report may show it: None if it is hidden. `is_complete` says whether it holds all small numbers."""

    requests: int | None
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a report, and the serials that were in force."""

    period: Period
    list: str | None
    outcome: Outcome
    serials: tuple[int, ...]
    shown: Shown


@dataclass(frozen=True, slots=True)
class Disclosure:
    """The limits of what a number may tell."""

    hide_below: int = 10
    round_to: int = 5

    def show(self, gates: Sequence[int]) -> Shown:
        """The number to show for the counts of several gates, each a part of it. A number that is shown is never 0."""
        small = [count for count in gates if count < self.hide_below]
        others = sum(gates) - sum(small)
        may_add = self.hide_below <= sum(small) <= (len(small) - 1) * (self.hide_below - 1)
        if may_add:
            return Shown(self._round(sum(gates)), is_complete=True)
        return Shown(self._round(others) if others else None, is_complete=not small)

    def rows(self, gates: Sequence[Iterable[Count]]) -> list[Row]:
        """The rows that may be shown of the counts of some gates, in the order of periods, lists and outcomes."""
        parts: defaultdict[_Key, list[int]] = defaultdict(list)
        serials: defaultdict[_Key, set[int]] = defaultdict(set)
        for gate in gates:
            sums: defaultdict[_Key, int] = defaultdict(int)
            for count in gate:
                key = (count.period, count.cell.list, count.cell.outcome)
                sums[key] += count.requests
                serials[key].update(() if count.cell.serial is None else (count.cell.serial,))
            for key, requests in sums.items():
                parts[key].append(requests)
        return [Row(*key, tuple(sorted(serials[key])), self.show(parts[key])) for key in sorted(parts, key=_order)]

    def _round(self, count: int) -> int:
        return max(1, (count + self.round_to // 2) // self.round_to) * self.round_to


type _Key = tuple[Period, str | None, Outcome]

_RANK = {outcome: rank for rank, outcome in enumerate(Outcome)}


def _order(key: _Key) -> tuple[Period, bool, str, int]:
    period, list_id, outcome = key
    return (period, list_id is None, list_id or "", _RANK[outcome])


def total(rows: Iterable[Row]) -> Shown:
    """The sum of the numbers that the rows show; None if all of them are hidden."""
    shown = [row.shown for row in rows]
    numbers = [each.requests for each in shown if each.requests is not None]
    return Shown(sum(numbers) if numbers else None, all(each.is_complete for each in shown))


def cells_of(lists: Mapping[tuple[str, int], bool]) -> list[Cell]:
    """Each cell in which the gate can count. `lists` maps (name, serial) to whether the list is enforced."""
    cells = [Cell(None, None, Outcome.PASSED), Cell(None, None, Outcome.REFUSED)]
    for (name, serial), is_enforced in lists.items():
        outcomes = (Outcome.STOPPED, Outcome.NOT_SHOWN) if is_enforced else (Outcome.OBSERVED,)
        cells += [Cell(name, serial, outcome) for outcome in outcomes]
    return cells


def _hour_name(local: datetime) -> str:
    name = local.isoformat(timespec="minutes" if local.minute else "hours")
    return f"{name.removesuffix('+00:00')}Z" if local.tzname() == "UTC" else name
