"""Words: the text of a report around its numbers, alike in each format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from stoplist.core.counts import Outcome
from stoplist.core.times import format_time
from stoplist.tools.output.report_sections import Freshness, how_used
from stoplist.tools.output.text import NOTHING, numbered
from stoplist.tools.reports.report import ListEvent, Report
from stoplist.tools.selftest.results import NotPassed
from stoplist.tools.selftest.self_test import CheckName, CheckState


def title(report: Report) -> str:
    return f"Requests stopped by {report.operator}"


def facts(report: Report) -> list[tuple[str, str]]:
    result = "passed" if report.policy_tests.passed else "FAILED"
    return [
        ("Range", report.range),
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


def fresh_words(report: Report, freshness: Freshness) -> str:
    when = "Days on" if report.length == "day" else "Hours in"
    how = how_used(freshness.is_enforced)
    return f"{when} which a fresh list was {how}: {freshness.fresh:,} of {freshness.periods:,}"


def rules(report: Report) -> list[str]:
    least, step = report.disclosure.hide_below, report.disclosure.round_to
    said = [
        "The numbers count requests, not people: one page can cause many requests. Requests for the check host of a "
        "list are not counted.",
        f'A number below {least}, including zero, is hidden and reads "under {least}". All others are rounded '
        f"to a multiple of {step}. Only {report.length}s that are over are shown.",
        "Totals add up the numbers shown, and leave out the hidden ones.",
    ]
    if report.gates > 1:
        said.append(
            f"The numbers of {report.gates} gates are added up before small ones are hidden. A number with a star "
            "leaves out small numbers of single gates, because they could be computed from it otherwise."
        )
    if report.self_tests is not None:
        said.append(
            "A self-test asks a running gate as a client would. "
            f"{report.length.capitalize()}s with all passed are those with at least one self-test, and none that did "
            "not pass."
        )
    return said


def why_empty(report: Report) -> str:
    return "No gate was counting in this range." if report.periods else "No period of this range has closed."


MEANINGS = {
    Outcome.STOPPED: "stopped, and the stop page was shown",
    Outcome.NOT_SHOWN: "stopped without showing a page: the client does not trust the gate, or accepts no pages",
    Outcome.REFUSED: "not served for another reason, such as a host that cannot be read",
    Outcome.OBSERVED: "on a list that is only observed: counted, and let through",
    Outcome.PASSED: "on no list, or let through by an exception of the policy",
}
_STATES = {
    CheckState.WARNING: "the filter worked, but the list was too old",
    CheckState.CRITICAL: "the filter did not work, or an unlisted host did not pass untouched",
    CheckState.UNKNOWN: "the gate could not be reached, or its answers were incomplete",
}
_CHECKS = {
    CheckName.HTTP: "fine if the check host is stopped over HTTP",
    CheckName.HTTPS: "fine if the check host is stopped over HTTPS",
    CheckName.CONTROL: "fine if a host that is not listed passes",
    CheckName.UNTOUCHED: "fine if a host that is not listed shows its own certificate",
    CheckName.LIST_AGE: "fine if the list is not too old",
}
_PRIVACY = "This report holds no client, host, address, user agent or time of a request, and the gate records none."
_TIMES = "The times of self-tests are those of the operator's own requests."


def reading(report: Report) -> list[str]:
    return [*rules(report), _PRIVACY, *([_TIMES] if not_passed(report) else [])]


def outcomes(report: Report) -> list[Outcome]:
    return [outcome for outcome in Outcome if any(row.outcome is outcome for row in report.rows)]


NOT_PASSED = "Self-tests that did not pass"


def not_passed(report: Report) -> Sequence[NotPassed]:
    return report.self_tests.not_passed if report.self_tests else ()


def not_passed_head(report: Report) -> list[str]:
    file = ["file"] if report.self_tests and report.self_tests.files > 1 else []
    return [*file, "from", "to", "tests", "state", "checks"]


def not_passed_cells(report: Report, each: NotPassed) -> list[str]:
    values = {
        "file": str(each.file),
        "from": _moment(report, each.first),
        "to": _moment(report, each.last),
        "tests": f"{each.tests:,}",
        "state": each.state.word,
        "checks": ", ".join(each.checks),
    }
    return [values[name] for name in not_passed_head(report)]


def not_passed_words(report: Report) -> list[tuple[str, str]]:
    """The states and checks that the report names, each with its meaning."""
    found = not_passed(report)
    states = [(state.word, words) for state, words in _STATES.items() if any(each.state is state for each in found)]
    return [*states, *((name, words) for name, words in _CHECKS.items() if any(name in each.checks for each in found))]


CHANGES = ("time", "result", "list", "serial", "signers")


def change_cells(report: Report) -> list[list[str]]:
    return [_change(report, change) for change in report.changes]


def _change(report: Report, change: ListEvent) -> list[str]:
    return [
        f"{_moment(report, change.time)}{f' gate {change.gate}' if report.gates > 1 else ''}",
        change.result,
        change.list or NOTHING,
        NOTHING if change.serial is None else str(change.serial),
        str(change.signers or NOTHING),
    ]


def _moment(report: Report, time: datetime) -> str:
    return f"{time.astimezone(report.time_zone):%Y-%m-%d %H:%M}"
