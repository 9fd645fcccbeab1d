"""Trial words: the columns of a trial, and the text around its numbers, alike in each format."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoplist.core.counts import Outcome, Period, Row, Shown, total
from stoplist.core.times import format_time
from stoplist.tools.output.text import numbered, write, write_total
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


def title(trial: Trial) -> str:
    return f"What the policy of {trial.operator} would have done"


def facts(trial: Trial) -> list[tuple[str, str]]:
    lists = [
        f"{each.list} serial {each.serial} ({numbered(each.domains, 'domain')}, "
        f"{'enforced' if each.is_enforced else 'observed'})"
        for each in trial.lists
    ]
    formats = f" ({', '.join(trial.formats)})" if trial.formats else ""
    return [
        ("Range", trial.days[0].through(trial.days[-1]) if trial.days else "no day"),
        ("Time zone", str(trial.time_zone)),
        ("Lists", ", ".join(lists)),
        ("Read", f"{numbered(trial.inputs, 'input')}{formats}"),
        ("Made", f"{format_time(trial.made)} by Stoplist {trial.version}"),
    ]


def sums(trial: Trial) -> list[tuple[str, str]]:
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


def found_hosts(trial: Trial) -> list[tuple[str, str]]:
    found = trial.found
    more = "" if found.is_all else f" of the first {MAX_HOSTS:,}"
    known = [] if found.known is None else [("of them well-known sites", f"{found.known:,}")]
    return [
        (f"distinct hosts{more}", written(trial, found.hosts)),
        ("of them in never_block", f"{found.never_block:,}"),
        *known,
    ]


def reading(trial: Trial) -> list[str]:
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


def written(trial: Trial, shown: Shown | None) -> str:
    return write(shown, trial.disclosure.hide_below if trial.disclosure else 0)


def written_total(column: Column) -> str:
    return write_total(column.total)


def days(trial: Trial) -> list[Period]:
    return sorted({row.period for row in trial.rows}, key=lambda period: (period == NO_DAY, period))


REVEALED_HEAD = ("host", "list", "outcome", "requests", "never_block", "known")


def revealed_cells(trial: Trial) -> list[list[str]]:
    def yes(claim: bool) -> str:
        return "yes" if claim else "no"

    return [
        [each.host, each.list, each.outcome, f"{each.requests:,}", yes(each.is_never_block), yes(each.is_known)]
        for each in trial.revealed
    ]
