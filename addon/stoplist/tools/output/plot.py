"""Plot: the places of a list's bars in a drawing, period by period.

Along the drawing, lengths are percent of its width, so that it fits any page; up and down they are pixels. A bar of
requests that were stopped with a page stands on the base line; one of requests without a page hangs from it. A strip
below says how the list was in force.

Rules
  - A drawing shows only numbers that may be shown. A hidden number is a stub of one size, whatever it is.
  - The module cuts long ranges into panels, a year or a month each, with bars of one width and one scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from stoplist.core.counts import Outcome, Period, Shown

HEIGHT = 190.0
"""Height of the tallest bars up and down together, in pixels."""
STUB = 7.0
"""Length of the bar of a hidden number, in pixels."""
STRIP = 11.0

_LEAST = 1.5
_WIDEST_PANEL = 400
_THIN = 120
"""If a panel has more bars than this, they have no gap and no outline."""
_MOST_TICKS = 12
_LAST_LABEL = 94
_LAST_NARROW_LABEL = 82
"""From here on, in percent, a label would stick out at the right: on a wide page, and on a narrow one."""
_MOST_LINES = 4
_MARGIN = 9.0
_GAP = 10.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle. `kind` is the outcome, or "hidden"."""

    x: float
    width: float
    y: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of the strip on which the list was in force in one way."""

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the time axis. The page leaves out those with `is_minor` if there is little room."""

    x: float
    label: str
    is_minor: bool


