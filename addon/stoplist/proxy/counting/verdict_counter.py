"""VerdictCounter: adds one to the cell of each verdict, in shared counters.

Rules
  - The counter gets a verdict without its request, and knows nothing else.
  - It never counts the check host.
  - Only the event loop uses it, except `follow`.
"""

from __future__ import annotations

from collections.abc import Mapping

from stoplist.core.counts import Cell, Outcome, cells_of
from stoplist.core.decide import Action, Ruleset, Verdict
from stoplist.proxy.counting.shared_counters import SharedCounters

_OUTCOMES = {
    Action.PASS: Outcome.PASSED,
    Action.OBSERVE: Outcome.OBSERVED,
    Action.REFUSE: Outcome.REFUSED,
    Action.STOP: Outcome.NOT_SHOWN,
}


class VerdictCounter:
    """Counts in `counters`. The `layout` gives the place of each cell."""

    def __init__(self, counters: SharedCounters, layout: Mapping[Cell, int]) -> None:
        self.counters = counters
        self._layout = layout
        self._places: dict[tuple[Verdict, bool], int] = {}

    def follow(self, layout: Mapping[Cell, int]) -> None:
        """Use another layout from now on. It must contain the cells of the ruleset before as well."""
        self._layout = layout
        self._places = {}

    def add(self, verdict: Verdict, *, page: bool = False) -> None:
        """Count one request by its verdict; `page` says that it was answered with the stop page."""
        place = self._places.get((verdict, page))
        if place is None:
            if not verdict.is_counted:
                return
            place = self._places[verdict, page] = self._layout[_cell_of(verdict, page=page)]
        self.counters.numbers[place] += 1


def _cell_of(verdict: Verdict, *, page: bool) -> Cell:
    outcome = Outcome.STOPPED if page else _OUTCOMES[verdict.action]
    return Cell(verdict.list, verdict.serial, outcome)


def cells(ruleset: Ruleset) -> list[Cell]:
    """Each cell in which a request can be counted under a ruleset."""
    found: list[Cell] = []
    for is_enforced in (True, False):
        lists = {
            (signed.header.list, signed.header.serial): is_enforced
            for signed, verdict in (*ruleset.entries, *ruleset.observed)
            if (verdict.action is Action.STOP) is is_enforced
        }
        found += cells_of(lists)
    return list(dict.fromkeys(found))
