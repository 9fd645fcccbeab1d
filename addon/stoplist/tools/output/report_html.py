"""A report as one page of HTML."""

from __future__ import annotations

from stoplist.core.counts import Period
from stoplist.tools.output import plot
from stoplist.tools.output.html_page import page
from stoplist.tools.output.report_sections import by_period, in_force, sections
from stoplist.tools.output.report_words import (
    CHANGES,
    MEANINGS,
    NOT_PASSED,
    change_cells,
    facts,
    fresh_words,
    not_passed,
    not_passed_cells,
    not_passed_head,
    not_passed_words,
    outcomes,
    reading,
    title,
    why_empty,
)
from stoplist.tools.output.text import write, write_total
from stoplist.tools.reports.report import Report


def as_html(report: Report) -> bytes:
    """One page, with its drawings in it."""
    found = sections(report)
    plots = {section.list: _plot(report, section.list) for section in found if section.list}
    return page(
        "report.html",
        title=title(report),
        facts=facts(report),
        report=report,
        sections=found,
        plots=plots,
        strip_kinds=_strip_kinds,
        outcomes=outcomes(report),
        meanings=MEANINGS,
        why_empty=why_empty(report),
        rules=reading(report),
        changes_head=CHANGES,
        changes=change_cells(report),
        not_passed_title=NOT_PASSED,
        not_passed_head=not_passed_head(report),
        not_passed=[not_passed_cells(report, each) for each in not_passed(report)],
        not_passed_words=not_passed_words(report),
        write=lambda shown: write(shown, report.disclosure.hide_below),
        write_total=write_total,
        fresh_words=lambda freshness: fresh_words(report, freshness),
    )


def _plot(report: Report, name: str) -> plot.Plot:
    numbers = {(row.period, row.outcome): row.shown for row in report.rows if row.list == name}
    coverage = by_period(each for each in report.coverage if each.list == name)

    def seen_in(period: Period) -> str:
        if period in report.silent:
            return "not counting"
        return in_force(coverage[period][-1]) if period in coverage else "not in force"

    return plot.draw(
        report.periods,
        numbers,
        {period: seen_in(period) for period in report.periods},
        lambda shown: write(shown, report.disclosure.hide_below),
    )


def _strip_kinds(drawn: plot.Plot) -> list[str]:
    """The kinds that the strip of a drawing shows, in the order of a legend."""
    found = {run.kind for panel in drawn.panels for run in panel.strip}
    return [kind for kind in _STRIP_KINDS if kind in found]


_STRIP_KINDS = (
    *(f"{how}, {age}" for how in ("enforced", "observed") for age in ("fresh", "partly expired", "expired")),
    *("not in force", "not counting"),
)
