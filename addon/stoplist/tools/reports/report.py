"""Report: an operator hands it to the list provider, and a data protection officer can check it.

It says how many requests were stopped in periods that have closed, as far as core/counts.py allows a report to show
a number. It says when a fresh list was enforced, how lists changed, and whether the policy's tests pass now. If
results of self-tests are given, it says how they went.

Rules
  - No field of a report could name a person. It holds numbers that may be shown, names and serials of lists, times,
    states and checks of self-tests, and what the policy says of its operator. It holds no path, no reason in words,
    no key id.
  - Exact numbers end in `make`: a report holds none, so no rendering of it can hold any.
  - The module only reads states. It adds gates up before it hides anything, and each of them once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from stoplist import __version__, loading
from stoplist.core.counts import Count, Disclosure, Outcome, Period, PeriodLength, Row
from stoplist.core.decide import Reason, decide
from stoplist.core.hosts import Host
from stoplist.core.policy.models import Policy
from stoplist.errors import StoplistError
from stoplist.state import State
from stoplist.state_database import DATABASE
from stoplist.state_records import JOURNAL_ROWS, OF_POLICIES, Entry
from stoplist.tools.selftest.results import SelfTests, sum_up


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a list was in force in a period, and for how many seconds gates counted by it, while it was fresh or not.

    `is_fresh` says that at each of the `gates` that have it, the list was fresh there and never expired.
    """

    period: Period
    list: str
    is_enforced: bool
    gates: int
    is_fresh: bool
    fresh: int
    expired: int


@dataclass(frozen=True, slots=True)
class ListEvent:
    """Something that happened to a list at a gate. `gate` is the number of the gate among those of the report, from
    1 on."""

    gate: int
    time: datetime
    result: str
    list: str | None
    serial: int | None
    signers: int


@dataclass(frozen=True, slots=True)
class PolicyTests:
    """Whether the policy's files load, the check host of each list would be stopped, and each of its tests passes."""

    passed: bool
    tests: int


@dataclass(frozen=True, slots=True)
class Report:
    """The contents of a report. `periods` are all of the range; `silent` are those in which no gate counted.

    `self_tests` is None if no results of them were given.
    """

    made: datetime
    version: str
    operator: str
    authority: str
    time_zone: ZoneInfo
    length: PeriodLength
    disclosure: Disclosure
    gates: int
    periods: tuple[Period, ...]
    silent: frozenset[Period]
    rows: tuple[Row, ...]
    coverage: tuple[Coverage, ...]
    changes: tuple[ListEvent, ...]
    policy_tests: PolicyTests
    self_tests: SelfTests | None

    @property
    def range(self) -> str:
        """The words for the periods of the report."""
        return self.periods[0].through(self.periods[-1]) if self.periods else "no period has closed yet"


def make(
    policy: Path,
    states: Sequence[Path],
    *,
    since: date | None,
    until: date | None,
    now: datetime,
    selftests: Sequence[Path] = (),
) -> tuple[Report, list[StoplistError]]:
    """Report on the gates with these state directories, from one day of the policy's time zone to another.

    Without days, the report covers everything that is kept. `selftests` are files with results of self-tests. The
    function also returns the reasons why the policy's tests fail, for the person who asks: the report does not hold
    them. Raises StoplistError if the policy, a state or a result cannot be read.
    """
    _check_distinct(states)
    text = loading.read_policy(policy)
    days = _Days.of(text.policy, since, until, now)
    gates, changes = _read(states, days)
    disclosure = Disclosure(text.policy.counts.hide_below, text.policy.counts.round_to)
    rows = disclosure.rows(gates)
    counted = sorted({row.period for row in rows})
    silent = _without(counted, _calendar(text.policy, days, counted[0].starts if counted else None))
    periods = sorted([*counted, *silent])
    policy_tests, problems = _test(policy, text.policy, now)
    keeper = text.policy.stop_page.authority
    report = Report(
        made=now.replace(microsecond=0),
        version=__version__,
        operator=text.policy.stop_page.operator.in_language("en"),
        authority=keeper.in_language("en") if keeper is not None else "not named in the policy",
        time_zone=text.policy.time_zone,
        length=text.policy.counts.period,
        disclosure=disclosure,
        gates=len(states),
        periods=tuple(periods),
        silent=frozenset(silent),
        rows=tuple(rows),
        coverage=tuple(_coverage(gates)),
        changes=tuple(changes),
        policy_tests=policy_tests,
        self_tests=sum_up(selftests, periods, days.starts, days.ends) if selftests else None,
    )
    return report, problems


