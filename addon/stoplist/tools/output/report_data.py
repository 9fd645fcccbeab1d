"""A report for programs: as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import json

from stoplist.core.counts import Outcome, Period, Shown
from stoplist.core.times import format_time
from stoplist.tools.output.report_sections import sections
from stoplist.tools.output.text import utc
from stoplist.tools.reports.report import Report

_FIELDS = (
    *("period", "starts", "ends", "list", "outcome", "serials", "requests", "hidden", "complete"),
    *("gates", "fresh", "fresh_seconds", "expired_seconds"),
)


def as_csv(report: Report) -> bytes:
    """One line for each number of requests (RFC 4180), and so nothing of tests. A hidden number is empty. Fields
    about a list are empty if there is none."""
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


def _truth(claim: bool) -> str:
    return "true" if claim else "false"
