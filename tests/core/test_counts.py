"""Counts: closed periods, small numbers hidden, and no other number that would give them away.

An attacker stands here as well, who has every report of every gate, and knows the rules. It is tried on rules that
are too weak first: an attacker that finds nothing there would prove nothing here.
"""

from __future__ import annotations

import itertools
import zoneinfo
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoplist.core.counts import (
    Cell,
    Count,
    Disclosure,
    Outcome,
    Period,
    PeriodLength,
    Row,
    Shown,
    cells_of,
    total,
)
from tests.examples import examples

DAY, HOUR = 86400, 3600
STOPPED = Cell("worst-of", 7, Outcome.STOPPED)
PASSED = Cell(None, None, Outcome.PASSED)
MONDAY = Period.at(1780315200, "day")  # fixed time: a period is computed from its argument alone
TUESDAY = Period.at(MONDAY.ends, "day")
HIDDEN = Shown(None, is_complete=False)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def counted(requests: int, cell: Cell = STOPPED, period: Period = MONDAY) -> Count:
    return Count(period, cell, requests, fresh=DAY, expired=0)


# Periods


@pytest.mark.parametrize(
    ("zone", "moment", "name", "starts", "hours"),
    [
        pytest.param("UTC", "2026-06-01T00:00:00Z", "2026-06-01", "2026-06-01T00:00:00Z", 24, id="first moment"),
        pytest.param("UTC", "2026-06-01T23:59:59.999Z", "2026-06-01", "2026-06-01T00:00:00Z", 24, id="last moment"),
        pytest.param("UTC", "2026-12-31T12:00:00Z", "2026-12-31", "2026-12-31T00:00:00Z", 24, id="last day of a year"),
        pytest.param("UTC", "2028-02-29T12:00:00Z", "2028-02-29", "2028-02-29T00:00:00Z", 24, id="leap day"),
        pytest.param(
            "Europe/Paris", "2026-06-01T22:30:00Z", "2026-06-02", "2026-06-02T00:00:00+02:00", 24, id="a local day"
        ),
        pytest.param(
            "Europe/Paris", "2026-03-29T12:00:00Z", "2026-03-29", "2026-03-29T00:00:00+01:00", 23, id="clocks forward"
        ),
        pytest.param(
            "Europe/Paris", "2026-10-25T12:00:00Z", "2026-10-25", "2026-10-25T00:00:00+02:00", 25, id="clocks back"
        ),
        pytest.param(
            "Asia/Kathmandu", "2026-06-01T12:00:00Z", "2026-06-01", "2026-06-01T00:00:00+05:45", 24, id="a quarter"
        ),
        pytest.param(
            *("Australia/Lord_Howe", "2026-10-04T00:00:00Z", "2026-10-04", "2026-10-04T00:00:00+10:30", 23.5),
            id="half an hour forward",
        ),
        pytest.param(
            *("America/Havana", "2026-11-01T04:30:00Z", "2026-11-01", "2026-11-01T00:00:00-04:00", 25),
            id="midnight comes twice, first one",
        ),
        pytest.param(
            *("America/Havana", "2026-11-01T05:30:00Z", "2026-11-01", "2026-11-01T00:00:00-04:00", 25),
            id="midnight comes twice, second one",
        ),
        pytest.param(
            *("America/Havana", "2026-03-08T12:00:00Z", "2026-03-08", "2026-03-08T01:00:00-04:00", 23),
            id="midnight never comes",
        ),
        pytest.param(
            *("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07", "2010-11-07T00:00:00-02:30", 25),
            id="clocks back over midnight: the evening that comes again belongs to the day that had begun",
        ),
        pytest.param(
            *("Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29", "2011-12-29T00:00:00-10:00", 24),
            id="the next day never comes",
        ),
    ],
)
def test_a_day_goes_from_one_local_midnight_to_the_next(
    zone: str, moment: str, name: str, starts: str, hours: float
) -> None:
    day = Period.at(at(moment), "day", zoneinfo.ZoneInfo(zone))
    assert (day.name, day.starts, (day.ends - day.starts) / HOUR) == (name, at(starts), hours)


