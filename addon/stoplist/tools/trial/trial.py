"""Trial: what a gate would have done with the requests in logs, before any gate runs.

The trial judges each host as a gate would judge it now: by the policy with its lists, exceptions and mode. A log
does not say which kind of client asked, so a stopped request has only one outcome. The trial resolves no name, so
rules for addresses apply only if the log has an address.

Rules
  - The trial parses and judges a host once, not once for each line. It forgets verdicts when there are too many of
    them.
  - Hosts are in memory only: a trial holds numbers, unless the person who runs it asks to reveal the hosts.
  - The rules of core/counts.py decide which numbers it shows, so that a result can be handed on and identifies
    nobody, unless somebody asks for exact ones. It differs from a report in two points. It shows a day that is not
    over, since a trial is made once, from a log that its maker has. It counts false positives exactly, since each is
    a mistake of the list.
  - It gives the number of requests that it read as the sum of the numbers that are shown: the exact number would
    give away the hidden ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

from stoplist import __version__, loading
from stoplist.core.counts import Cell, Count, Disclosure, Outcome, Period, Row, Shown, cells_of
from stoplist.core.decide import UNREADABLE, Action, Ruleset, Verdict, decide
from stoplist.core.hosts import Host, HostError
from stoplist.core.lists.digests import DigestSet
from stoplist.errors import StoplistError
from stoplist.tools import progress
from stoplist.tools.trial.distinct_hosts import MAX_HOSTS, DistinctHosts, Found, covers, digests_of, read_known
from stoplist.tools.trial.logs.formats import Hit
from stoplist.tools.trial.logs.inputs import STDIN, Input
from stoplist.tools.trial.logs.reading import Batch, Reading
from stoplist.tools.trial.logs.stamps import day_of
from stoplist.tools.trial.logs.targets import host_of

MAX_DAYS = 4000
"""How many days the trial tells apart; it counts requests of further days under no day."""
NO_DAY = Period(0, 0, "no day")
"""The period for requests without a time."""
_REMEMBERED = 100_000
_LONGEST_REMEMBERED = 128
_OUTCOMES = {
    Action.STOP: Outcome.STOPPED,
    Action.OBSERVE: Outcome.OBSERVED,
    Action.REFUSE: Outcome.REFUSED,
    Action.PASS: Outcome.PASSED,
}


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """The options of a trial: the inputs by name, how to read them, and how much to disclose."""

    policy: Path
    inputs: tuple[str, ...]
    format: str | None = None
    column: str | None = None
    known: Path | None = None
    is_exact: bool = False
    reveals: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A list that was tried."""

    list: str
    serial: int
    domains: int
    is_enforced: bool


@dataclass(frozen=True, slots=True, repr=False)
class Revealed:
    """A host that would be stopped or observed, and the number of requests for it."""

    host: str
    list: str
    outcome: Outcome
    requests: int
    is_never_block: bool
    is_known: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """The result. `disclosure` is None if numbers are exact; `rows` are by day, then by list and outcome.

    `requests` is how many were read, and `judged` how many of them are not for a check host. Both are None if
    numbers are not exact. `ignored` and `unparsable` count lines without a request, and lines that could not be
    read.
    """

    made: datetime
    version: str
    operator: str
    time_zone: ZoneInfo
    disclosure: Disclosure | None
    formats: tuple[str, ...]
    inputs: int
    lists: tuple[Tried, ...]
    days: tuple[Period, ...]
    rows: tuple[Row, ...]
    requests: int | None
    judged: int | None
    found: Found
    ignored: int
    unparsable: int
    revealed: tuple[Revealed, ...] = ()


