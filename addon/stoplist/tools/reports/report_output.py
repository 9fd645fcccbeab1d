"""Rendering: a report as a table for a terminal, as CSV, as JSON, or as one page of HTML.

Rules
  - A rendering says what the report says, and nothing of its own: no clock, no number that is not in the report.
  - A hidden number looks alike wherever it stands, and is never written as a number.
  - HTML is one file: no script, nothing from elsewhere.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

import jinja2

from stoplist.core.counts import Outcome, Period, Row, Shown, total
from stoplist.core.times import format_time
from stoplist.tools.output import plot
from stoplist.tools.reports.report import Coverage, ListEvent, Report
from stoplist.tools.selftest.checks import CheckName, CheckState
from stoplist.tools.selftest.results import NotPassed

_TEMPLATES = resources.files("stoplist.tools.reports") / "templates"
_WIDTH = 80
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Freshness:
    """In how many of the periods a fresh list was enforced, or observed; for how many seconds it was in force."""

    list: str
    is_enforced: bool
    fresh: int
    periods: int
    seconds: int


@dataclass(frozen=True, slots=True)
class TableRow:
    """A period of a table, or several in which there is nothing to show: `note` says why."""

    name: str
    serials: str = ""
    shown: Mapping[Outcome, Shown] | None = None
    in_force: str = ""
    hours: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of the numbers of an outcome that are shown, and in how many periods of all that have one they are."""

    outcome: Outcome
    shown: Shown
    shown_in: int
    periods: int


@dataclass(frozen=True, slots=True)
class Section:
    """The table of a list, or of the requests that no list decided."""

    list: str | None
    lines: tuple[TableRow, ...]
    totals: tuple[Total, ...]
    freshness: tuple[Freshness, ...]


def sections(report: Report) -> list[Section]:
    """A table for each list, those that were enforced first, and one for the requests that no list decided."""
    names = {row.list for row in report.rows}
    enforced = {each.list for each in report.coverage if each.is_enforced}
    order = sorted(names, key=lambda name: (name is None, name not in enforced, name or ""))
    return [_section(report, name) for name in order]