@dataclass(frozen=True, slots=True)
class GridLine:
    """A line across, at a number of requests."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the drawing, with a name if there are several."""

    name: str
    bars: tuple[Bar, ...]
    strip: tuple[Run, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing: panels of one `height`, with the base line and the grid lines at the same places."""

    panels: tuple[Panel, ...]
    lines: tuple[GridLine, ...]
    base: float
    strip: float
    height: float
    is_thin: bool


type Numbers = Mapping[tuple[Period, Outcome], Shown]


def draw(
    periods: Sequence[Period], numbers: Numbers, in_force: Mapping[Period, str], write: Callable[[Shown], str]
) -> Plot:
    """Draw the numbers of a list over these periods.

    `in_force` says how the list was in force in a period. `write` gives the words for a number.
    """
    parts = _parts(periods)
    slots = max((len(part) for part in parts), default=1)
    up = _peak(numbers, is_up=True)
    down = _peak(numbers, is_up=False)
    scale = HEIGHT / max(up + down, 1)
    base = round(_MARGIN + max(up * scale, STUB), 2)
    has_down = any(not _is_up(outcome) for _, outcome in numbers)
    strip = round(base + (max(down * scale, STUB) if has_down else 0) + _GAP, 2)
    pen = _Pen(100 / slots, 0.0 if slots > _THIN else 0.18, base, scale, write)
    panels = []
    for number, part in enumerate(parts):
        # A panel ends with a year or a month. So the first one is aligned to its end, the others to their beginning.
        first = slots - len(part) if number == 0 and len(parts) > 1 else 0
        panels.append(
            Panel(
                _panel_name(part) if len(parts) > 1 else "",
                tuple(pen.bars(part, numbers, first)),
                tuple(pen.runs(part, in_force, first)),
                tuple(pen.ticks(part, first)),
            )
        )
    return Plot(
        tuple(panels), tuple(_lines(up, down, base, scale)), base, strip, strip + STRIP + _GAP * 2, slots > _THIN
    )


@dataclass(frozen=True, slots=True)
class _Pen:
    slot: float
    gap: float
    base: float
    scale: float
    write: Callable[[Shown], str]

    def bars(self, periods: Sequence[Period], numbers: Numbers, first: int) -> Iterator[Bar]:
        for place, period in enumerate(periods, first):
            for outcome in Outcome:
                shown = numbers.get((period, outcome))
                if shown is not None:
                    requests = shown.requests
                    height = STUB if requests is None else max(requests * self.scale, _LEAST)
                    yield Bar(
                        round((place + self.gap / 2) * self.slot, 4),
                        round((1 - self.gap) * self.slot, 4),
                        round(self.base - height if _is_up(outcome) else self.base, 2),
                        round(height, 2),
                        "hidden" if requests is None else outcome.value,
                        f"{period.name}: {self.write(shown)} {outcome.value}",
                    )

    def runs(self, periods: Sequence[Period], in_force: Mapping[Period, str], first: int) -> Iterator[Run]:
        placed = enumerate(periods, first)
        for kind, group in itertools.groupby(placed, lambda each: in_force[each[1]]):
            run = list(group)
            title = f"{run[0][1].through(run[-1][1])}: {kind}"
            yield Run(round(run[0][0] * self.slot, 4), round(len(run) * self.slot, 4), kind, title)

    def ticks(self, periods: Sequence[Period], first: int) -> Iterator[Tick]:
        places = {period: place for place, period in enumerate(periods, first)}
        for number, (period, label) in enumerate(_marks(periods, _MOST_TICKS * len(periods) * self.slot / 100)):
            x = round(places[period] * self.slot, 4)
            yield Tick(x, label if x < _LAST_LABEL else "", number % 2 == 1 or x >= _LAST_NARROW_LABEL)


def _is_up(outcome: Outcome) -> bool:
    return outcome is not Outcome.NOT_SHOWN


def _peak(numbers: Numbers, *, is_up: bool) -> int:
    return max((shown.requests or 0 for (_, outcome), shown in numbers.items() if _is_up(outcome) == is_up), default=0)


def _parts(periods: Sequence[Period]) -> list[list[Period]]:
    """The periods, cut into parts if they are too many to stand side by side."""
    if len(periods) <= _WIDEST_PANEL:
        return [list(periods)] if periods else []
    are_days = sum(_hour(period) is None for period in periods) * 2 > len(periods)
    cut = len("2026") if are_days else len("2026-06")
    return [list(group) for _, group in itertools.groupby(periods, lambda period: period.name[:cut])]


def _panel_name(part: Sequence[Period]) -> str:
    first, last = (_day(period) for period in (part[0], part[-1]))
    return f"{first:%Y}" if first.month != last.month or _hour(part[0]) is None else f"{first:%B %Y}"


def _lines(up: int, down: int, base: float, scale: float) -> Iterator[GridLine]:
    """Lines at round numbers, in both directions."""
    sizes = (size * 10**power for power in itertools.count() for size in (1, 2, 5))
    step = next(size for size in sizes if max(up, down) <= size * _MOST_LINES)
    yield GridLine(base, "0")
    for number in range(step, max(up, down) + 1, step):
        if number <= up:
            yield GridLine(round(base - number * scale, 2), f"{number:,}")
        if number <= down:
            yield GridLine(round(base + number * scale, 2), f"{number:,}")


# Periods by the calendar: by their names, since gates may count in several time zones


def _day(period: Period) -> date:
    return date.fromisoformat(period.name[:10])


def _hour(period: Period) -> int | None:
    """The hour at which the period begins; None for a day."""
    return int(period.name[11:13]) if len(period.name) > len("2026-06-01") else None


def _marks(periods: Sequence[Period], most: float) -> Iterator[tuple[Period, str]]:
    """The periods to mark on the time axis, each with its label; no more than there is room for."""
    for begins in (_begins_hour, _begins_quarter_of_day, _begins_day, _begins_week):
        marked = [period for period in periods if begins(period)]
        if 0 < len(marked) <= most:
            yield from ((period, _moment(period)) for period in marked)
            return
    for period in filter(_begins_month, periods):
        day = _day(period)
        yield period, f"{day:%Y}" if day.month == 1 else f"{day:%b}"


def _begins_hour(_: Period) -> bool:
    return True


def _begins_quarter_of_day(period: Period) -> bool:
    return (_hour(period) or 0) % 6 == 0


def _begins_day(period: Period) -> bool:
    return not _hour(period)


def _begins_week(period: Period) -> bool:
    return _begins_day(period) and _day(period).weekday() == 0


def _begins_month(period: Period) -> bool:
    return _begins_day(period) and _day(period).day == 1


def _moment(period: Period) -> str:
    if not _hour(period):
        return f"{_day(period).day} {_day(period):%b}"
    minutes = period.name[14:16] if period.name[13] == ":" else "00"
    return f"{_hour(period)}:{minutes}"
