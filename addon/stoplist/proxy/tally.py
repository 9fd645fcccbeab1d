"""Tally: counts verdicts, and writes the counts of a period when it has closed.

Rules
  - A verdict comes in without its request; nothing else is ever known here.
  - Each list in force has its rows, whether or not it stopped anything.
  - Used from the event loop only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from stoplist.core.counts import Cell, Counts, Disclosure, Row
from stoplist.core.decide import Action, Ruleset, Verdict
from stoplist.core.policy import CountsPolicy
from stoplist.proxy import quiet

log = logging.getLogger(quiet.COUNTS_LOGGER)

_REFUSED = Cell(None, None, Action.REFUSE)


class Tally:
    """The open period, and what follows it. Times are POSIX seconds."""

    def __init__(self, ruleset: Ruleset, now: float) -> None:
        self._ruleset = ruleset
        self._counts = self._open(now)

    def follow(self, ruleset: Ruleset) -> None:
        """Another ruleset is in force: its lists have rows from now on."""
        self._ruleset = ruleset
        self._counts.expect(_cells(ruleset))

    def add(self, verdict: Verdict) -> None:
        """Count one request by its verdict, if it is one that is counted."""
        if verdict.is_counted:
            self._counts.add(cell_of(verdict))

    def add_all(self, counted: Mapping[Cell, int]) -> None:
        """Count what a worker has counted."""
        for cell, requests in counted.items():
            self._counts.add(cell, requests)

    def close_period(self, now: float) -> float:
        """Write and replace the period if it has closed; the seconds that the open one has left."""
        if not self._counts.seconds_left(now):
            self._write(partial=False)
            self._counts = self._open(now)
        return self._counts.seconds_left(now)

    def stop(self, now: float) -> None:
        """Write what was counted: the gate is shutting down."""
        self._write(partial=bool(self._counts.seconds_left(now)))

    def _open(self, now: float) -> Counts:
        policy = self._ruleset.policy.counts
        counts = Counts(policy.period, Disclosure(policy.hide_below, policy.round_to), now)
        counts.expect(_cells(self._ruleset))
        return counts

    def _write(self, *, partial: bool) -> None:
        for row in self._counts.rows(partial=partial):
            log.info("%s", json.dumps(_fields(row, self._ruleset.policy.counts)))


def _cells(ruleset: Ruleset) -> list[Cell]:
    return [_REFUSED, *(cell_of(verdict) for _, verdict in ruleset.entries)]


def cell_of(verdict: Verdict) -> Cell:
    """Where a verdict is counted."""
    return Cell(verdict.list, verdict.serial, verdict.action)


def _fields(row: Row, policy: CountsPolicy) -> dict[str, object]:
    fields: dict[str, object] = {
        "event": "counts",
        "period": row.period,
        "list": row.cell.list,
        "serial": row.cell.serial,
        "action": row.cell.action,
        "requests": row.requests,
    }
    if row.requests is None:
        fields["hidden_below"] = policy.hide_below
    if row.partial:
        fields["partial"] = True
    return fields