def _section(report: Report, name: str | None) -> Section:
    rows = [row for row in report.rows if row.list == name]
    coverage = [each for each in report.coverage if each.list == name]
    return Section(
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
    rows_of = _by_period(rows)
    coverage_of = _by_period(coverage)
    is_alike = len({tuple(each.is_enforced for each in found) for found in coverage_of.values()}) == 1
    write = _age if is_alike else _in_force

    def note(period: Period) -> str:
        if period in report.silent:
            return "no gate was counting"
        return "" if period in rows_of else "the list was not in force"

    for (why, _), group in itertools.groupby(report.periods, lambda each: (note(each), note(each) or each)):
        periods = list(group)
        if why:
            yield TableRow(plot.span(periods[0], periods[-1]), note=why)
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


def _by_period[T: (Row, Coverage)](values: Iterable[T]) -> dict[Period, list[T]]:
    found: defaultdict[Period, list[T]] = defaultdict(list)
    for value in values:
        found[value.period].append(value)
    return dict(found)


# Words


def _how(is_enforced: bool) -> str:
    return "enforced" if is_enforced else "observed"


def _age(coverage: Coverage) -> str:
    if coverage.is_fresh:
        return "fresh"
    return "partly expired" if coverage.fresh else "expired"


def _in_force(coverage: Coverage) -> str:
    return f"{_how(coverage.is_enforced)}, {_age(coverage)}"


def write(shown: Shown | None, hide_below: int) -> str:
    """A number as it is shown."""
    if shown is None:
        return _NOTHING
    if shown.requests is None:
        return f"under {hide_below}"
    return f"{shown.requests:,}{'' if shown.is_complete else '*'}"


def write_total(shown: Shown) -> str:
    """A sum as it is shown."""
    return "hidden" if shown.requests is None else f"{shown.requests:,}"


def numbered(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def range_of(report: Report) -> str:
    return plot.span(report.periods[0], report.periods[-1]) if report.periods else "no period that has closed"


def _title(report: Report) -> str:
    return f"Requests stopped by {report.operator}"


def _facts(report: Report) -> list[tuple[str, str]]:
    result = "passed" if report.policy_tests.passed else "FAILED"
    return [
        ("Range", range_of(report)),
        ("Time zone", str(report.time_zone)),
        ("List kept by", report.authority),
        ("Gates", f"{report.gates}"),
        ("Policy tests", f"{result} ({numbered(report.policy_tests.tests, 'test')})"),
        ("Self-tests", _self_tests(report)),
        ("Made", f"{format_time(report.made)} by Stoplist {report.version}"),
    ]


def _self_tests(report: Report) -> str:
    found = report.self_tests
    if found is None:
        return "none given"
    if not found.tests:
        return "none in this range"
    passed = f"{found.passed:,} of {found.tests:,} passed"
    if not report.periods:
        return passed
    return f"{passed}; {report.length}s with all passed: {found.passed_periods:,} of {len(report.periods):,}"


def _fresh_words(report: Report, freshness: Freshness) -> str:
    when = "Days on" if report.length == "day" else "Hours in"
    how = _how(freshness.is_enforced)
    return f"{when} which a fresh list was {how}: {freshness.fresh:,} of {freshness.periods:,}"


def rules(report: Report) -> list[str]:
    least, step = report.disclosure.hide_below, report.disclosure.round_to
    said = [
        "Numbers are of requests, not of people: one page can cause many requests. Those for the "
        "check host of a list are not counted.",
        f'A number below {least} is hidden, zero like any other, and reads "under {least}". All others are rounded to '
        f"a multiple of {step}. Only {report.length}s that are over are shown.",
        "Totals are of the numbers shown: what is hidden is in none of them.",
    ]
    if report.gates > 1:
        said.append(
            f"The numbers of {report.gates} gates are added up before any is hidden. One with a star leaves out small "
            "numbers of single gates, which could be computed from it otherwise."
        )
    if report.self_tests is not None:
        said.append(
            "A self-test asks a running gate as a client would. "
            f"{report.length.capitalize()}s with all passed have at least one, and none that did not pass."
        )
    return said


def _why_empty(report: Report) -> str:
    return "No gate was counting in this range." if report.periods else "No period of this range has closed."


_MEANINGS = {
    Outcome.STOPPED: "stopped, and the stop page was shown",
    Outcome.NOT_SHOWN: "stopped, where no page could be shown: the client does not trust the gate, or takes no pages",
    Outcome.REFUSED: "not served for another reason, such as a host that cannot be read",
    Outcome.OBSERVED: "on a list that is only observed: counted, and passed",
    Outcome.PASSED: "on no list, or let through by an exception of the policy",
}
_STATES = {
    CheckState.WARNING: "the filter worked, and the list was older than it should be",
    CheckState.CRITICAL: "the filter did not work, or what is not listed did not pass untouched",
    CheckState.UNKNOWN: "the gate could not be asked, or did not say all",
}
_CHECKS = {
    CheckName.HTTP: "fine if the check host is stopped over HTTP",
    CheckName.HTTPS: "fine if the check host is stopped over HTTPS",
    CheckName.CONTROL: "fine if a host that is not listed passes",
    CheckName.UNTOUCHED: "fine if a host that is not listed shows its own certificate",
    CheckName.LIST_AGE: "fine if the list is not older than it should be",
}
_PRIVACY = "No client, host, address, user agent or moment of a request is in this report, and none is recorded."
_TIMES = "The times of self-tests are those of the operator's own requests."


def _reading(report: Report) -> list[str]:
    return [*rules(report), _PRIVACY, *([_TIMES] if _not_passed(report) else [])]


def _outcomes(report: Report) -> list[Outcome]:
    return [outcome for outcome in Outcome if any(row.outcome is outcome for row in report.rows)]


# A table


def as_table(report: Report) -> bytes:
    """Plain text for a terminal of 80 columns."""
    parts = [_title(report), "", *(f"{name + ':':<14}{value}" for name, value in _facts(report)), ""]
    for section in sections(report):
        parts += _table_of(report, section)
    if not report.rows:
        parts += [_why_empty(report), ""]
    if report.changes:
        parts += ["Changes of lists", "", *columns(_change_cells(report), _CHANGES, "<<<>>"), ""]
    parts += _table_of_not_passed(report)
    parts += ["How to read the numbers", ""]
    for outcome in _outcomes(report):
        parts += wrapped(f"{outcome}: {_MEANINGS[outcome]}.")
    for rule in _reading(report):
        parts += wrapped(rule)
    return "\n".join([*parts, ""]).encode()


def _table_of(report: Report, section: Section) -> list[str]:
    name = f"List {section.list}" if section.list else "Requests that no list decided"
    outcomes = [each.outcome for each in section.totals]
    head = [report.length, *(["serials"] if section.list else []), *outcomes]
    head += ["list", "hours"] if section.list else []
    rows: list[list[str]] = []
    for line in section.lines:
        shown = line.shown or {}
        numbers = [write(shown.get(outcome), report.disclosure.hide_below) for outcome in outcomes]
        cells = [line.serials, *numbers, line.in_force, line.hours] if section.list else numbers
        rows.append([line.name, line.note] if line.note else [line.name, *cells])
    totals = [write_total(each.shown) for each in section.totals]
    rows.append(["total shown", *([""] if section.list else []), *totals, *(["", ""] if section.list else [])])
    sides = f"<{'<' if section.list else ''}{'>' * len(outcomes)}{'<>' if section.list else ''}"
    fresh = [f"{_fresh_words(report, each)}." for each in section.freshness]
    return [name, "", *columns(rows, head, sides), "", *fresh, *([""] if fresh else [])]


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """A paragraph for a terminal, indented."""
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=2 * indent, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]], head: Sequence[str], sides: str) -> list[str]:
    """Cells in columns. A row with fewer cells than the head has a remark behind its first one."""
    whole = [head, *(row for row in rows if len(row) == len(head))]
    widths = [max(len(row[at]) for row in whole) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        if len(row) < len(head):
            return f"  {'  '.join(row)}"
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
        return f"  {'  '.join(cells)}".rstrip()

    return [line(row) for row in [head, *rows]]


def _table_of_not_passed(report: Report) -> list[str]:
    """A row for each check: together they would not fit."""
    found = _not_passed(report)
    if not found:
        return []
    head = _not_passed_head(report)
    rows: list[list[str]] = []
    for each in found:
        *cells, _ = _not_passed_cells(report, each)
        for check in each.checks:
            rows.append([*cells, check])
            cells = [""] * len(cells)
    words = [line for name, meaning in _not_passed_words(report) for line in wrapped(f"{name}: {meaning}.")]
    sides = "".join(">" if name == "tests" else "<" for name in head)
    return [_NOT_PASSED, "", *columns(rows, head, sides), "", *words, ""]


_NOT_PASSED = "Self-tests that did not pass"


def _not_passed(report: Report) -> Sequence[NotPassed]:
    return report.self_tests.not_passed if report.self_tests else ()


def _not_passed_head(report: Report) -> list[str]:
    file = ["file"] if report.self_tests and report.self_tests.files > 1 else []
    return [*file, "from", "to", "tests", "state", "checks"]


def _not_passed_cells(report: Report, each: NotPassed) -> list[str]:
    values = {
        "file": str(each.file),
        "from": _moment(report, each.first),
        "to": _moment(report, each.last),
        "tests": f"{each.tests:,}",
        "state": each.state.word,
        "checks": ", ".join(each.checks),
    }
    return [values[name] for name in _not_passed_head(report)]


def _not_passed_words(report: Report) -> list[tuple[str, str]]:
    """The states and checks that are named, and what they mean."""
    found = _not_passed(report)
    states = [(state.word, words) for state, words in _STATES.items() if any(each.state is state for each in found)]
    return [*states, *((name, words) for name, words in _CHECKS.items() if any(name in each.checks for each in found))]


_CHANGES = ("time", "result", "list", "serial", "signers")


def _change_cells(report: Report) -> list[list[str]]:
    return [_change(report, change) for change in report.changes]


def _change(report: Report, change: ListEvent) -> list[str]:
    return [
        f"{_moment(report, change.time)}{f' gate {change.gate}' if report.gates > 1 else ''}",
        change.result,
        change.list or _NOTHING,
        _NOTHING if change.serial is None else str(change.serial),
        str(change.signers or _NOTHING),
    ]


def _moment(report: Report, time: datetime) -> str:
    return f"{time.astimezone(report.time_zone):%Y-%m-%d %H:%M}"


# CSV and JSON


_FIELDS = (
    *("period", "starts", "ends", "list", "outcome", "serials", "requests", "hidden", "complete"),
    *("gates", "fresh", "fresh_seconds", "expired_seconds"),
)


def as_csv(report: Report) -> bytes:
    """One line for each number of requests (RFC 4180), and so nothing of tests. A hidden one is empty; what is about a
    list is empty where there is none."""
    coverage = {(each.period, each.list, each.is_enforced): each for each in report.coverage}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_FIELDS)
    for row in report.rows:
        covered = coverage.get((row.period, row.list or "", row.outcome is not Outcome.OBSERVED))
        writer.writerow(
            [
                *(row.period.name, utc(row.period.starts), utc(row.period.ends), row.list or "", row.outcome.value),
                *(" ".join(map(str, row.serials)), "" if row.shown.requests is None else row.shown.requests),
                *(_truth(row.shown.requests is None), _truth(row.shown.is_complete)),
                *(
                    (covered.gates, _truth(covered.is_fresh), covered.fresh, covered.expired)
                    if covered
                    else ("", "", "", "")
                ),
            ]
        )
    return text.getvalue().encode()


