"""Plots: bars as long as what may be shown, on axes that can be read however long the range is."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.counts import Outcome, Period, PeriodLength, Shown
from stoplist.tools.output import plot
from stoplist.tools.output.plot import Plot

PARIS = ZoneInfo("Europe/Paris")


# fixed time: a plot is drawn of the periods that it is given, without a clock


def periods(number: int, length: PeriodLength = "day", first: str = "2026-01-01") -> list[Period]:
    found = [Period.at(datetime.fromisoformat(first).replace(tzinfo=PARIS).timestamp(), length, PARIS)]
    while len(found) < number:
        found.append(Period.at(found[-1].ends, length, PARIS))
    return found


def drawn(
    over: list[Period], up: list[int | None], down: list[int | None] | None = None, in_force: list[str] | None = None
) -> Plot:
    """A plot of these numbers; there may be fewer of them than periods."""
    numbers = {
        (period, outcome): Shown(number, number is not None)
        for outcome, those in ((Outcome.STOPPED, up), (Outcome.NOT_SHOWN, down or []))
        for period, number in zip(over, those, strict=False)
    }
    kinds = dict(zip(over, in_force or ["enforced, fresh"] * len(over), strict=True))
    return plot.draw(over, numbers, kinds, lambda shown: f"{shown.requests}")


def labels(panel: plot.Panel) -> list[str]:
    return [tick.label for tick in panel.ticks]


NUMBERS = st.lists(st.none() | st.integers(2, 10**6).map(lambda number: number * 5), min_size=1, max_size=40)


@given(NUMBERS)
def test_bars_are_in_proportion_and_hidden_numbers_alike(numbers: list[int | None]) -> None:
    over = periods(len(numbers))
    found = drawn(over, numbers, numbers[::-1])
    (panel,) = found.panels
    peak = max((number or 0 for number in numbers), default=0)
    for bar, number in zip(panel.bars[::2], numbers, strict=True):
        assert bar.y + bar.height == pytest.approx(found.base, abs=0.02)
        if number is None:
            assert (bar.kind, bar.height) == ("hidden", plot.STUB)
        else:
            assert bar.kind == "stopped"
            assert bar.height == pytest.approx(max(number / peak * plot.HEIGHT / 2, 1.5), abs=0.01)
    for bar in panel.bars[1::2]:
        assert bar.y == found.base
        assert bar.y + bar.height < found.strip
    for rectangle in (*panel.bars, *panel.strip):
        assert 0 <= rectangle.x < rectangle.x + rectangle.width <= 100.01


def test_a_bar_has_its_number_in_words() -> None:
    found = drawn(periods(1), [120], [None])
    assert [bar.title for bar in found.panels[0].bars] == [
        "2026-01-01: 120 stopped",
        "2026-01-01: None page not shown",
    ]


@pytest.mark.parametrize(
    ("up", "down", "lines"),
    [
        pytest.param([10], None, ["0", "5", "10"], id="little"),
        pytest.param([230], [55], ["0", "100", "200"], id="both"),
        pytest.param([120], [90], ["0", "50", "50", "100"], id="a line on both sides"),
        pytest.param([12345], None, ["0", "5,000", "10,000"], id="much"),
        pytest.param([None], [None], ["0"], id="all is hidden"),
        pytest.param([], None, ["0"], id="nothing"),
    ],
)
def test_lines_stand_at_round_numbers(up: list[int | None], down: list[int | None] | None, lines: list[str]) -> None:
    found = drawn(periods(1), up, down)
    assert [line.label for line in found.lines] == lines
    assert found.lines[0].y == found.base


@pytest.mark.parametrize(
    ("number", "length", "first", "expected"),
    [
        pytest.param(7, "day", "2026-06-03", [f"{day} Jun" for day in range(3, 10)], id="a week: days"),
        pytest.param(30, "day", "2026-06-01", ["1 Jun", "8 Jun", "15 Jun", "22 Jun", "29 Jun"], id="a month"),
        pytest.param(200, "day", "2025-10-15", ["Nov", "Dec", "2026", "Feb", "Mar", "Apr", ""],
                     id="half a year: months"),
        pytest.param(5, "hour", "2026-06-01T22:00", ["22:00", "23:00", "2 Jun", "1:00", "2:00"], id="a night: hours"),
        pytest.param(48, "hour", "2026-06-01", ["1 Jun", "6:00", "12:00", "18:00", "2 Jun", "6:00", "12:00", "18:00"],
                     id="two days: quarters"),
        pytest.param(10 * 24, "hour", "2026-06-01", [f"{day} Jun" for day in range(1, 11)], id="ten days: days"),
    ],
)  # fmt: skip
def test_the_time_axis_has_as_many_marks_as_there_is_room_for(
    number: int, length: PeriodLength, first: str, expected: list[str]
) -> None:
    over = periods(number, length, first)
    (panel,) = drawn(over, [10] * number).panels
    assert labels(panel) == expected


def test_marks_where_clocks_are_changed_by_less_than_an_hour() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    start = Period.at(datetime(2026, 10, 4, 1, tzinfo=zone).timestamp(), "hour", zone)
    over = [start, Period.at(start.ends, "hour", zone)]
    assert labels(drawn(over, [10, 10]).panels[0]) == ["1:00", "2:30"]


def test_a_long_range_of_days_is_cut_by_years() -> None:
    over = periods(730, first="2024-11-22")
    found = drawn(over, [10] * 730)
    assert [panel.name for panel in found.panels] == ["2024", "2025", "2026"]
    assert [len(panel.bars) for panel in found.panels] == [40, 365, 325]
    assert len({bar.width for panel in found.panels for bar in panel.bars}) == 1
    assert found.panels[0].bars[-1].x == found.panels[1].bars[-1].x
    assert found.panels[1].bars[0].x == found.panels[2].bars[0].x == 0
    assert labels(found.panels[0]) == ["Dec"]
    assert labels(found.panels[1])[:3] == ["2025", "Feb", "Mar"]
    assert found.is_thin


def test_a_long_range_of_hours_is_cut_by_months() -> None:
    found = drawn(periods(24 * 40, "hour", "2026-10-20"), [10] * 24 * 40)
    assert [panel.name for panel in found.panels] == ["October 2026", "November 2026"]
    assert all(len(panel.ticks) <= 12 for panel in found.panels)


def test_a_range_that_is_not_long_is_not_cut() -> None:
    for number, length in ((400, "day"), (400, "hour")):
        (panel,) = drawn(periods(number, length), [10] * number).panels
        assert panel.name == ""


def test_the_strip_has_one_run_for_each_stretch() -> None:
    in_force = ["enforced, fresh"] * 3 + ["enforced, expired"] + ["not counting"] * 2
    found = drawn(periods(6), [10] * 4, in_force=in_force)
    assert [(run.kind, round(run.width), run.title) for run in found.panels[0].strip] == [
        ("enforced, fresh", 50, "2026-01-01 to 2026-01-03: enforced, fresh"),
        ("enforced, expired", 17, "2026-01-04: enforced, expired"),
        ("not counting", 33, "2026-01-05 to 2026-01-06: not counting"),
    ]