@pytest.mark.parametrize(
    ("zone", "moment", "name", "starts", "minutes"),
    [
        pytest.param("UTC", "2026-06-01T12:00:00Z", "2026-06-01T12Z", "2026-06-01T12:00:00Z", 60, id="first moment"),
        pytest.param("UTC", "2026-06-01T12:59:59Z", "2026-06-01T12Z", "2026-06-01T12:00:00Z", 60, id="last second"),
        pytest.param("UTC", "2026-06-01T23:30:00Z", "2026-06-01T23Z", "2026-06-01T23:00:00Z", 60, id="last of a day"),
        pytest.param(
            "Europe/Paris", "2026-06-01T22:30:00Z", "2026-06-02T00+02:00", "2026-06-01T22:00:00Z", 60, id="a local hour"
        ),
        pytest.param(
            "Europe/London", "2026-01-01T10:30:00Z", "2026-01-01T10+00:00", "2026-01-01T10:00:00Z", 60, id="not UTC"
        ),
        pytest.param(
            *("Asia/Kolkata", "2026-06-01T12:00:00Z", "2026-06-01T17+05:30", "2026-06-01T11:30:00Z", 60),
            id="of a zone with half an hour",
        ),
        pytest.param(
            *("Europe/Paris", "2026-10-25T00:30:00Z", "2026-10-25T02+02:00", "2026-10-25T00:00:00Z", 60),
            id="one that comes twice, first one",
        ),
        pytest.param(
            *("Europe/Paris", "2026-10-25T01:30:00Z", "2026-10-25T02+01:00", "2026-10-25T01:00:00Z", 60),
            id="one that comes twice, second one",
        ),
        pytest.param(
            *("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-10-04T02:30+11:00", "2026-10-03T15:30:00Z", 60),
            id="after clocks were set by half an hour",
        ),
        pytest.param(
            *("Australia/Lord_Howe", "2026-10-04T12:45:00Z", "2026-10-04T23:30+11:00", "2026-10-04T12:30:00Z", 30),
            id="the last one of such a day",
        ),
        pytest.param(
            *("Australia/Lord_Howe", "2026-10-04T13:15:00Z", "2026-10-05T00+11:00", "2026-10-04T13:00:00Z", 60),
            id="the day after it",
        ),
    ],
)
def test_an_hour_is_one_of_the_local_day(zone: str, moment: str, name: str, starts: str, minutes: int) -> None:
    hour = Period.at(at(moment), "hour", zoneinfo.ZoneInfo(zone))
    assert (hour.name, hour.starts, (hour.ends - hour.starts) / 60) == (name, at(starts), minutes)


MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(datetime.timestamp)
LENGTHS = st.sampled_from(["day", "hour"])
ODD = ["America/Havana", "America/St_Johns", "Antarctica/Troll", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Gaza"]
ZONES = st.sampled_from(ODD) | st.sampled_from(sorted(zoneinfo.available_timezones()))


@settings(max_examples=examples(500))
@given(MOMENTS, LENGTHS, ZONES)
@example(at("2010-11-07T03:00:00Z"), "day", "America/St_Johns")
@example(at("2026-10-03T15:30:00Z"), "hour", "Australia/Lord_Howe")
def test_a_period_holds_its_moments_and_the_next_one_follows(now: float, length: PeriodLength, name: str) -> None:
    zone = zoneinfo.ZoneInfo(name)
    period = Period.at(now, length, zone)
    assert period.starts <= now < period.ends
    assert 0 < period.ends - period.starts <= (27 * HOUR if length == "day" else HOUR)
    assert Period.at(period.starts, length, zone) == Period.at(period.ends - 1, length, zone) == period
    following = Period.at(period.ends, length, zone)
    assert following.starts == period.ends
    assert following.name != period.name


@given(MOMENTS, LENGTHS)
def test_a_period_is_open_until_it_ends(now: float, length: PeriodLength) -> None:
    period = Period.at(now, length)
    assert period.seconds_left(now) == pytest.approx(period.ends - now)
    assert period.seconds_left(now) > 0
    assert period.seconds_left(period.ends - 1) == 1
    assert period.seconds_left(period.ends) == period.seconds_left(period.ends + HOUR) == 0


# What is shown of one gate, and of several


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        pytest.param(0, None, id="zero is hidden like any small number"),
        pytest.param(1, None, id="one"),
        pytest.param(9, None, id="largest that is hidden"),
        pytest.param(10, 10, id="smallest that is shown"),
        pytest.param(12, 10, id="rounded down"),
        pytest.param(13, 15, id="rounded up"),
        pytest.param(17, 15, id="rounded down again"),
        pytest.param(18, 20, id="rounded up again"),
        pytest.param(1002, 1000, id="a large number"),
    ],
)
def test_small_numbers_are_hidden_and_others_rounded_to_5(count: int, shown: int | None) -> None:
    assert Disclosure().show([count]) == Shown(shown, is_complete=shown is not None)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        pytest.param(19, None, id="hidden"),
        pytest.param(20, 20, id="shown"),
        pytest.param(24, 20, id="rounded down"),
        pytest.param(25, 30, id="half is rounded up"),
    ],
)
def test_a_policy_can_hide_and_round_more(count: int, shown: int | None) -> None:
    assert Disclosure(hide_below=20, round_to=10).show([count]).requests == shown


