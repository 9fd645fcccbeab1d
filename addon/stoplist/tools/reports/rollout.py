"""Rollout: what enforcing would have done over the periods in which something was observed.

It is made from a report (see report.py), and so from numbers that may be shown, hidden and rounded as a report has
them.

Rules
  - It says over which periods each list was observed, and over which not. It does not calculate from some to others.
  - It gives no share of all requests: requests that passed are a row of their own in a report, and a quotient of two
    rounded numbers would look more exact than they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from stoplist import loading
from stoplist.core.counts import Outcome, Period, Row, Shown, total
from stoplist.core.policy.models import Policy
from stoplist.errors import StoplistError
from stoplist.tools.reports import report as reporting
from stoplist.tools.reports.report import Report


@dataclass(frozen=True, slots=True)
class Observed:
    """One list: a row for each period in which gates observed it, and the number of seconds for which they did."""

    list: str
    rows: tuple[Row, ...]
    seconds: Mapping[Period, int]

    @property
    def total(self) -> Shown:
        return total(self.rows)

    @property
    def hidden(self) -> int:
        """The number of periods in which the number is hidden."""
        return sum(row.shown.requests is None for row in self.rows)


@dataclass(frozen=True, slots=True)
class Rollout:
    """The observed lists, and the report from which they are taken."""

    report: Report
    lists: tuple[Observed, ...]

    @property
    def total(self) -> Shown:
        return total(row for each in self.lists for row in each.rows)

    @property
    def periods(self) -> list[Period]:
        """The periods in which any list was observed."""
        return sorted({row.period for each in self.lists for row in each.rows})


def make(policy: Path, states: Sequence[Path], *, since: date | None, until: date | None, now: datetime) -> Rollout:
    """What enforcing would have done at the gates with these state directories. Raises StoplistError, also if
    nothing was observed."""
    report, _ = reporting.make(policy, states, since=since, until=until, now=now)
    rows = [row for row in report.rows if row.list is not None and row.outcome is Outcome.OBSERVED]
    if not rows:
        raise StoplistError(
            f"nothing was observed ({report.range})",
            hint=_how_to_begin(loading.read_policy(policy).policy),
            place=str(policy),
        )
    lists = []
    for name in sorted({row.list for row in rows if row.list is not None}):
        seconds = {
            each.period: each.fresh + each.expired
            for each in report.coverage
            if each.list == name and not each.is_enforced
        }
        lists.append(Observed(name, tuple(row for row in rows if row.list == name), seconds))
    return Rollout(report, tuple(lists))


def _how_to_begin(policy: Policy) -> str:
    if policy.observe_clients or not all(policy.enforces(wanted) for wanted in policy.lists):
        return f"the policy observes: ask again after a full {policy.counts.period} of observing"
    return "begin with 'mode: observe' for the policy or one of its lists, or with 'observe_clients: [10.7.0.0/16]'"