def as_json(report: Report) -> bytes:
    """One object. A hidden number is null."""
    summaries = sections(report)
    fields = {
        "report": 1,
        "made": format_time(report.made),
        "version": report.version,
        "operator": report.operator,
        "authority": report.authority,
        "time_zone": str(report.time_zone),
        "period": report.length,
        "first": report.periods[0].name if report.periods else None,
        "last": report.periods[-1].name if report.periods else None,
        "periods": len(report.periods),
        "periods_without_counts": [each.name for each in report.periods if each in report.silent],
        "gates": report.gates,
        "hide_below": report.disclosure.hide_below,
        "round_to": report.disclosure.round_to,
        "policy_tests": {"passed": report.policy_tests.passed, "tests": report.policy_tests.tests},
        "self_tests": _self_test_fields(report),
        "counts": [
            {**_period_fields(row.period), "list": row.list, "outcome": row.outcome.value, "serials": row.serials}
            | _shown_fields(row.shown)
            for row in report.rows
        ],
        "totals": [
            {
                "list": section.list,
                "outcome": each.outcome.value,
                **_shown_fields(each.shown),
                "periods": each.periods,
                "hidden_periods": each.periods - each.shown_in,
            }
            for section in summaries
            for each in section.totals
        ],
        "in_force": [
            {
                **_period_fields(each.period),
                "list": each.list,
                "enforced": each.is_enforced,
                "gates": each.gates,
                "fresh": each.is_fresh,
                "fresh_seconds": each.fresh,
                "expired_seconds": each.expired,
            }
            for each in report.coverage
        ],
        "freshness": [
            {
                "list": each.list,
                "enforced": each.is_enforced,
                "fresh_periods": each.fresh,
                "periods": each.periods,
                "seconds": each.seconds,
            }
            for section in summaries
            for each in section.freshness
        ],
        "changes": [
            {
                "gate": change.gate,
                "time": format_time(change.time),
                "result": change.result,
                "list": change.list,
                "serial": change.serial,
                "signers": change.signers,
            }
            for change in report.changes
        ],
    }
    return f"{json.dumps(fields, indent=2, ensure_ascii=False)}\n".encode()