@given(st.integers(0, 5000), st.integers(10, 1000), st.integers(5, 1000))
@example(10, 10, 1000)
@example(10, 10, 21)
def test_a_count_is_hidden_or_near_and_never_shown_as_zero(count: int, hide_below: int, round_to: int) -> None:
    """One smaller than half a step is shown as one step; as 0 it would say that nothing was counted."""
    shown = Disclosure(hide_below, round_to).show([count]).requests
    if count < hide_below:
        assert shown is None
    else:
        assert shown is not None
        assert shown > 0
        assert shown % round_to == 0
        assert abs(shown - count) <= max(round_to / 2, round_to - count)


@pytest.mark.parametrize(
    ("gates", "shown"),
    [
        pytest.param([], Shown(None, is_complete=True), id="no gate"),
        pytest.param([100, 213], Shown(315, is_complete=True), id="no small one"),
        pytest.param([100, 9], Shown(100, is_complete=False), id="one small one is left out"),
        pytest.param([9, 9], HIDDEN, id="two small ones: their sum would tell of both"),
        pytest.param([0, 0, 0], HIDDEN, id="three that are nothing"),
        pytest.param([3, 3, 3], HIDDEN, id="three with a sum below 10"),
        pytest.param([3, 3, 4], Shown(10, is_complete=True), id="three with the least sum that is shown"),
        pytest.param([9, 9, 0], Shown(20, is_complete=True), id="three with the largest sum that is shown"),
        pytest.param([9, 9, 1], HIDDEN, id="three with a sum that none of them can be 0 in"),
        pytest.param([100, 3, 3, 4], Shown(110, is_complete=True), id="a large one, and small ones that enter"),
        pytest.param([100, 9, 9, 1], Shown(100, is_complete=False), id="a large one, and small ones left out"),
    ],
)
def test_small_numbers_of_gates_enter_their_sum_where_it_leaves_each_of_them_open(
    gates: list[int], shown: Shown
) -> None:
    assert Disclosure().show(gates) == shown


# Rows


def test_there_is_a_row_for_each_period_list_and_outcome() -> None:
    cells = [
        STOPPED,
        Cell("worst-of", 7, Outcome.NOT_SHOWN),
        Cell("own", 7, Outcome.OBSERVED),
        Cell(None, None, Outcome.REFUSED),
        PASSED,
    ]
    counts = [counted(10 * number, cell) for number, cell in enumerate(cells, 1)]
    rows = Disclosure().rows([[*counts, counted(70, period=TUESDAY)]])
    assert [(row.period, row.list, row.outcome, row.shown.requests) for row in rows] == [
        (MONDAY, "own", Outcome.OBSERVED, 30),
        (MONDAY, "worst-of", Outcome.STOPPED, 10),
        (MONDAY, "worst-of", Outcome.NOT_SHOWN, 20),
        (MONDAY, None, Outcome.REFUSED, 40),
        (MONDAY, None, Outcome.PASSED, 50),
        (TUESDAY, "worst-of", Outcome.STOPPED, 70),
    ]


def test_serials_are_added_up_before_anything_is_hidden() -> None:
    serials = [counted(6, Cell("worst-of", serial, Outcome.STOPPED)) for serial in (8, 7)]
    (row,) = Disclosure().rows([serials])
    assert row == Row(MONDAY, "worst-of", Outcome.STOPPED, (7, 8), Shown(10, is_complete=True))


