"""A trial as a table for a terminal, as JSON, or as one page of HTML.

Rules
  - The output shows only what the trial holds; it never writes a hidden number as a number.
  - It holds hosts only if they were revealed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from stoplist.core.times import format_time
from stoplist.tools.output import plot
from stoplist.tools.output.html_page import page
from stoplist.tools.output.text import columns, wrapped
from stoplist.tools.output.trial_words import (
    REVEALED_HEAD,
    Column,
    columns_of,
    days,
    facts,
    found_hosts,
    reading,
    revealed_cells,
    sums,
    title,
    written,
    written_total,
)
from stoplist.tools.trial.trial import NO_DAY, Trial


def as_table(trial: Trial) -> bytes:
    """Plain text for a terminal."""
    found = columns_of(trial)
    parts = [title(trial), "", *(f"{name + ':':<11}{value}" for name, value in facts(trial)), ""]
    if trial.rows:
        rows = [[day.name, *(written(trial, column.shown.get(day)) for column in found)] for day in days(trial)]
        rows.append(["total shown", *map(written_total, found)])
        head = ["day", *(column.name for column in found)]
        parts += ["Requests", "", *columns(rows, head, f"<{'>' * len(found)}"), ""]
    for name, numbers in (("Read", sums(trial)), ("Hosts that would be stopped or observed", found_hosts(trial))):
        width = max(len(word) for word, _ in numbers)
        least = max(len(number) for _, number in numbers)
        parts += [name, "", *(f"  {word:<{width}}  {number:>{least}}" for word, number in numbers), ""]
    if trial.revealed:
        parts += ["Hosts", "", *columns(revealed_cells(trial), REVEALED_HEAD, "<<<><<"), ""]
    parts += ["How to read the numbers", ""]
    for rule in reading(trial):
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
        title=title(trial),
        facts=facts(trial),
        sums=sums(trial),
        found=found_hosts(trial),
        rules=reading(trial),
        hide_below=trial.disclosure.hide_below if trial.disclosure else None,
        columns=found,
        days=days(trial),
        plots=list(_plots(trial, found)),
        revealed_head=REVEALED_HEAD,
        revealed=revealed_cells(trial),
        write=lambda shown: written(trial, shown),
        write_total=written_total,
    )


def _plots(trial: Trial, found: Sequence[Column]) -> Iterator[tuple[Column, plot.Plot]]:
    """A drawing for each list."""
    logged = {row.period for row in trial.rows}
    strip = {day: "in the logs" if day in logged else "not in the logs" for day in trial.days}
    for column in found:
        if column.list is not None and trial.days:
            numbers = {(day, column.outcome): shown for day, shown in column.shown.items() if day != NO_DAY}
            yield column, plot.draw(trial.days, numbers, strip, lambda shown: written(trial, shown))


FORMATS: Mapping[str, Callable[[Trial], bytes]] = {"table": as_table, "json": as_json, "html": as_html}