def _self_test_fields(report: Report) -> dict[str, object] | None:
    found = report.self_tests
    if found is None:
        return None
    return {
        "files": found.files,
        "tests": found.tests,
        "passed": found.passed,
        "passed_periods": found.passed_periods,
        "periods": len(report.periods),
        "not_passed": [
            {
                "file": each.file,
                "first": format_time(each.first),
                "last": format_time(each.last),
                "tests": each.tests,
                "state": each.state.word,
                "checks": each.checks,
            }
            for each in found.not_passed
        ],
    }


def _period_fields(period: Period) -> dict[str, object]:
    return {"period": period.name, "starts": utc(period.starts), "ends": utc(period.ends)}


def _shown_fields(shown: Shown) -> dict[str, object]:
    return {"requests": shown.requests, "complete": shown.is_complete}


def utc(seconds: int) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))


def _truth(claim: bool) -> str:
    return "true" if claim else "false"


# HTML


def as_html(report: Report) -> bytes:
    """One page, with its drawings in it."""
    found = sections(report)
    plots = {section.list: _plot(report, section.list) for section in found if section.list}
    return page(
        "report.html",
        title=_title(report),
        facts=_facts(report),
        report=report,
        sections=found,
        plots=plots,
        strip_kinds=_strip_kinds,
        outcomes=_outcomes(report),
        meanings=_MEANINGS,
        why_empty=_why_empty(report),
        rules=_reading(report),
        changes_head=_CHANGES,
        changes=_change_cells(report),
        not_passed_title=_NOT_PASSED,
        not_passed_head=_not_passed_head(report),
        not_passed=[_not_passed_cells(report, each) for each in _not_passed(report)],
        not_passed_words=_not_passed_words(report),
        write=lambda shown: write(shown, report.disclosure.hide_below),
        write_total=write_total,
        fresh_words=lambda freshness: _fresh_words(report, freshness),
    )