def test_gates_are_added_up_by_the_rules_for_gates() -> None:
    """And each gate's serials before that: 6 and 6 of one gate are 12, of two gates they are two small numbers."""
    serials = [counted(6, Cell("worst-of", serial, Outcome.STOPPED)) for serial in (7, 8)]
    (row,) = Disclosure().rows([serials, [counted(100)]])
    assert row.shown == Shown(110, is_complete=True)
    (row,) = Disclosure().rows([[each] for each in serials])
    assert (row.serials, row.shown) == ((7, 8), HIDDEN)


def test_gates_with_other_periods_have_rows_of_their_own() -> None:
    elsewhere = Period.at(MONDAY.starts, "day", zoneinfo.ZoneInfo("Europe/Paris"))
    hour = Period.at(MONDAY.starts, "hour")
    rows = Disclosure().rows([[counted(20, period=period)] for period in (MONDAY, elsewhere, hour)])
    assert sorted(row.period for row in rows) == sorted([MONDAY, elsewhere, hour])
    assert {row.shown.requests for row in rows} == {20}


def test_an_expected_cell_has_a_row_like_one_with_a_small_count() -> None:
    silent, single, several = (Disclosure().rows([[counted(number)]]) for number in (0, 1, 9))
    assert silent == single == several == [Row(MONDAY, "worst-of", Outcome.STOPPED, (7,), HIDDEN)]


def test_nothing_counted_anywhere_gives_no_row() -> None:
    assert Disclosure().rows([]) == Disclosure().rows([[], []]) == []


CELLS = st.sampled_from([STOPPED, Cell("worst-of", 8, Outcome.STOPPED), Cell("own", 1, Outcome.OBSERVED), PASSED])
GATE = st.lists(st.builds(counted, st.integers(0, 40), CELLS, st.sampled_from([MONDAY, TUESDAY])), max_size=12)


@given(st.lists(GATE, max_size=4), st.randoms())
def test_the_order_of_rows_does_not_tell_the_order_of_hits(gates: list[list[Count]], random) -> None:
    shuffled = [random.sample(gate, len(gate)) for gate in random.sample(gates, len(gates))]
    assert Disclosure().rows(shuffled) == Disclosure().rows(gates)


def test_a_total_is_the_sum_of_what_is_shown() -> None:
    rows = Disclosure().rows([[counted(14), counted(9, period=TUESDAY), counted(1237, PASSED)]])
    assert [row.shown.requests for row in rows] == [15, 1235, None]
    assert total(rows) == Shown(1250, is_complete=False)
    assert total(rows[:2]) == Shown(1250, is_complete=True)
    assert total(rows[2:]) == HIDDEN
    assert total([]).requests is None


def test_each_list_in_force_has_cells_and_so_have_requests_that_no_list_decides() -> None:
    assert cells_of({("worst-of", 7): True, ("own", 3): False}) == [
        Cell(None, None, Outcome.PASSED),
        Cell(None, None, Outcome.REFUSED),
        Cell("worst-of", 7, Outcome.STOPPED),
        Cell("worst-of", 7, Outcome.NOT_SHOWN),
        Cell("own", 3, Outcome.OBSERVED),
    ]


def test_an_exact_number_is_in_no_text_of_its_own() -> None:
    count = counted(1237)
    for text in (repr(count), str(count), f"{[count]}", f"{ {MONDAY: count} }"):
        assert "1237" not in text


# The attacker


type World = tuple[int, ...]
"""The exact numbers of one cell, one for each gate; or of several cells, gate by gate."""


def leaks(
    worlds: Iterable[World], publish: Callable[[World], Hashable], hide_below: int
) -> Iterator[tuple[World, int, set[int]]]:
    """Each hidden number that is not open, for whoever has what is published and knows how it came to be.

    For each publication that is possible, all worlds with it are compared: a number below `hide_below` must be
    able to be anything from 0 on. Yields a world, the place of the number in it, and what it can be.
    """
    alike: defaultdict[Hashable, list[World]] = defaultdict(list)
    for world in worlds:
        alike[publish(world)].append(world)
    for group in alike.values():
        for place in range(len(group[0])):
            possible = {world[place] for world in group}
            if min(possible) < hide_below and possible != set(range(hide_below)):
                yield group[0], place, possible


def publication(disclosure: Disclosure) -> Callable[[World], Hashable]:
    """What is published of a cell: each gate's own number, and that of all of them."""
    return lambda world: (tuple(disclosure.show([count]) for count in world), disclosure.show(world))


