"""A rollout as a table for a terminal, as JSON, or as one page of HTML."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from stoplist.core.counts import Outcome, Period, Row, Shown
from stoplist.core.times import format_time
from stoplist.tools.output import plot
from stoplist.tools.output.html_page import page
from stoplist.tools.output.report_words import rules
from stoplist.tools.output.text import columns, numbered, utc, wrapped, write, write_total
from stoplist.tools.reports.report import Report
from stoplist.tools.reports.rollout import Observed, Rollout


def _sentence(rollout: Rollout, what: str, shown: Shown, hidden: int) -> str:
    """What enforcing would have stopped, in words."""
    report = rollout.report
    least, length = report.disclosure.hide_below, report.length
    if shown.requests is None:
        return (
            f"Enforcing {what} would have stopped few requests or none: the number of each {length} is under {least}, "
            "and hidden."
        )
    more = f", and fewer than {least} each in {numbered(hidden, 'number')} that {_are(hidden)} hidden" if hidden else ""
    return f"Enforcing {what} would have stopped about {numbered(shown.requests, 'request')}{more}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _when(rollout: Rollout, rows: Sequence[Row]) -> str:
    periods = len({row.period for row in rows})
    return f"observed in {periods:,} of {numbered(len(rollout.report.periods), rollout.report.length)}"


def _reading(rollout: Rollout) -> list[str]:
    return [
        "The numbers count requests that passed, and that enforcing would have stopped. They are requests of observed "
        "clients: of all clients if the policy or the list observes, otherwise of those in 'observe_clients'. A list "
        "that is observed beside an enforced one counts only requests that the enforced one does not stop.",
        "A tunnel that passes counts as one request, even if it carries many; enforcing would stop each of them "
        "separately. The numbers cannot show how a client would go on after a stop.",
        *rules(rollout.report),
    ]


def _title(rollout: Rollout) -> str:
    return f"What enforcing would have done: {rollout.report.operator}"


def _facts(rollout: Rollout) -> list[tuple[str, str]]:
    report = rollout.report
    return [("Range", report.range), ("Time zone", str(report.time_zone)), ("Gates", f"{report.gates}")]


def _sentences(rollout: Rollout) -> list[str]:
    """What enforcing would have stopped: each list, and if there are several, all of them together."""
    found = [_sentence(rollout, f"list {each.list}", each.total, each.hidden) for each in rollout.lists]
    if len(found) > 1:
        hidden = sum(each.hidden for each in rollout.lists)
        found.append(_sentence(rollout, "all that was observed", rollout.total, hidden))
    return found


def as_table(rollout: Rollout) -> bytes:
    """Plain text for a terminal of 80 columns."""
    parts = [_title(rollout), "", *(f"{name + ':':<14}{value}" for name, value in _facts(rollout))]
    of_lists, more = _sentences(rollout)[: len(rollout.lists)], _sentences(rollout)[len(rollout.lists) :]
    for each, sentence in zip(rollout.lists, of_lists, strict=True):
        parts += ["", f"List {each.list}, {_when(rollout, each.rows)}", "", *_table_of(rollout, each), ""]
        parts += wrapped(sentence, "")
    for sentence in more:
        parts += ["", *wrapped(sentence, "")]
    parts += ["", "How to read the numbers", ""]
    for rule in _reading(rollout):
        parts += wrapped(rule)
    return "\n".join([*parts, ""]).encode()


def _table_of(rollout: Rollout, observed: Observed) -> list[str]:
    rows = [*_rows(rollout, observed), ["total shown", "", write_total(observed.total), ""]]
    return columns(rows, _head(rollout), "<<>>")


def _head(rollout: Rollout) -> list[str]:
    return [rollout.report.length, "serials", "would be stopped", "hours"]


def _rows(rollout: Rollout, observed: Observed) -> list[list[str]]:
    return [_cells(rollout.report, observed, line) for line in _lines(rollout.report, observed)]


def _lines(report: Report, observed: Observed) -> Iterator[Row | list[Period]]:
    """A row for each period in which the list was observed, and the stretches of periods between them."""
    row_of = {row.period: row for row in observed.rows}
    for is_observed, group in itertools.groupby(report.periods, lambda period: period in row_of):
        periods = list(group)
        if is_observed:
            yield from (row_of[period] for period in periods)
        else:
            yield periods


def _cells(report: Report, observed: Observed, line: Row | list[Period]) -> list[str]:
    if not isinstance(line, Row):
        return [line[0].through(line[-1]), "not observed"]
    return [
        line.period.name,
        " ".join(map(str, line.serials)),
        write(line.shown, report.disclosure.hide_below),
        f"{observed.seconds.get(line.period, 0) / 3600:.1f}",
    ]


def as_json(rollout: Rollout) -> bytes:
    """One object. A hidden number is null."""
    report = rollout.report
    fields = {
        "rollout": 1,
        "made": format_time(report.made),
        "version": report.version,
        "operator": report.operator,
        "time_zone": str(report.time_zone),
        "period": report.length,
        "first": report.periods[0].name,
        "last": report.periods[-1].name,
        "periods": len(report.periods),
        "periods_observed": [period.name for period in rollout.periods],
        "gates": report.gates,
        "hide_below": report.disclosure.hide_below,
        "round_to": report.disclosure.round_to,
        "lists": [
            {
                "list": each.list,
                "counts": [
                    {
                        "period": row.period.name,
                        "starts": utc(row.period.starts),
                        "ends": utc(row.period.ends),
                        "serials": row.serials,
                        "seconds": each.seconds.get(row.period, 0),
                        **_shown(row.shown),
                    }
                    for row in each.rows
                ],
                "total": _shown(each.total),
                "hidden_periods": each.hidden,
            }
            for each in rollout.lists
        ],
        "total": _shown(rollout.total),
    }
    return f"{json.dumps(fields, indent=2, ensure_ascii=False)}\n".encode()


def _shown(shown: Shown) -> dict[str, object]:
    return {"requests": shown.requests, "complete": shown.is_complete}


def as_html(rollout: Rollout) -> bytes:
    """One page, with its drawings in it."""
    report = rollout.report
    return page(
        "rollout.html",
        title=_title(rollout),
        facts=[*_facts(rollout), ("Made", f"{format_time(report.made)} by Stoplist {report.version}")],
        sentences=_sentences(rollout),
        rules=_reading(rollout),
        length=report.length,
        hide_below=report.disclosure.hide_below,
        head=_head(rollout),
        lists=[
            (each, _when(rollout, each.rows), _plot(rollout, each), _rows(rollout, each), write_total(each.total))
            for each in rollout.lists
        ],
    )


def _plot(rollout: Rollout, observed: Observed) -> plot.Plot:
    report = rollout.report
    numbers = {(row.period, row.outcome): row.shown for row in observed.rows}
    strip = {
        period: "observed, fresh" if (period, Outcome.OBSERVED) in numbers else "not in force"
        for period in report.periods
    }
    return plot.draw(report.periods, numbers, strip, lambda shown: write(shown, report.disclosure.hide_below))


FORMATS: Mapping[str, Callable[[Rollout], bytes]] = {"table": as_table, "json": as_json, "html": as_html}
