"""Counts: closed periods, small numbers hidden, and no other number that would give them away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoplist.core.counts import Cell, Counts, Disclosure, PeriodLength, Row

STOPPED = Cell("worst-of", 7, "stop")
REFUSED = Cell(None, None, "refuse")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NOON = at("2026-06-01T12:00:00Z")


def counted(number: int, disclosure: Disclosure | None = None) -> int | None:
    """What is shown of a number of requests."""
    counts = Counts("day", disclosure or Disclosure(), NOON)
    counts.expect([STOPPED])
    for _ in range(number):
        counts.add(STOPPED)
    (row,) = counts.rows(partial=False)
    return row.requests


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        pytest.param(0, None, id="zero is hidden like any small count"),
        pytest.param(1, None, id="one"),
        pytest.param(9, None, id="largest that is hidden"),
        pytest.param(10, 10, id="smallest that is shown"),
        pytest.param(12, 10, id="rounded down"),
        pytest.param(13, 15, id="rounded up"),
        pytest.param(17, 15, id="rounded down again"),
        pytest.param(18, 20, id="rounded up again"),
        pytest.param(1002, 1000, id="a large count"),
    ],
)
def test_small_counts_are_hidden_and_others_rounded_to_5(count: int, shown: int | None) -> None:
    assert counted(count) == shown
    assert Disclosure().apply(count) == shown


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
    assert counted(count, Disclosure(hide_below=20, round_to=10)) == shown


@given(st.integers(0, 5000), st.integers(10, 1000), st.integers(5, 1000))
@example(10, 10, 1000)
@example(10, 10, 21)
def test_a_count_is_hidden_or_near_and_never_shown_as_zero(count: int, hide_below: int, round_to: int) -> None:
    """A count smaller than half a step may be hidden or shown as one step; as 0 it would say that nothing was."""
    shown = Disclosure(hide_below, round_to).apply(count)
    if count < hide_below:
        assert shown is None
    elif shown is not None:
        assert shown % round_to == 0
        assert abs(shown - count) <= max(round_to / 2, round_to - count)
        assert shown > 0


@pytest.mark.parametrize(
    ("length", "moment", "name", "end"),
    [
        pytest.param("day", "2026-06-01T00:00:00Z", "2026-06-01", "2026-06-02T00:00:00Z", id="first moment of a day"),
        pytest.param(
            "day", "2026-06-01T23:59:59.999Z", "2026-06-01", "2026-06-02T00:00:00Z", id="last moment of a day"
        ),
        pytest.param("day", "2026-06-02T00:30:00+02:00", "2026-06-01", "2026-06-02T00:00:00Z", id="a day in UTC"),
        pytest.param("day", "2026-12-31T12:00:00Z", "2026-12-31", "2027-01-01T00:00:00Z", id="last day of a year"),
        pytest.param("day", "2028-02-29T12:00:00Z", "2028-02-29", "2028-03-01T00:00:00Z", id="leap day"),
        pytest.param(
            "hour", "2026-06-01T12:00:00Z", "2026-06-01T12Z", "2026-06-01T13:00:00Z", id="first moment of an hour"
        ),
        pytest.param(
            "hour", "2026-06-01T12:59:59Z", "2026-06-01T12Z", "2026-06-01T13:00:00Z", id="last second of an hour"
        ),
        pytest.param("hour", "2026-06-01T23:30:00Z", "2026-06-01T23Z", "2026-06-02T00:00:00Z", id="last hour of a day"),
        pytest.param(
            "hour", "2026-06-01T02:30:00+02:00", "2026-06-01T00Z", "2026-06-01T01:00:00Z", id="an hour in UTC"
        ),
    ],
)
def test_a_period_is_named_and_ends_by_the_clock_in_utc(length: PeriodLength, moment: str, name: str, end: str) -> None:
    now = at(moment)
    counts = Counts(length, Disclosure(), now)
    counts.add(STOPPED)
    assert [row.period for row in counts.rows(partial=False)] == [name]
    assert counts.seconds_left(now) == pytest.approx(at(end) - now)
    assert counts.seconds_left(at(end) - 1) == 1
    assert counts.seconds_left(at(end)) == 0
    assert counts.seconds_left(at(end) + 3600) == 0


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), st.sampled_from(["day", "hour"])
)
def test_a_period_is_open_and_no_longer_than_it_should_be(moment: datetime, length: PeriodLength) -> None:
    now = moment.timestamp()
    left = Counts(length, Disclosure(), now).seconds_left(now)
    assert 0 < left <= (timedelta(days=1) if length == "day" else timedelta(hours=1)).total_seconds()
    following = Counts(length, Disclosure(), now + left)
    assert following.seconds_left(now + left) == pytest.approx(86400 if length == "day" else 3600)


def test_each_cell_has_a_row_of_its_own() -> None:
    counts = Counts("day", Disclosure(), NOON)
    cells = [
        STOPPED,
        Cell("worst-of", 8, "stop"),
        Cell("worst-of", 7, "observe"),
        Cell("own", 7, "stop"),
        REFUSED,
    ]
    for number, cell in enumerate(cells, 2):
        for _ in range(10 * number):
            counts.add(cell)
    rows = counts.rows(partial=False)
    assert {row.cell: row.requests for row in rows} == {cell: 10 * number for number, cell in enumerate(cells, 2)}
    assert len(rows) == len(cells)


def test_an_expected_cell_has_a_row_like_one_with_a_small_count() -> None:
    """Whether there is a row must not tell whether anybody was stopped."""
    silent, single = (Counts("day", Disclosure(), NOON) for _ in range(2))
    for counts in (silent, single):
        counts.expect([STOPPED])
    single.add(STOPPED)
    assert silent.rows(partial=False) == single.rows(partial=False) == [Row("2026-06-01", STOPPED, None, partial=False)]


def test_expecting_a_cell_forgets_nothing_that_was_counted() -> None:
    counts = Counts("day", Disclosure(), NOON)
    for _ in range(10):
        counts.add(STOPPED)
    counts.expect([STOPPED])
    assert [row.requests for row in counts.rows(partial=False)] == [10]


def test_the_order_of_rows_does_not_tell_the_order_of_hits() -> None:
    one, other = (Counts("day", Disclosure(), NOON) for _ in range(2))
    for counts, cells in ((one, (STOPPED, REFUSED)), (other, (REFUSED, STOPPED))):
        for cell in cells:
            counts.add(cell)
    assert one.rows(partial=False) == other.rows(partial=False)


@pytest.mark.parametrize("partial", [True, False])
def test_a_period_that_did_not_run_to_its_end_says_so(partial: bool) -> None:
    counts = Counts("day", Disclosure(), NOON)
    counts.add(STOPPED)
    assert [row.partial for row in counts.rows(partial=partial)] == [partial]


def test_a_period_without_any_cell_has_no_row() -> None:
    assert Counts("day", Disclosure(), NOON).rows(partial=False) == []


def test_counts_are_never_shown_before_they_are_disclosed() -> None:
    counts = Counts("day", Disclosure(), NOON)
    for _ in range(1234):
        counts.add(STOPPED)
    assert "1234" not in f"{counts!r} {counts}"
    assert "worst-of" not in f"{counts!r} {counts}"