def worlds_of(places: int, most: int) -> Iterator[World]:
    return itertools.product(range(most + 1), repeat=places)


@pytest.mark.parametrize("gates", [1, 2, 3, 4])
@pytest.mark.parametrize("round_to", [1, 2, 3, 5])
@pytest.mark.parametrize("hide_below", [1, 2, 3, 4])
def test_a_hidden_number_can_be_anything_in_every_world(hide_below: int, round_to: int, gates: int) -> None:
    publish = publication(Disclosure(hide_below, round_to))
    assert not list(leaks(worlds_of(gates, 6), publish, hide_below))


class SumOfAll(Disclosure):
    """Hides a sum over gates only where it is small itself."""

    def show(self, gates: Sequence[int]) -> Shown:
        summed = sum(gates)
        return Shown(None if summed < self.hide_below else self._round(summed), is_complete=True)


class SumFromBelow(Disclosure):
    """Adds small numbers up that are enough together, and looks at no upper bound."""

    def show(self, gates: Sequence[int]) -> Shown:
        small = [count for count in gates if count < self.hide_below]
        if len(gates) > 1 and len(small) > 1 and sum(small) >= self.hide_below:
            return Shown(self._round(sum(gates)), is_complete=True)
        return super().show([count for count in gates if count >= self.hide_below] or [0])


class SumToAbove(Disclosure):
    """Adds small numbers up that are few enough together, and looks at no lower bound."""

    def show(self, gates: Sequence[int]) -> Shown:
        small = [count for count in gates if count < self.hide_below]
        if small and sum(small) <= (len(small) - 1) * (self.hide_below - 1):
            return Shown(self._round(sum(gates)) if sum(gates) else None, is_complete=True)
        return super().show(gates)


class OneMore(Disclosure):
    """Is one off at the upper bound."""

    def show(self, gates: Sequence[int]) -> Shown:
        small = [count for count in gates if count < self.hide_below]
        if len(small) > 1 and sum(small) == (len(small) - 1) * (self.hide_below - 1) + 1:
            return Shown(self._round(sum(gates)), is_complete=True)
        return super().show(gates)


class ZeroShown(Disclosure):
    """Hides small numbers, and shows that there was none."""

    def show(self, gates: Sequence[int]) -> Shown:
        return super().show(gates) if sum(gates) else Shown(0, is_complete=True)


class RoundedFirst(Disclosure):
    """Hides what is small once it is rounded."""

    def show(self, gates: Sequence[int]) -> Shown:
        summed = self._round(sum(gates)) if sum(gates) else 0
        return Shown(None if summed < self.hide_below else summed, is_complete=True)


@pytest.mark.parametrize("weak", [SumOfAll, SumFromBelow, SumToAbove, OneMore, ZeroShown, RoundedFirst])
def test_the_attacker_sees_through_rules_that_are_too_weak(weak: type[Disclosure]) -> None:
    for round_to in (1, 2):
        found = [
            leak for gates in (1, 2, 3, 4) for leak in leaks(worlds_of(gates, 6), publication(weak(3, round_to)), 3)
        ]
        assert found, f"rounded to {round_to}"


