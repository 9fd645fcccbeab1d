"""PeriodCounts: adds the counts of a gate's processes to the periods in its state, at fixed intervals.

Each gate has one PeriodCounts, in the process that has its state. When a period has closed, PeriodCounts writes the
counts that may be shown to the log, once. Metrics show them until the next period closes.

Rules
  - A beat does not depend on requests. It comes every `BEAT_SECONDS`, and when a period closes. Each beat writes every
    row of the open period, even if no request was counted.
  - PeriodCounts keeps counts that it could not write, and writes them later. It counts nothing twice: it takes a number
    from a process once, and adds it to the state in one transaction.
  - A period does not begin anew when the clock is set back. A changed policy does not change the end of an open period:
    another length or time zone applies from the next period on.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from stoplist.core.counts import Cell, Count, Disclosure, Outcome, Period, Row
from stoplist.core.decide import Ruleset
from stoplist.core.policy.models import Policy
from stoplist.errors import StoplistError
from stoplist.proxy.counting import verdict_counter
from stoplist.proxy.counting.shared_counters import FIRST_CELL, Layout, Number, SharedCounters
from stoplist.proxy.log import log_allowlist, records
from stoplist.state import State

BEAT_SECONDS = 60.0
"""How often the gate writes counts, reports faults, and judges open connections again."""
_LONGEST_PERIOD = 26 * 3600
_LATER = 0.01
"""How long after its end, in seconds, a period has closed for sure."""


class Kept(TypedDict):
    """The cells, in the order of their places, and the counts that were not written; as JSON values."""

    cells: Sequence[Sequence[Any]]
    unwritten: Sequence[Sequence[Any]]


NOTHING_KEPT = Kept(cells=(), unwritten=())


@dataclass
class _Entry:
    """The numbers to add to a cell: requests, and the seconds of counting while its list was fresh or expired."""

    requests: int = 0
    fresh: int = 0
    expired: int = 0


class PeriodCounts:
    """The counts of the gate with this state. `kept` comes from `keep` of an earlier PeriodCounts of the same gate.

    `follow` must be called before the first beat. Times are POSIX seconds.
    """

    def __init__(self, state: State, kept: Kept = NOTHING_KEPT) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._beating = threading.Lock()
        """Held through a beat: a beat writes or keeps the counts that it took before the next beat takes any."""
        self._all_counters: list[SharedCounters] = []
        self._layout = Layout(_cell(*cell) for cell in kept["cells"])
        self._policy: Policy | None = None
        self._expiry: dict[Cell, float] = {}
        self._leaving: frozenset[Cell] = frozenset()
        """Cells of the ruleset before. A request that was judged earlier may still be counted in one.

        These cells get a row even without requests, so that a row tells no more than the row of a cell in force.
        """
        self._period: Period | None = None
        self._since = time.monotonic()
        self._unwritten = {(Period(*period), _cell(*cell)): _Entry(*entry) for period, cell, entry in kept["unwritten"]}
        self._reported_until: int | None = None
        self._has_failed = False
        self._gone = [0] * FIRST_CELL
        self.closed: tuple[Row, ...] = ()
        """The rows that are shown of the period that closed last."""

    def keep(self) -> Kept:
        """The values that the PeriodCounts after this one needs to take over: plain values."""
        with self._lock:
            return {
                "cells": [astuple(cell) for cell in self._layout.by_place()],
                "unwritten": [
                    (astuple(period), astuple(cell), astuple(entry))
                    for (period, cell), entry in self._unwritten.items()
                ],
            }

    def follow(self, ruleset: Ruleset, now: float) -> Mapping[Cell, int]:
        """Prepare for a ruleset that comes into force next.

        Gives the places of its cells, and of the cells of the ruleset before.
        """
        with self._lock:
            self._take(now)
            before = self._expiry.keys() or dict(self._layout.items()).keys()  # at the start: all cells that were kept
            self._leaving = frozenset(before)
            self._policy = ruleset.policy
            expiry: dict[tuple[str | None, int | None], float] = {
                (signed.header.list, signed.header.serial): signed.header.expires.timestamp()
                for signed in ruleset.lists
            }
            cells = verdict_counter.cells(ruleset)
            self._expiry = {cell: expiry.get((cell.list, cell.serial), float("inf")) for cell in cells}
            if self._period is None:
                self._period = self._period_at(now)
            return self._layout.of(self._expiry.keys() | before)

    def read(self, counters: SharedCounters) -> None:
        """Read these counters too from now on."""
        with self._lock:
            self._all_counters.append(counters)

    def leave(self, counters: SharedCounters) -> None:
        """Take the last counts from these counters, and stop reading them: their process is gone."""
        with self._lock:
            self._collect(counters)
            self._all_counters.remove(counters)
            self._gone = _sum(self._gone, counters)
            self._gone[Number.TUNNELS] = 0

    def numbers(self) -> list[int]:
        """The numbers that are no cells (see shared_counters.Number), summed over all counters of the gate so far."""
        with self._lock:
            return functools.reduce(_sum, self._all_counters, self._gone)

    @property
    def has_unwritten(self) -> bool:
        """Whether the last attempt to write counts failed."""
        return self._has_failed

    def beat(self, now: float) -> float:
        """Write the counts to the state, and a closed period to the log. Returns the seconds until the next beat."""
        with self._beating:
            left = self._write(now)
            self._report(now)
        return min(BEAT_SECONDS, left + _LATER)

    def _write(self, now: float) -> float:
        """Take the counts, and write them to the state. Returns the seconds that the open period has left."""
        with self._lock:
            self._take(now)
            unwritten, self._unwritten = self._unwritten, {}
            assert self._period is not None
            if not self._period.seconds_left(now):
                self._period = self._period_at(now)
            left = self._period.seconds_left(now)
        try:
            self._state.count(_counts(unwritten))
            unwritten, self._has_failed = {}, False
        except StoplistError as error:
            self._complain(error)
        finally:
            with self._lock:
                for (period, cell), entry in unwritten.items():
                    self._add(period, cell, entry.requests, entry.fresh, entry.expired)
        return left

    def _period_at(self, now: float) -> Period:
        assert self._policy is not None
        return Period.at(now, self._policy.counts.period, self._policy.time_zone)

    def _take(self, now: float) -> None:
        """Take the counts since the last time, for the open period."""
        elapsed = int(time.monotonic() - self._since)
        self._since += elapsed
        for counters in self._all_counters:
            self._collect(counters)
        if self._period is None:
            return
        for cell in self._leaving:
            self._add(self._period, cell, 0)
        self._leaving = frozenset()
        for cell, expires in self._expiry.items():
            fresh = elapsed if now < expires else 0
            self._add(self._period, cell, 0, fresh, elapsed - fresh)

    def _collect(self, counters: SharedCounters) -> None:
        assert self._period is not None
        for cell, place in self._layout.items():
            counted = counters.numbers[place]
            if counted != counters.taken[place]:
                self._add(self._period, cell, counted - counters.taken[place])
                counters.taken[place] = counted

    def _add(self, period: Period, cell: Cell, requests: int, fresh: int = 0, expired: int = 0) -> None:
        entry = self._unwritten.setdefault((period, cell), _Entry())
        entry.requests += requests
        entry.fresh += fresh
        entry.expired += expired

    def _report(self, now: float) -> None:
        """Write the periods that have closed since the last time to the log."""
        assert self._policy is not None
        policy = self._policy.counts
        with self._lock:
            counts = _counts(self._unwritten)
        try:
            if self._reported_until is None:
                self._reported_until = self._state.reported_until()
            counts += self._state.counts(self._reported_until - _LONGEST_PERIOD, now)
        except StoplistError as error:
            self._complain(error)
            return  # without the state the numbers would be too small
        rows = Disclosure(policy.hide_below, policy.round_to).rows(
            [[each for each in counts if each.period.ends <= now]]
        )
        if not rows:
            return
        last = max(row.period.ends for row in rows)
        self.closed = tuple(row for row in rows if row.period.ends == last)
        new = [row for row in rows if row.period.ends > self._reported_until]
        if not new:
            return
        for row in new:
            log_allowlist.say(records.Counts.of(row, policy.hide_below))
        self._reported_until = last
        try:
            self._state.report_until(last, policy.keep.before(datetime.fromtimestamp(now, UTC)).timestamp())
        except StoplistError as error:
            self._complain(error)

    def _complain(self, error: StoplistError) -> None:
        if not self._has_failed:
            self._has_failed = True
            log_allowlist.say(records.CountsNotWritten(error))


def _sum(numbers: list[int], counters: SharedCounters) -> list[int]:
    return [number + more for number, more in zip(numbers, counters.numbers, strict=False)]


def _cell(list_id: str | None, serial: int | None, outcome: str) -> Cell:
    return Cell(list_id, serial, Outcome(outcome))


def _counts(entries: Mapping[tuple[Period, Cell], _Entry]) -> list[Count]:
    return [
        Count(period, cell, entry.requests, entry.fresh, entry.expired) for (period, cell), entry in entries.items()
    ]