@dataclass(frozen=True, slots=True)
class _Days:
    """The range of a report, in POSIX seconds. `is_first_given` says that somebody asked for its first day."""

    starts: float
    ends: float
    is_first_given: bool

    @classmethod
    def of(cls, policy: Policy, since: date | None, until: date | None, now: datetime) -> _Days:
        """The range without periods that the policy would have forgotten, and without periods that have not closed."""

        def midnight(day: date) -> float:
            return datetime.combine(day, time(), policy.time_zone).timestamp()

        first = policy.counts.keep.before(now).astimezone(policy.time_zone).date()
        last = now.astimezone(policy.time_zone).date()
        return cls(
            midnight(max(first, since or first)),
            min(midnight(min(last, until or last) + timedelta(days=1)), now.timestamp()),
            since is not None,
        )


def _check_distinct(states: Sequence[Path]) -> None:
    """Refuse a gate that is named twice: its sum would give away the hidden numbers. Raises StoplistError."""
    known: list[Path] = []
    for folder in states:
        database = folder / DATABASE
        if database.exists():
            if any(database.samefile(other) for other in known):
                raise StoplistError(
                    "the state of one gate is named twice", hint="name each gate once", place=str(folder)
                )
            known.append(database)


def _read(states: Sequence[Path], days: _Days) -> tuple[list[list[Count]], list[ListEvent]]:
    """The exact counts of each gate, and the events of lists, the oldest first."""
    gates: list[list[Count]] = []
    changes: list[ListEvent] = []
    for number, folder in enumerate(states, 1):
        state = State.open_read_only(folder)
        try:
            gates.append(state.counts(days.starts, days.ends))
            changes += [
                _change(number, entry)
                for entry in reversed(state.journal(JOURNAL_ROWS))
                if entry.result not in OF_POLICIES
            ]
        finally:
            state.close()
    within = [change for change in changes if days.starts <= change.time.timestamp() < days.ends]
    return gates, sorted(within, key=lambda change: change.time)


def _change(gate: int, entry: Entry) -> ListEvent:
    return ListEvent(
        gate, datetime.fromisoformat(entry.time), entry.result, entry.list, entry.serial, len(entry.signers)
    )


def _calendar(policy: Policy, days: _Days, first_counted: int | None) -> Iterator[Period]:
    """The periods in which gates should have counted."""
    starts = days.starts if days.is_first_given else first_counted
    if starts is not None:
        period = Period.at(starts, policy.counts.period, policy.time_zone)
        while period.ends <= days.ends:
            yield period
            period = Period.at(period.ends, policy.counts.period, policy.time_zone)


def _without(counted: Sequence[Period], periods: Iterable[Period]) -> list[Period]:
    """The periods that have no time in common with one of `counted`; both are in order."""
    found, at = [], 0
    for period in periods:
        while at < len(counted) and counted[at].ends <= period.starts:
            at += 1
        if at == len(counted) or period.ends <= counted[at].starts:
            found.append(period)
    return found


def _coverage(gates: Iterable[Iterable[Count]]) -> list[Coverage]:
    """For each list and period how the list was in force, if gates counted by it for some time: a count alone is not
    enough."""
    parts: defaultdict[tuple[Period, str, bool], list[tuple[int, int]]] = defaultdict(list)
    for gate in gates:
        seconds: defaultdict[tuple[Period, str, bool], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for count in gate:
            if count.cell.list is not None and count.cell.outcome in (Outcome.STOPPED, Outcome.OBSERVED):
                key = (count.period, count.cell.list, count.cell.outcome is Outcome.STOPPED)
                fresh, expired = seconds[key]
                seconds[key] = (fresh + count.fresh, expired + count.expired)
        for key, (fresh, expired) in seconds.items():
            if fresh or expired:  # two serials can be observed side by side, but an hour is one hour
                longest = key[0].ends - key[0].starts
                parts[key].append((min(fresh, longest), min(expired, longest)))
    return [
        Coverage(
            *key,
            gates=len(parts[key]),
            is_fresh=all(fresh > 0 and not expired for fresh, expired in parts[key]),
            fresh=sum(fresh for fresh, _ in parts[key]),
            expired=sum(expired for _, expired in parts[key]),
        )
        for key in sorted(parts)
    ]


def _test(path: Path, policy: Policy, now: datetime) -> tuple[PolicyTests, list[StoplistError]]:
    tests = len(policy.lists) + len(policy.tests)
    try:
        loaded = loading.load(path, now=now)
    except StoplistError as error:
        return PolicyTests(passed=False, tests=tests), [error]
    hosts = [Host.parse(signed.header.check_host) for signed in loaded.ruleset.lists]
    verdicts = [decide(loaded.ruleset, host, now.timestamp()) for host in hosts]
    passed = all(verdict.reason is Reason.CHECK_HOST for verdict in verdicts)
    return PolicyTests(passed, tests), list(loaded.warnings)