@dataclass(frozen=True)
class Reports:
    """All that is published of two cells by three gates: the rows of each gate, of all, and every total of them."""

    disclosure: Disclosure
    cells: tuple[tuple[Period, Cell], ...]
    is_judged_shown: bool = False
    are_totals_exact: bool = False

    def __call__(self, world: World) -> Hashable:
        pairs = [world[at : at + len(self.cells)] for at in range(0, len(world), len(self.cells))]
        gates = [
            [counted(number, cell, period) for number, (period, cell) in zip(pair, self.cells, strict=True)]
            for pair in pairs
        ]
        published: list[Hashable] = []
        for group in (*([gate] for gate in gates), gates):
            rows = self.disclosure.rows(group)
            published += [*(row.shown for row in rows), total(rows), *(total([row]) for row in rows)]
            everything = sum(count.requests for gate in group for count in gate)
            if self.are_totals_exact and everything >= self.disclosure.hide_below:
                published.append(everything)
            if self.is_judged_shown:
                published.append(everything // self.disclosure.round_to)
        return tuple(published)


TWO_CELLS = [
    pytest.param(((MONDAY, STOPPED), (TUESDAY, STOPPED)), id="periods"),
    pytest.param(((MONDAY, STOPPED), (MONDAY, Cell("own", 1, Outcome.STOPPED))), id="lists"),
    pytest.param(((MONDAY, STOPPED), (MONDAY, Cell("worst-of", 7, Outcome.NOT_SHOWN))), id="outcomes"),
    pytest.param(((MONDAY, STOPPED), (MONDAY, PASSED)), id="stopped and passed"),
]


@pytest.mark.parametrize("cells", TWO_CELLS)
def test_totals_over_periods_lists_and_outcomes_add_nothing(cells: tuple[tuple[Period, Cell], ...]) -> None:
    publish = Reports(Disclosure(3, 1), cells)
    assert not list(leaks(worlds_of(6, 4), publish, 3))


@pytest.mark.parametrize("cells", TWO_CELLS)
@pytest.mark.parametrize("too_much", ["is_judged_shown", "are_totals_exact"])
def test_the_attacker_sees_through_totals_that_are_not_of_what_is_shown(
    cells: tuple[tuple[Period, Cell], ...], too_much: str
) -> None:
    publish = Reports(Disclosure(3, 1), cells, **{too_much: True})
    assert next(leaks(worlds_of(4, 4), publish, 3), None)


def could_be(publish: Callable[[World], Hashable], world: World, place: int, value: int, hide_below: int) -> bool:
    """Whether another world looks the same in which the hidden number at `place` is `value`.

    Two are tried: what it has more or less goes to or comes from the other hidden ones; those are all nothing.
    """
    hidden = [at for at, count in enumerate(world) if count < hide_below and at != place]
    moved, left = list(world), sum(world[at] for at in (place, *hidden)) - value
    moved[place] = value
    for at in hidden:
        moved[at] = max(0, min(left, hide_below - 1))
        left -= moved[at]
    alone = [value if at == place else 0 if at in hidden else count for at, count in enumerate(world)]
    return publish(world) in (publish(tuple(moved)), publish(tuple(alone)))


@st.composite
def hidden_numbers(draw: st.DrawFn) -> tuple[Disclosure, World, int, int]:
    """Rules as a policy may have them, what some gates have counted, one that is hidden, and what it could be."""
    hide_below = draw(st.integers(10, 60))
    small = st.integers(0, hide_below - 1) | st.sampled_from([0, 1, hide_below - 2, hide_below - 1])
    hidden = draw(st.lists(small, min_size=1, max_size=6))
    large = draw(st.lists(st.integers(hide_below, 400), max_size=6 - len(hidden)))
    world = tuple(draw(st.permutations(hidden + large)))
    place = draw(st.sampled_from([at for at, count in enumerate(world) if count < hide_below]))
    return Disclosure(hide_below, draw(st.integers(5, 100))), world, place, draw(small)


@settings(max_examples=examples(2000))
@given(hidden_numbers())
@example((Disclosure(), (9, 9, 0), 2, 9))
@example((Disclosure(), (9, 9, 1), 2, 0))
@example((Disclosure(), (3, 3, 4), 0, 9))
@example((Disclosure(), (9, 9, 9, 9, 9, 9), 0, 0))
def test_a_hidden_number_of_any_size_could_be_any_other(drawn: tuple[Disclosure, World, int, int]) -> None:
    disclosure, world, place, value = drawn
    assert could_be(publication(disclosure), world, place, value, disclosure.hide_below)


@pytest.mark.parametrize(
    ("weak", "world", "value"),
    [
        pytest.param(SumOfAll(), (5, 100), 0, id="the sum of all"),
        pytest.param(SumFromBelow(), (9, 9), 0, id="no upper bound"),
        pytest.param(SumToAbove(), (0, 0, 0), 9, id="no lower bound"),
        pytest.param(OneMore(round_to=1), (9, 9, 1), 0, id="one off at the upper bound"),
        pytest.param(ZeroShown(), (0, 100), 1, id="zero is shown"),
    ],
)
def test_a_hidden_number_could_not_under_rules_that_are_too_weak(weak: Disclosure, world: World, value: int) -> None:
    assert could_be(publication(Disclosure(weak.hide_below, weak.round_to)), world, 0, value, weak.hide_below)
    assert not could_be(publication(weak), world, 0, value, weak.hide_below)
