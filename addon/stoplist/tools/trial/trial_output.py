"""Showing: a trial as a table for a terminal, as JSON, or as one page of HTML.

Rules
  - The output shows only what the trial holds; it never writes a hidden number as a number.
  - It holds hosts only if they were revealed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stoplist.core.counts import Outcome, Period, Row, Shown, total
from stoplist.core.times import format_time
from stoplist.tools.output import plot
from stoplist.tools.output.html_page import page
from stoplist.tools.output.text import columns, wrapped, write, write_total
from stoplist.tools.trial.distinct_hosts import MAX_HOSTS
from stoplist.tools.trial.trial import NO_DAY, Trial

EXACT = "exact numbers can show that a single request was made; keep them to yourself"
REVEALED = (
    "hosts and exact numbers can tell who asked for what; keep them to yourself, and delete them when you are done"
)
"""Warnings to read before handing on such a result."""


@dataclass(frozen=True, slots=True)
class Column:
    """The numbers of a list and an outcome, by day."""

    list: str | None
    outcome: Outcome
    shown: Mapping[Period, Shown]
    total: Shown

    @property
    def name(self) -> str:
        return f"{self.list} {self.outcome}" if self.list else str(self.outcome)


def columns_of(trial: Trial) -> list[Column]:
    """The numbers that each list would stop or observe, then those of requests that no list decided."""

    def key(row: Row) -> tuple[bool, str, str]:
        return (row.list is None, row.list or "", row.outcome)

    rows = sorted(trial.rows, key=key)
    found = []
    for _, group in itertools.groupby(rows, key):
        of_one = list(group)
        shown = {row.period: row.shown for row in of_one}
        found.append(Column(of_one[0].list, of_one[0].outcome, shown, _sum(trial, of_one)))
    return found


def _sum(trial: Trial, rows: Sequence[Row]) -> Shown:
    if trial.disclosure is None:
        return Shown(sum(row.shown.requests or 0 for row in rows), is_complete=True)
    return total(rows)


# Words


def _title(trial: Trial) -> str:
    return f"What the policy of {trial.operator} would have done"


def _facts(trial: Trial) -> list[tuple[str, str]]:
    lists = [
        f"{each.list} serial {each.serial} ({_number(each.domains, 'domain')}, "
        f"{'enforced' if each.is_enforced else 'observed'})"
        for each in trial.lists
    ]
    formats = f" ({', '.join(trial.formats)})" if trial.formats else ""
    return [
        ("Range", plot.span(trial.days[0], trial.days[-1]) if trial.days else "no day"),
        ("Time zone", str(trial.time_zone)),
        ("Lists", ", ".join(lists)),
        ("Read", f"{_number(trial.inputs, 'input')}{formats}"),
        ("Made", f"{format_time(trial.made)} by Stoplist {trial.version}"),
    ]


def _sums(trial: Trial) -> list[tuple[str, str]]:
    if trial.requests is None or trial.judged is None:
        shown = [row.shown.requests or 0 for row in trial.rows]
        requests = [("requests (rounded, hidden ones left out)", f"{sum(shown):,}")]
    else:
        requests = [("requests read", f"{trial.requests:,}"), ("judged (without check hosts)", f"{trial.judged:,}")]
    return [
        *requests,
        ("lines without a request", f"{trial.ignored:,}"),
        ("unparsable lines", f"{trial.unparsable:,}"),
    ]


def _found(trial: Trial) -> list[tuple[str, str]]:
    found = trial.found
    more = "" if found.is_all else f" of the first {MAX_HOSTS:,}"
    known = [] if found.known is None else [("of them well-known sites", f"{found.known:,}")]
    return [
        (f"distinct hosts{more}", _written(trial, found.hosts)),
        ("of them in never_block", f"{found.never_block:,}"),
        *known,
    ]


def _how_to_read(trial: Trial) -> list[str]:
    said = [
        "The numbers count requests, not people: one page can cause many. Requests for a check host are not counted. "
        "Each request is judged as a gate would judge it today, by the host name in the log.",
        "If a host in never_block, or a well-known one, would be stopped, the list probably has a mistake: ask its "
        "publisher.",
    ]
    if trial.disclosure is None:
        return [*said, "The numbers are exact. Keep them to yourself: they can show that a single request was made."]
    least, step = trial.disclosure.hide_below, trial.disclosure.round_to
    return [
        *said,
        f'A number below {least}, including zero, is hidden and reads "under {least}". All others are rounded '
        f"to a multiple of {step}. Totals add up the numbers shown. Numbers of lines, and of hosts that are probably "
        "mistakes, are exact.",
    ]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _written(trial: Trial, shown: Shown | None) -> str:
    return write(shown, trial.disclosure.hide_below if trial.disclosure else 0)


def _written_total(column: Column) -> str:
    return write_total(column.total)


def _days(trial: Trial) -> list[Period]:
    return sorted({row.period for row in trial.rows}, key=lambda period: (period == NO_DAY, period))


_REVEALED = ("host", "list", "outcome", "requests", "never_block", "known")


def _revealed(trial: Trial) -> list[list[str]]:
    def yes(claim: bool) -> str:
        return "yes" if claim else "no"

    return [
        [each.host, each.list, each.outcome, f"{each.requests:,}", yes(each.is_never_block), yes(each.is_known)]
        for each in trial.revealed
    ]


# Formats


def as_table(trial: Trial) -> bytes:
    """Plain text for a terminal."""
    found = columns_of(trial)
    parts = [_title(trial), "", *(f"{name + ':':<11}{value}" for name, value in _facts(trial)), ""]
    if trial.rows:
        rows = [[day.name, *(_written(trial, column.shown.get(day)) for column in found)] for day in _days(trial)]
        rows.append(["total shown", *map(_written_total, found)])
        head = ["day", *(column.name for column in found)]
        parts += ["Requests", "", *columns(rows, head, f"<{'>' * len(found)}"), ""]
    for name, numbers in (("Read", _sums(trial)), ("Hosts that would be stopped or observed", _found(trial))):
        width = max(len(word) for word, _ in numbers)
        least = max(len(number) for _, number in numbers)
        parts += [name, "", *(f"  {word:<{width}}  {number:>{least}}" for word, number in numbers), ""]
    if trial.revealed:
        parts += ["Hosts", "", *columns(_revealed(trial), _REVEALED, "<<<><<"), ""]
    parts += ["How to read the numbers", ""]
    for rule in _how_to_read(trial):
        parts += wrapped(rule)
    return "\n".join([*parts, ""]).encode()


def as_json(trial: Trial) -> bytes:
    """One object. A hidden number is null."""
    disclosure = trial.disclosure
    fields = {
        "trial": 1,
        "made": format_time(trial.made),
        "version": trial.version,
        "operator": trial.operator,
        "time_zone": str(trial.time_zone),
        "exact": disclosure is None,
        "hide_below": disclosure.hide_below if disclosure else None,
        "round_to": disclosure.round_to if disclosure else None,
        "inputs": trial.inputs,
        "formats": trial.formats,
        "lists": [
            {"list": each.list, "serial": each.serial, "domains": each.domains, "enforced": each.is_enforced}
            for each in trial.lists
        ],
        "requests": trial.requests,
        "judged": trial.judged,
        "ignored_lines": trial.ignored,
        "unparsable_lines": trial.unparsable,
        "counts": [
            {
                "day": None if row.period == NO_DAY else row.period.name,
                "list": row.list,
                "outcome": row.outcome.value,
                "requests": row.shown.requests,
            }
            for row in sorted(trial.rows, key=lambda row: row.period == NO_DAY)
        ],
        "totals": [
            {"list": column.list, "outcome": column.outcome.value, "requests": column.total.requests}
            for column in columns_of(trial)
        ],
        "hosts": {
            "listed": trial.found.hosts.requests,
            "never_block": trial.found.never_block,
            "known": trial.found.known,
            "all": trial.found.is_all,
        },
    }
    if trial.revealed:
        fields["revealed"] = [
            {
                "host": each.host,
                "list": each.list,
                "outcome": each.outcome.value,
                "requests": each.requests,
                "never_block": each.is_never_block,
                "known": each.is_known,
            }
            for each in trial.revealed
        ]
    return f"{json.dumps(fields, indent=2, ensure_ascii=False)}\n".encode()


def as_html(trial: Trial) -> bytes:
    """One page, with its drawings in it."""
    found = columns_of(trial)
    return page(
        "trial.html",
        title=_title(trial),
        facts=_facts(trial),
        sums=_sums(trial),
        found=_found(trial),
        rules=_how_to_read(trial),
        hide_below=trial.disclosure.hide_below if trial.disclosure else None,
        columns=found,
        days=_days(trial),
        plots=list(_plots(trial, found)),
        revealed_head=_REVEALED,
        revealed=_revealed(trial),
        write=lambda shown: _written(trial, shown),
        write_total=_written_total,
    )


def _plots(trial: Trial, found: Sequence[Column]) -> Iterator[tuple[Column, plot.Plot]]:
    """A drawing for each list."""
    logged = {row.period for row in trial.rows}
    strip = {day: "in the logs" if day in logged else "not in the logs" for day in trial.days}
    for column in found:
        if column.list is not None and trial.days:
            numbers = {(day, column.outcome): shown for day, shown in column.shown.items() if day != NO_DAY}
            yield column, plot.draw(trial.days, numbers, strip, lambda shown: _written(trial, shown))


FORMATS: Mapping[str, Callable[[Trial], bytes]] = {"table": as_table, "json": as_json, "html": as_html}
