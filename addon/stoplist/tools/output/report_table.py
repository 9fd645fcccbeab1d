"""A report as a table for a terminal."""

from __future__ import annotations

from stoplist.tools.output.report_sections import ListSection, sections
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
from stoplist.tools.output.text import columns, wrapped, write, write_total
from stoplist.tools.reports.report import Report


def as_table(report: Report) -> bytes:
    """Plain text for a terminal of 80 columns."""
    parts = [title(report), "", *(f"{name + ':':<14}{value}" for name, value in facts(report)), ""]
    for section in sections(report):
        parts += _table_of(report, section)
    if not report.rows:
        parts += [why_empty(report), ""]
    if report.changes:
        parts += ["Changes of lists", "", *columns(change_cells(report), CHANGES, "<<<>>"), ""]
    parts += _table_of_not_passed(report)
    parts += ["How to read the numbers", ""]
    for outcome in outcomes(report):
        parts += wrapped(f"{outcome}: {MEANINGS[outcome]}.")
    for rule in reading(report):
        parts += wrapped(rule)
    return "\n".join([*parts, ""]).encode()


def _table_of(report: Report, section: ListSection) -> list[str]:
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
    fresh = [f"{fresh_words(report, each)}." for each in section.freshness]
    return [name, "", *columns(rows, head, sides), "", *fresh, *([""] if fresh else [])]


def _table_of_not_passed(report: Report) -> list[str]:
    """A row for each check: in one row they would not fit."""
    found = not_passed(report)
    if not found:
        return []
    head = not_passed_head(report)
    rows: list[list[str]] = []
    for each in found:
        *cells, _ = not_passed_cells(report, each)
        for check in each.checks:
            rows.append([*cells, check])
            cells = [""] * len(cells)
    words = [line for name, meaning in not_passed_words(report) for line in wrapped(f"{name}: {meaning}.")]
    sides = "".join(">" if name == "tests" else "<" for name in head)
    return [NOT_PASSED, "", *columns(rows, head, sides), "", *words, ""]