@dataclass(frozen=True, slots=True)
class Unparsable:
    """How many lines of an input could not be read, and the numbers of the first ones."""

    name: str
    lines: int
    told: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A trial, and messages for its maker: warnings of the policy, and inputs that could not be read, with the
    reasons."""

    trial: Trial
    warnings: tuple[StoplistError, ...]
    unparsable: tuple[Unparsable, ...]
    faults: tuple[StoplistError, ...]


type TrackBatches = Callable[[Iterator[Batch], int | None], Iterable[Batch]]


def run(wanted: TrialOptions, stdin: BinaryIO, now: datetime, track: TrackBatches) -> Outcomes:
    """Try a policy on logs. `track` gets the batches, and the size of all inputs if it is known.

    Raises StoplistError if the policy, the known sites or an input cannot be opened, or if its format is unknown.
    """
    loaded = loading.load(wanted.policy, now=now)
    judging = _Judging.of(loaded.ruleset, wanted, now)
    reader = _Reader(wanted, stdin)
    sizes = [reader.look_at(name) for name in wanted.inputs]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    for batch in track(reader.batches(), total):
        judging.judge(batch)
    trial = judging.trial(sorted(reader.formats))
    return Outcomes(trial, loaded.warnings, tuple(reader.unparsable), tuple(reader.faults))


@dataclass(slots=True)
class _Reader:
    """All inputs, one after the other, and the facts learned about them."""

    wanted: TrialOptions
    stdin: BinaryIO
    formats: set[str] = field(default_factory=set)
    unparsable: list[Unparsable] = field(default_factory=list)
    faults: list[StoplistError] = field(default_factory=list)

    def look_at(self, name: str) -> int | None:
        """The size of an input, None if nobody knows it. For a file it also checks that its format is known, so that
        the trial does not fail after hours with the inputs before it."""
        if name == STDIN or not Path(name).is_file():
            return progress.size_of(self.stdin) if name == STDIN else None
        reading = self._open(name)
        try:
            reading.begin()
            return reading.source.size
        finally:
            reading.source.close()

    def batches(self) -> Iterator[Batch]:
        for name in self.wanted.inputs:
            reading = self._open(name)
            lines, told = 0, list[int]()
            try:
                for batch in reading.batches():
                    lines += batch.unparsable
                    told += batch.told
                    yield batch
            finally:
                reading.source.close()
            if reading.format:
                self.formats.add(reading.format)
            if lines:
                self.unparsable.append(Unparsable(reading.source.name, lines, tuple(told)))
            if reading.source.fault:
                self.faults.append(reading.source.fault)

    def _open(self, name: str) -> Reading:
        return Reading(Input.open(name, self.stdin), self.wanted.format, self.wanted.column)


class _Remembered[T](dict[bytes, T]):
    """A cache of the values for the last keys, up to twice `_REMEMBERED`; it computes others with `find_out`."""

    def __init__(self, find_out: Callable[[bytes], T]) -> None:
        super().__init__()
        self._find_out = find_out
        self._older: dict[bytes, T] = {}

    def __missing__(self, key: bytes) -> T:
        value = self._older.get(key)
        if value is None:
            value = self._find_out(key)
        if len(key) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self._older = dict(self)
                self.clear()
            self[key] = value
        return value


@dataclass(slots=True, repr=False)
class _Judging:
    """The verdicts so far. `days` holds a number for each of `cells`, and one for requests that are not counted."""

    ruleset: Ruleset
    wanted: TrialOptions
    now: datetime
    cells: list[Cell]
    never_block: DigestSet
    known: DigestSet | None
    days: dict[date | None, list[int]] = field(default_factory=dict)
    ignored: int = 0
    unparsable: int = 0
    hosts: _Remembered[int] = field(init=False)
    stamps: _Remembered[list[int]] = field(init=False)
    stopped: DistinctHosts = field(init=False)
    revealed: dict[str, tuple[Cell, int]] = field(default_factory=dict)
    places: dict[Verdict, int] = field(default_factory=dict)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.now.timestamp()
        self.hosts = _Remembered(self._place_of)
        self.stamps = _Remembered(self._counts_of)
        self.stopped = DistinctHosts(self.never_block, self.known)

    @classmethod
    def of(cls, ruleset: Ruleset, wanted: TrialOptions, now: datetime) -> _Judging:
        lists = {
            (signed.header.list, signed.header.serial): verdict.action is Action.STOP
            for signed, verdict in ruleset.entries
        }
        cells = [cell for cell in cells_of(lists) if cell.outcome is not Outcome.NOT_SHOWN]
        known = digests_of(read_known(wanted.known)) if wanted.known else None
        return cls(ruleset, wanted, now, cells, digests_of(ruleset.policy.never_block), known)

    def judge(self, batch: Batch) -> None:
        self.ignored += batch.ignored
        self.unparsable += batch.unparsable
        stamps, hosts = self.stamps, self.hosts
        for (stamp, host), number in batch.requests.items():
            stamps[stamp][hosts[host]] += number
        if self.wanted.reveals:
            self._reveal(batch.requests.items())

    def _place_of(self, written: bytes) -> int:
        """The place at which to count requests for this host; the last place is for requests that are not counted."""
        try:
            host = host_of(written)
        except HostError:
            return self._place(UNREADABLE)
        verdict = decide(self.ruleset, host, self.at)
        if verdict.list is not None and verdict.is_counted:
            self.stopped.add(host)
        return self._place(verdict)

    def _place(self, verdict: Verdict) -> int:
        place = self.places.get(verdict)
        if place is None:
            cell = Cell(verdict.list, verdict.serial, _OUTCOMES[verdict.action])
            place = self.cells.index(cell) if verdict.is_counted else len(self.cells)
            self.places[verdict] = place
        return place

    def _counts_of(self, stamp: bytes) -> list[int]:
        day = day_of(stamp, self.ruleset.policy.time_zone, self.now)
        if day not in self.days and len(self.days) >= MAX_DAYS:
            day = None
        return self.days.setdefault(day, [0] * (len(self.cells) + 1))

    def _reveal(self, requests: Iterable[tuple[Hit, int]]) -> None:
        of_lists = {place for place, cell in enumerate(self.cells) if cell.list is not None}
        for (_, written), number in requests:
            place = self.hosts[written]
            if place in of_lists:
                name = host_of(written).name
                if name in self.revealed or len(self.revealed) < MAX_HOSTS:
                    cell, before = self.revealed.get(name, (self.cells[place], 0))
                    self.revealed[name] = (cell, before + number)

    def trial(self, formats: Sequence[str]) -> Trial:
        policy = self.ruleset.policy
        is_exact = self.wanted.is_exact or self.wanted.reveals
        disclosure = None if is_exact else Disclosure(policy.counts.hide_below, policy.counts.round_to)
        rows = self._rows(disclosure)
        return Trial(
            made=self.now.replace(microsecond=0),
            version=__version__,
            operator=policy.stop_page.operator.in_language("en"),
            time_zone=policy.time_zone,
            disclosure=disclosure,
            formats=tuple(formats),
            inputs=len(self.wanted.inputs),
            lists=tuple(
                Tried(signed.header.list, signed.header.serial, signed.header.count, verdict.action is Action.STOP)
                for signed, verdict in self.ruleset.entries
            ),
            days=_calendar(sorted({row.period for row in rows if row.period != NO_DAY}), policy.time_zone),
            rows=tuple(rows),
            requests=sum(map(sum, self.days.values())) if is_exact else None,
            judged=sum(sum(numbers[:-1]) for numbers in self.days.values()) if is_exact else None,
            found=self.stopped.found(disclosure),
            ignored=self.ignored,
            unparsable=self.unparsable,
            revealed=tuple(self._revealed()),
        )

    def _rows(self, disclosure: Disclosure | None) -> list[Row]:
        counts = [
            Count(_period(day, self.ruleset.policy.time_zone), cell, number, 0, 0)
            for day, numbers in self.days.items()
            for cell, number in zip(self.cells, numbers, strict=False)
        ]
        if disclosure is not None:
            return disclosure.rows([counts])
        numbers = {(count.period, count.cell.list, count.cell.outcome): count.requests for count in counts}
        return [
            Row(row.period, row.list, row.outcome, row.serials, Shown(numbers[row.period, row.list, row.outcome], True))
            for row in Disclosure().rows([counts])
        ]

    def _revealed(self) -> Iterator[Revealed]:
        ordered = sorted(self.revealed.items(), key=lambda each: (-each[1][1], each[0]))
        for name, (cell, number) in ordered:
            host = Host.parse(name)
            yield Revealed(
                host=name,
                list=cell.list or "",
                outcome=cell.outcome,
                requests=number,
                is_never_block=covers(self.never_block, host),
                is_known=self.known is not None and covers(self.known, host),
            )


def _period(day: date | None, zone: ZoneInfo) -> Period:
    if day is None:
        return NO_DAY
    return Period.at(datetime.combine(day, time(12), zone).timestamp(), "day", zone)


def _calendar(days: Sequence[Period], zone: ZoneInfo) -> tuple[Period, ...]:
    """The days from the first to the last, also those without a request, unless that are too many."""
    if not days or days[-1].starts - days[0].starts > timedelta(days=MAX_DAYS).total_seconds():
        return tuple(days)
    found = [days[0]]
    while found[-1] < days[-1]:
        found.append(Period.at(found[-1].ends, "day", zone))
    return tuple(found)