def page(template: str, **values: object) -> bytes:
    """A page of HTML from one of the templates."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(style=_template("report.css"), **values).encode()


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _plot(report: Report, name: str) -> plot.Plot:
    numbers = {(row.period, row.outcome): row.shown for row in report.rows if row.list == name}
    coverage = _by_period(each for each in report.coverage if each.list == name)

    def in_force(period: Period) -> str:
        if period in report.silent:
            return "not counting"
        return _in_force(coverage[period][-1]) if period in coverage else "not in force"

    return plot.draw(
        report.periods,
        numbers,
        {period: in_force(period) for period in report.periods},
        lambda shown: write(shown, report.disclosure.hide_below),
    )


def _strip_kinds(drawn: plot.Plot) -> list[str]:
    """What the strip of a drawing shows, in the order of a legend."""
    found = {run.kind for panel in drawn.panels for run in panel.strip}
    return [kind for kind in _STRIP_KINDS if kind in found]


_STRIP_KINDS = (
    *(f"{how}, {age}" for how in ("enforced", "observed") for age in ("fresh", "partly expired", "expired")),
    *("not in force", "not counting"),
)

FORMATS: Mapping[str, Callable[[Report], bytes]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}


def format_of(file_name: str) -> str:
    """The format that a file's name asks for by its end; a table where it asks for none."""
    end = file_name.rpartition(".")[2].lower()
    return end if end in FORMATS else "table"
