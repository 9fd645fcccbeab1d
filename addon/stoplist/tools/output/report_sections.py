"""Sections: the numbers of a report as its tables show them, whatever the format."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stoplist.core.counts import Outcome, Period, Row, Shown, total
from stoplist.tools.reports.report import Coverage, Report


@dataclass(frozen=True, slots=True)
class Freshness:
    """In how many of the periods a fresh list was enforced, or observed, and for how many seconds it was in force."""

    list: str
    is_enforced: bool
    fresh: int
    periods: int
    seconds: int


@dataclass(frozen=True, slots=True)
class TableRow:
    """A period of a table, or several in which there is nothing to show; `note` says why."""

    name: str
    serials: str = ""
    shown: Mapping[Outcome, Shown] | None = None
    in_force: str = ""
    hours: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of the shown numbers of an outcome; the number of periods in which one is shown, and of all that have
    one."""

    outcome: Outcome
    shown: Shown
    shown_in: int
    periods: int


@dataclass(frozen=True, slots=True)
class ListSection:
    """The table of a list, or of the requests that no list decided."""

    list: str | None
    lines: tuple[TableRow, ...]
    totals: tuple[Total, ...]
    freshness: tuple[Freshness, ...]


def sections(report: Report) -> list[ListSection]:
    """A table for each list, those that were enforced first, and one for the requests that no list decided."""
    names = {row.list for row in report.rows}
    enforced = {each.list for each in report.coverage if each.is_enforced}
    order = sorted(names, key=lambda name: (name is None, name not in enforced, name or ""))
    return [_section(report, name) for name in order]


def _section(report: Report, name: str | None) -> ListSection:
    rows = [row for row in report.rows if row.list == name]
    coverage = [each for each in report.coverage if each.list == name]
    return ListSection(
        name, tuple(_lines(report, rows, coverage)), tuple(_totals(rows)), tuple(_freshness(report, coverage))
    )


def _totals(rows: Iterable[Row]) -> Iterator[Total]:
    rows_of: defaultdict[Outcome, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of[row.outcome].append(row)
    for outcome in Outcome:
        if found := rows_of[outcome]:
            yield Total(outcome, total(found), sum(row.shown.requests is not None for row in found), len(found))


def _freshness(report: Report, coverage: Sequence[Coverage]) -> Iterator[Freshness]:
    for is_enforced in (True, False):
        found = [each for each in coverage if each.is_enforced is is_enforced]
        if found:
            fresh = sum(each.is_fresh for each in found)
            seconds = sum(each.fresh + each.expired for each in found)
            yield Freshness(found[0].list, is_enforced, fresh, len(report.periods), seconds)


def _lines(report: Report, rows: Sequence[Row], coverage: Sequence[Coverage]) -> Iterator[TableRow]:
    rows_of = by_period(rows)
    coverage_of = by_period(coverage)
    is_alike = len({tuple(each.is_enforced for each in found) for found in coverage_of.values()}) == 1
    write = _age if is_alike else in_force

    def note(period: Period) -> str:
        if period in report.silent:
            return "no gate was counting"
        return "" if period in rows_of else "the list was not in force"

    for (why, _), group in itertools.groupby(report.periods, lambda each: (note(each), note(each) or each)):
        periods = list(group)
        if why:
            yield TableRow(periods[0].through(periods[-1]), note=why)
            continue
        (period,) = periods
        found = coverage_of.get(period, [])
        yield TableRow(
            period.name,
            " ".join(str(serial) for serial in sorted({serial for row in rows_of[period] for serial in row.serials})),
            {row.outcome: row.shown for row in rows_of[period]},
            " and ".join(dict.fromkeys(write(each) for each in found)),
            " and ".join(dict.fromkeys(f"{(each.fresh + each.expired) / 3600:.1f}" for each in found)),
        )


def by_period[T: (Row, Coverage)](values: Iterable[T]) -> dict[Period, list[T]]:
    found: defaultdict[Period, list[T]] = defaultdict(list)
    for value in values:
        found[value.period].append(value)
    return dict(found)


def how_used(is_enforced: bool) -> str:
    return "enforced" if is_enforced else "observed"


def _age(coverage: Coverage) -> str:
    if coverage.is_fresh:
        return "fresh"
    return "partly expired" if coverage.fresh else "expired"


def in_force(coverage: Coverage) -> str:
    return f"{how_used(coverage.is_enforced)}, {_age(coverage)}"
