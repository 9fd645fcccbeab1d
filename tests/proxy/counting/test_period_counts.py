"""PeriodCounts: what processes count is in the state once, in its period, whatever breaks; a closed one is said once.

A real state on a real disk. Time is what a test says: POSIX seconds, and those that have passed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoplist.core.counts import Cell, Count, Outcome, Period, Row
from stoplist.core.decide import Ruleset, decide
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.proxy.counting.period_counts import BEAT_SECONDS, NOTHING_KEPT, Kept, PeriodCounts
from stoplist.proxy.counting.shared_counters import FIRST_CELL, NUMBERS, Number, SharedCounters
from stoplist.proxy.counting.verdict_counter import VerdictCounter, cells
from stoplist.proxy.log.records import Counts, CountsNotWritten, Record
from stoplist.state import State
from tests.disks import tiny_disk
from tests.e2e.network import SECONDS
from tests.examples import examples
from tests.fixed_time import NOW
from tests.rulesets import ruleset, signed

HOUR, DAY = 3600, 86400
PASSED = Cell(None, None, Outcome.PASSED)
REFUSED = Cell(None, None, Outcome.REFUSED)
STOPPED = Cell("worst-of", 1, Outcome.STOPPED)
NOT_SHOWN = Cell("worst-of", 1, Outcome.NOT_SHOWN)
HOSTS = {"listed.example": NOT_SHOWN, "pass.example": PASSED, "127.0.0.1": REFUSED}
EVER = 2**40


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


DAWN = NOW.replace(hour=6, minute=30).timestamp()
MIDNIGHT = NOW.replace(day=22, hour=0).timestamp()


def of_serial(serial: int, **more: object) -> Ruleset:
    return ruleset(signed("listed.example", serial=serial), **more)


RULES = of_serial(1)
HOURLY = of_serial(1, counts={"period": "hour"})


class Clock:
    """What time it is, and how much has passed: clocks can be set, and what has passed cannot."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.passed = 1000.0

    def __call__(self) -> float:
        return self.passed

    def go(self, seconds: float) -> None:
        self.now += seconds
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(DAWN)
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Record]]:
    """What was written to the log so far."""
    caplog.set_level("INFO")
    return lambda: [record.msg for record in caplog.records if isinstance(record.msg, Record)]


class FailingState(State):
    """A state on a disk that fails as it is told to."""

    fails_to_count = False
    fails_halfway = False
    fails_to_read = False
    fails_to_remember = False

    def count(self, counts: Iterable[Count]) -> None:
        if self.fails_to_count:
            raise StoplistError("the state cannot be written")
        if self.fails_halfway:
            broken: list[Count] = [Count(Period(0, 1, "x"), PASSED, 1, "no number", 0)]
            counts = chain(counts, broken)
        super().count(counts)

    def counts(self, since: float, until: float) -> list[Count]:
        if self.fails_to_read:
            raise StoplistError("the state cannot be read")
        return super().counts(since, until)

    def report_until(self, ends: int, forget_before: float) -> None:
        if self.fails_to_remember:
            raise StoplistError("the state cannot be written")
        super().report_until(ends, forget_before)


class Gate:
    """A gate of one process: its counts, and a counter for them."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        rules: Ruleset = RULES,
        kept: Kept = NOTHING_KEPT,
        *shared: SharedCounters,
    ) -> None:
        self.clock = clock
        self.folder = folder
        self.state = FailingState.open(folder, datetime.fromtimestamp(clock.now, UTC))
        self.period_counts = PeriodCounts(self.state, kept)
        self.counter = VerdictCounter(SharedCounters(None), {})
        self.follow(rules)
        for counters in (self.counter.counters, *shared):
            self.period_counts.read(counters)

    def follow(self, rules: Ruleset) -> Mapping[Cell, int]:
        self.layout = self.period_counts.follow(rules, self.clock.now)
        self.counter.follow(self.layout)
        self.rules = rules
        return self.layout

    def ask(self, host: str, times: int = 1, *, page: bool = False) -> None:
        verdict = decide(self.rules, Host.parse(host), self.clock.now)
        for _ in range(times):
            self.counter.add(verdict, page=page)

    def stop(self, times: int) -> None:
        self.ask("listed.example", times, page=True)

    def beat(self, after: float = 0) -> float:
        self.clock.go(after)
        return self.period_counts.beat(self.clock.now)

    def counts(self) -> dict[tuple[str, Cell], int]:
        """What is in the state, where it is more than nothing."""
        return {(each.period.name, each.cell): each.requests for each in self.state.counts(0, EVER) if each.requests}

    def end(self) -> None:
        self.period_counts.beat(self.clock.now)
        self.state.close()

    def crash(self) -> None:
        self.state.close()


@dataclass
class Gates:
    """Starts gates that have one state, one after the other."""

    folder: Path
    clock: Clock
    running: list[Gate]

    def __call__(
        self,
        rules: Ruleset = RULES,
        kept: Kept = NOTHING_KEPT,
        *shared: SharedCounters,
        folder: Path | None = None,
    ) -> Gate:
        self.running.append(Gate(folder or self.folder, self.clock, rules, kept, *shared))
        return self.running[-1]


@pytest.fixture
def start(tmp_path: Path, clock: Clock) -> Iterator[Gates]:
    gates = Gates(tmp_path, clock, [])
    yield gates
    for gate in gates.running:
        gate.state.close()


def said(records: Iterable[Record]) -> list[tuple[str, str | None, str, int | None]]:
    """The counts in a log: (period, list, outcome, requests)."""
    return [(each.period, each.list, each.outcome, each.requests) for each in records if isinstance(each, Counts)]


def shown(rows: Iterable[Row]) -> dict[tuple[str, str | None, Outcome], int | None]:
    return {(row.period.name, row.list, row.outcome): row.shown.requests for row in rows}


def all_hidden(period: str) -> list[tuple[str, str | None, str, int | None]]:
    """What is said of a period in which nothing was asked for."""
    return [
        (period, "worst-of", "stopped", None),
        (period, "worst-of", "page not shown", None),
        (period, None, "refused", None),
        (period, None, "passed", None),
    ]


# A period that is open


def test_what_was_counted_is_in_the_state_after_the_next_beat(start: Gates):
    gate = start()
    gate.stop(3)
    gate.ask("listed.example", 2)
    gate.ask("pass.example", 7)
    gate.ask("127.0.0.1", 1)
    assert gate.counts() == {}
    gate.beat(60)
    today = "2026-11-21"
    assert gate.counts() == {(today, STOPPED): 3, (today, NOT_SHOWN): 2, (today, PASSED): 7, (today, REFUSED): 1}


def test_each_beat_adds_what_came_since_the_one_before(start: Gates):
    gate = start()
    for number in (5, 0, 1, 0, 0, 12):
        gate.stop(number)
        gate.beat(60)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 18}


def test_nothing_of_an_open_period_is_shown(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    for _ in range(10):
        gate.stop(50)
        gate.beat(60)
    assert log() == []
    assert gate.period_counts.closed == ()


def test_nothing_of_an_open_period_is_shown_at_the_end_of_a_gate(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(50)
    gate.end()
    assert log() == []


def test_each_row_is_written_whether_or_not_anything_was_counted(start: Gates):
    gate = start()
    gate.beat()
    rows = gate.state.counts(0, EVER)
    assert {each.cell for each in rows} == set(cells(RULES))
    assert {each.requests for each in rows} == {0}


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        pytest.param("2026-11-21T06:30:00", BEAT_SECONDS, id="long before the end"),
        pytest.param("2026-11-21T23:59:00", BEAT_SECONDS, id="a beat before the end"),
        pytest.param("2026-11-21T23:59:20", 40.01, id="less than a beat before the end"),
        pytest.param("2026-11-21T23:59:59.5", 0.51, id="half a second before the end"),
        pytest.param("2026-11-22T00:00:00", BEAT_SECONDS, id="at the end"),
    ],
)
def test_the_next_beat_is_when_the_period_has_closed_or_in_a_minute(start: Gates, moment: str, seconds: float):
    start.clock.now = at("2026-11-21T00:00")
    gate = start()
    start.clock.now = at(moment)
    assert gate.beat() == pytest.approx(seconds)


# How long a gate counted


def times(gate: Gate) -> dict[Cell, tuple[int, int]]:
    return {each.cell: (each.fresh, each.expired) for each in gate.state.counts(0, EVER)}


def test_each_row_says_for_how_long_it_was_counted(start: Gates):
    gate = start()
    for _ in range(5):
        gate.beat(60)
    assert set(times(gate).values()) == {(300, 0)}


def test_seconds_that_are_not_whole_are_not_lost(start: Gates):
    gate = start()
    for _ in range(10):
        gate.beat(0.75)
    assert times(gate)[PASSED] == (7, 0)


def test_it_is_said_for_how_long_a_list_was_expired(start: Gates):
    expires = datetime.fromtimestamp(DAWN + 130, UTC)
    gate = start(ruleset(signed("listed.example", expires=expires)))
    for _ in range(5):
        gate.beat(60)
    assert times(gate)[STOPPED] == times(gate)[NOT_SHOWN] == (120, 180)
    assert times(gate)[PASSED] == times(gate)[REFUSED] == (300, 0)


def test_the_time_in_which_no_gate_ran_is_not_counted(start: Gates):
    gate = start()
    gate.beat(600)
    gate.end()
    start.clock.go(7200)
    gate = start()
    gate.beat(60)
    assert times(gate)[STOPPED] == (660, 0)


def test_a_clock_that_is_set_changes_nothing_of_how_long_was_counted(start: Gates):
    gate = start()
    start.clock.now += 3600
    gate.beat(60)
    start.clock.now -= 3000
    gate.beat(60)
    assert times(gate)[STOPPED] == (120, 0)


# A period that closes


def test_a_closed_period_is_said_and_kept_for_metrics(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(23)
    gate.ask("pass.example", 1002)
    gate.ask("127.0.0.1", 3)
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert said(log()) == [
        ("2026-11-21", "worst-of", "stopped", 25),
        ("2026-11-21", "worst-of", "page not shown", None),
        ("2026-11-21", None, "refused", None),
        ("2026-11-21", None, "passed", 1000),
    ]
    assert list(shown(gate.period_counts.closed).values()) == [25, None, None, 1000]
    assert {each.serials for each in log() if each.list} == {(1,)}


def test_a_closed_period_is_said_once(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    start.clock.now = MIDNIGHT
    for _ in range(5):
        gate.beat(60)
    gate.end()
    gate = start()
    for _ in range(3):
        gate.beat(60)
    assert len(said(log())) == 4


def test_the_next_period_begins_at_none(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    start.clock.now = MIDNIGHT
    gate.beat()
    gate.stop(30)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 20, ("2026-11-22", STOPPED): 30}
    start.clock.now = MIDNIGHT + DAY
    gate.beat()
    assert [row for row in said(log()) if row[2] == "stopped"] == [
        ("2026-11-21", "worst-of", "stopped", 20),
        ("2026-11-22", "worst-of", "stopped", 30),
    ]


def test_what_is_not_taken_yet_belongs_to_the_period_that_closes(start: Gates):
    """A beat comes as the period closes: nothing else says when a request was counted."""
    gate = start()
    gate.stop(20)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert gate.counts() == {("2026-11-21", STOPPED): 20}


def test_a_period_in_which_nothing_was_asked_for_is_said_like_any_small_one(
    start: Gates, log: Callable[[], list[Record]]
):
    gate = start()
    gate.beat()
    start.clock.now = MIDNIGHT
    gate.beat()
    gate.stop(9)
    start.clock.now = MIDNIGHT + DAY
    gate.beat()
    assert said(log()) == all_hidden("2026-11-21") + all_hidden("2026-11-22")


def test_hours_close_one_after_the_other(start: Gates, log: Callable[[], list[Record]]):
    gate = start(HOURLY)
    for number in (10, 20, 30):
        gate.stop(number)
        gate.beat(HOUR)
    assert [(row[0], row[3]) for row in said(log()) if row[2] == "stopped"] == [
        ("2026-11-21T06Z", 10),
        ("2026-11-21T07Z", 20),
        ("2026-11-21T08Z", 30),
    ]
    assert {row.period.name for row in gate.period_counts.closed} == {"2026-11-21T08Z"}


def test_periods_that_a_gate_slept_through_are_not_made_up(start: Gates, log: Callable[[], list[Record]]):
    gate = start(HOURLY)
    gate.stop(10)
    gate.beat(5 * HOUR)
    gate.stop(20)
    gate.beat(HOUR)
    assert [(row[0], row[3]) for row in said(log()) if row[2] == "stopped"] == [
        ("2026-11-21T06Z", 10),
        ("2026-11-21T11Z", 20),
    ]


def test_a_day_is_one_of_the_zone_of_the_policy(start: Gates, log: Callable[[], list[Record]]):
    gate = start(of_serial(1, time_zone="Europe/Paris"))
    gate.stop(10)
    start.clock.now = at("2026-11-21T22:59:59")
    assert gate.beat() == pytest.approx(1.01)
    assert said(log()) == []
    gate.beat(1)
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 10)
    gate.stop(20)
    start.clock.now = at("2026-11-22T22:59:59")
    gate.beat()
    gate.beat(1)
    assert said(log())[4] == ("2026-11-22", "worst-of", "stopped", 20)


# A new start


def test_a_period_goes_on_after_a_restart(start: Gates, log: Callable[[], list[Record]]):
    for number in (11, 12, 13):
        gate = start()
        gate.stop(number)
        gate.end()
        start.clock.go(600)
    gate = start()
    gate.stop(4)
    assert gate.counts() == {("2026-11-21", STOPPED): 36}
    start.clock.now = MIDNIGHT
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 40)
    assert len(said(log())) == 4


def test_a_gate_that_crashes_loses_what_came_after_the_last_beat_and_no_more(start: Gates):
    gate = start()
    gate.stop(11)
    gate.beat(60)
    gate.stop(12)
    gate.crash()
    gate = start()
    gate.stop(13)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 24}


def test_a_period_that_closed_while_no_gate_ran_is_said_by_the_next_one(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    gate.end()
    start.clock.now = MIDNIGHT + 3 * DAY + 60
    gate = start()
    assert said(log()) == []
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 20)
    assert len(said(log())) == 4
    assert shown(gate.period_counts.closed)["2026-11-21", "worst-of", Outcome.STOPPED] == 20


def test_the_period_that_closed_last_is_known_again_after_a_restart(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    start.clock.now = MIDNIGHT
    gate.beat()
    before = gate.period_counts.closed
    gate.end()
    assert before
    for seconds in (60, 3600, 20 * HOUR):
        start.clock.go(seconds)
        gate = start()
        assert gate.period_counts.closed == ()
        gate.beat()
        assert gate.period_counts.closed == before
        gate.end()
    assert len(said(log())) == 4


def test_the_last_of_the_longest_days_is_known_again_after_a_restart(start: Gates):
    """A day of 25 hours, when clocks are set back."""
    rules = of_serial(1, time_zone="Europe/Paris")
    start.clock.now = at("2026-10-24T23:00")
    gate = start(rules)
    gate.stop(20)
    gate.beat(60)
    start.clock.now = at("2026-10-25T23:00")
    gate.beat()
    before = shown(gate.period_counts.closed)
    assert before["2026-10-25", "worst-of", Outcome.STOPPED] == 20
    gate.end()
    gate = start(rules)
    gate.beat()
    assert shown(gate.period_counts.closed) == before


# Several processes


def test_the_boards_of_all_workers_are_counted_as_one(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    workers = []
    for number in (7, 8, 9):
        worker = VerdictCounter(SharedCounters.make(), gate.follow(RULES))
        gate.period_counts.read(worker.counters)
        for _ in range(number):
            worker.add(decide(RULES, Host("listed.example"), DAWN), page=True)
        workers.append(worker)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 24}
    start.clock.now = MIDNIGHT
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 25)
    for worker in workers:
        worker.counters.close()


@pytest.mark.parametrize("beats", [0, 1], ids=["before a beat", "after a beat"])
def test_what_a_worker_counted_outlives_it(start: Gates, beats: int):
    gate = start()
    worker = VerdictCounter(SharedCounters(None), gate.follow(RULES))
    gate.period_counts.read(worker.counters)
    for _ in range(6):
        worker.add(decide(RULES, Host("listed.example"), DAWN), page=True)
    for _ in range(beats):
        gate.beat(60)
    worker.add(decide(RULES, Host("listed.example"), DAWN), page=True)
    gate.period_counts.leave(worker.counters)
    worker.counters.numbers[FIRST_CELL] += 100  # nobody reads it any more
    gate.stop(1)
    gate.beat(60)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 8}


def test_a_board_that_leaves_when_its_period_is_over_counts_for_it(start: Gates):
    gate = start()
    gate.stop(5)
    start.clock.now = MIDNIGHT
    gate.period_counts.leave(gate.counter.counters)
    gate.beat()
    assert gate.counts() == {("2026-11-21", STOPPED): 5}


def test_nothing_is_lost_or_counted_twice_while_boards_come_and_go(start: Gates):
    """Workers count in processes of their own, while the supervisor beats in one thread and buries in another."""
    gate = start()
    layout, rounds, over = gate.follow(RULES), 40, threading.Event()

    def beat_on_and_on() -> None:
        while not over.is_set():
            gate.period_counts.beat(start.clock.now)

    beats = [threading.Thread(target=beat_on_and_on) for _ in range(2)]
    for thread in beats:
        thread.start()
    for _ in range(rounds):
        worker = VerdictCounter(SharedCounters(None), layout)
        gate.period_counts.read(worker.counters)
        for _ in range(100):
            worker.add(decide(RULES, Host("listed.example"), DAWN), page=True)
        gate.period_counts.leave(worker.counters)
    over.set()
    for thread in beats:
        thread.join()
    gate.beat()
    assert gate.counts() == {("2026-11-21", STOPPED): 100 * rounds}


# Another ruleset


def test_a_new_serial_is_counted_for_itself_and_shown_with_the_one_before(
    start: Gates, log: Callable[[], list[Record]]
):
    gate = start()
    gate.stop(8)
    gate.follow(of_serial(2))
    gate.stop(7)
    gate.beat(60)
    today, newer = "2026-11-21", Cell("worst-of", 2, Outcome.STOPPED)
    assert gate.counts() == {(today, STOPPED): 8, (today, newer): 7}
    start.clock.now = MIDNIGHT
    gate.beat()
    stopped = [each for each in log() if isinstance(each, Counts) and each.outcome == "stopped"]
    assert [(each.requests, each.serials) for each in stopped] == [(15, (1, 2))]


def test_who_still_judges_by_the_ruleset_before_is_counted(start: Gates):
    gate = start()
    layout = gate.period_counts.follow(of_serial(2), DAWN)
    assert set(layout) == set(cells(RULES)) | set(cells(of_serial(2)))
    gate.stop(4)  # the counter knows nothing of it yet
    gate.beat(60)
    gate.stop(5)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 9}


def test_the_numbers_that_are_no_cells_are_those_of_all_boards_there_were(start: Gates):
    """But for tunnels that are open: those of a worker that is gone are not."""
    gate = start()
    worker = SharedCounters(None)
    gate.period_counts.read(worker)
    for number, counters in enumerate((gate.counter.counters, worker), start=1):
        counters.numbers[Number.TUNNELS] = 10 * number
        counters.numbers[Number.TO_CLIENTS] = 100 * number
    gate.stop(1)
    assert [gate.period_counts.numbers()[number] for number in (Number.TUNNELS, Number.TO_CLIENTS)] == [30, 300]
    gate.period_counts.leave(worker)
    gate.beat(60)
    assert [gate.period_counts.numbers()[number] for number in (Number.TUNNELS, Number.TO_CLIENTS)] == [10, 300]
    assert len(gate.period_counts.numbers()) == FIRST_CELL


def test_cells_stay_where_they_are_for_all_who_count(start: Gates):
    gate = start()
    first = gate.follow(of_serial(2))
    second = gate.follow(of_serial(3))
    assert {cell: second[cell] for cell in first if cell in second} == {
        cell: place for cell, place in first.items() if cell in second
    }
    assert len(set(second.values())) == len(second)


def test_more_serials_than_there_are_places_are_counted_exactly(start: Gates):
    """Places are used again: what stands there was taken before."""
    gate = start()
    serials = (NUMBERS - FIRST_CELL) // 2 + 50
    for serial in range(2, serials):
        gate.follow(_of_serial_again(gate.rules, serial))
        gate.stop(1)
        if serial % 500 == 0:
            gate.beat(1)
    gate.beat(1)
    counted = gate.counts()
    assert len(counted) == serials - 2
    assert set(counted.values()) == {1}


def _of_serial_again(rules: Ruleset, serial: int) -> Ruleset:
    """The same ruleset with another serial, which nobody signed: that would take long."""
    (list_,) = rules.lists
    return Ruleset.of(rules.policy, [replace(list_, header=replace(list_.header, serial=serial))])


def test_a_list_that_was_in_force_for_a_part_of_the_period_has_its_rows(start: Gates, log: Callable[[], list[Record]]):
    """Whether anything was counted or not: a row that is missing would say that nothing was."""
    gate = start(ruleset(signed("a.example", list_id="a"), signed("b.example", list_id="b")))
    gate.beat(60)
    gate.follow(ruleset(signed("a.example", list_id="a"), signed("b.example", list_id="b"), mode="observe"))
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert [(row[1], row[2]) for row in said(log())] == [
        *(("a", "stopped"), ("a", "page not shown"), ("a", "observed")),
        *(("b", "stopped"), ("b", "page not shown"), ("b", "observed")),
        *((None, "refused"), (None, "passed")),
    ]


@pytest.mark.parametrize("fails", [False, True], ids=["a disk that works", "a disk that failed meanwhile"])
def test_how_long_a_serial_counted_is_kept_when_another_follows(start: Gates, fails: bool):
    gate = start()
    gate.state.fails_to_count = fails
    gate.beat(60)
    start.clock.go(30)
    gate.follow(of_serial(2))
    gate.beat(20)
    gate.state.fails_to_count = False
    gate.beat(10)
    assert times(gate)[STOPPED] == (90, 0)
    assert times(gate)[Cell("worst-of", 2, Outcome.STOPPED)] == (30, 0)
    assert times(gate)[PASSED] == (120, 0)


# Another policy


def test_another_length_of_periods_applies_from_the_next_one_on(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    gate.beat(60)
    gate.follow(HOURLY)
    gate.stop(10)
    gate.beat(HOUR)
    assert said(log()) == []
    assert gate.counts() == {("2026-11-21", STOPPED): 30}
    start.clock.now = MIDNIGHT
    gate.beat()
    gate.stop(15)
    gate.beat(HOUR)
    assert [(row[0], row[3]) for row in said(log()) if row[2] == "stopped"] == [
        ("2026-11-21", 30),
        ("2026-11-22T00Z", 15),
    ]


def test_another_zone_applies_from_the_next_period_on(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    gate.follow(of_serial(1, time_zone="Asia/Tokyo"))
    start.clock.now = at("2026-11-21T16:00")
    gate.beat()
    assert said(log()) == []
    start.clock.now = MIDNIGHT
    gate.beat()
    gate.stop(10)
    start.clock.now = at("2026-11-22T15:00")
    gate.beat()
    assert [(row[0], row[3]) for row in said(log()) if row[2] == "stopped"] == [("2026-11-21", 20), ("2026-11-22", 10)]


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        pytest.param(
            RULES,
            HOURLY,
            {"2026-11-21T06Z": 12, "2026-11-21": 20},
            id="days, then hours",
        ),
        pytest.param(
            HOURLY,
            RULES,
            {"2026-11-21T06Z": 20, "2026-11-21": 12},
            id="hours, then days",
        ),
        pytest.param(
            RULES,
            of_serial(1, time_zone="Asia/Tokyo"),
            {"2026-11-21": 12},  # of Tokyo, and that of UTC nine hours later
            id="another zone",
        ),
    ],
)
def test_with_a_restart_another_length_applies_at_once_and_each_period_is_said_when_it_has_closed(
    start: Gates, log: Callable[[], list[Record]], before: Ruleset, after: Ruleset, rows: dict[str, int]
):
    gate = start(before)
    gate.stop(20)
    gate.end()
    gate = start(after)
    gate.stop(12)
    seconds = 0.0
    while start.clock.now < MIDNIGHT:
        seconds = gate.beat(seconds)
    stopped = [row for row in said(log()) if row[2] == "stopped" and row[3] is not None]
    assert {row[0]: row[3] for row in stopped[: len(rows)]} == {
        name: 5 * round(number / 5) for name, number in rows.items()
    }
    assert sorted(row[3] for row in stopped) == [10, 20]


def test_what_may_be_shown_is_by_the_policy_that_is_in_force_when_it_closes(
    start: Gates, log: Callable[[], list[Record]]
):
    gate = start()
    gate.stop(20)
    gate.follow(of_serial(1, counts={"hide_below": 50, "round_to": 10}))
    start.clock.now = MIDNIGHT
    gate.beat()
    (stopped,) = (each for each in log() if isinstance(each, Counts) and each.outcome == "stopped")
    assert (stopped.requests, stopped.hidden_below) == (None, 50)


# A clock that is wrong


@pytest.mark.parametrize("seconds", [1, HOUR, 5 * HOUR])
def test_a_period_does_not_begin_anew_when_the_clock_is_set_back(
    start: Gates, log: Callable[[], list[Record]], seconds: int
):
    gate = start()
    start.clock.now = MIDNIGHT
    gate.beat()
    seen = len(log())
    gate.stop(20)
    start.clock.now = MIDNIGHT - seconds
    gate.beat(0.5)
    gate.stop(15)
    assert gate.beat(0.25) <= BEAT_SECONDS
    start.clock.now = MIDNIGHT + 60
    gate.beat()
    assert len(log()) == seen
    assert gate.counts() == {("2026-11-22", STOPPED): 35}
    start.clock.now = MIDNIGHT + DAY
    gate.beat()
    assert said(log())[4:5] == [("2026-11-22", "worst-of", "stopped", 35)]
    assert len(said(log())) == 8


def test_a_period_that_was_said_is_not_said_again_by_a_gate_whose_clock_was_set_back(
    start: Gates, log: Callable[[], list[Record]]
):
    gate = start()
    gate.stop(20)
    start.clock.now = MIDNIGHT + 60
    gate.beat()
    gate.end()
    start.clock.now = MIDNIGHT - 60
    gate = start()
    gate.stop(30)
    gate.beat()
    start.clock.now = MIDNIGHT
    gate.beat()
    assert [row for row in said(log()) if row[2] == "stopped"] == [("2026-11-21", "worst-of", "stopped", 20)]


def test_a_clock_set_ahead_closes_the_period(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    start.clock.now = at("2030-01-01T12:00")
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 20)
    gate.stop(10)
    gate.beat()
    assert gate.counts()["2030-01-01", STOPPED] == 10


# A disk that fails


@pytest.mark.parametrize("fault", ["fails_to_count", "fails_halfway"])
def test_what_cannot_be_written_is_written_later_and_once(start: Gates, log: Callable[[], list[Record]], fault: str):
    gate = start()
    gate.stop(10)
    gate.beat(60)
    setattr(gate.state, fault, True)
    for number in (3, 4, 0):
        gate.stop(number)
        gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 10}
    setattr(gate.state, fault, False)
    gate.stop(2)
    gate.beat(60)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 19}
    assert times(gate)[STOPPED] == (360, 0)


def test_a_disk_without_room_loses_nothing(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(10)
    gate.beat(60)
    with tiny_disk():
        gate.stop(11)
        gate.beat(60)
        gate.stop(12)
        gate.beat(60)
    assert [type(each) for each in log()] == [CountsNotWritten]
    gate.stop(1)
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 34}


def test_a_disk_that_fails_is_said_once_until_it_works_again(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    for _ in range(2):
        gate.state.fails_to_count = True
        for _ in range(3):
            gate.beat(60)
        assert gate.period_counts.has_unwritten
        gate.state.fails_to_count = False
        for _ in range(3):
            gate.beat(60)
        assert not gate.period_counts.has_unwritten
    assert [type(each) for each in log()] == [CountsNotWritten] * 2


def test_what_cannot_be_written_is_in_what_is_said_all_the_same(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(20)
    gate.beat(60)
    gate.state.fails_to_count = gate.state.fails_to_remember = True
    gate.stop(20)
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 40)
    assert shown(gate.period_counts.closed)["2026-11-21", "worst-of", Outcome.STOPPED] == 40
    gate.stop(5)
    gate.beat(60)
    gate.state.fails_to_count = gate.state.fails_to_remember = False
    gate.beat(60)
    assert gate.counts() == {("2026-11-21", STOPPED): 40, ("2026-11-22", STOPPED): 5}
    assert len(said(log())) == 4


def test_what_cannot_be_read_is_not_said_before_it_can(start: Gates, log: Callable[[], list[Record]]):
    """A part of a number would be taken for all of it."""
    gate = start()
    gate.stop(40)
    gate.beat(60)
    gate.state.fails_to_read = gate.state.fails_to_count = True
    gate.stop(15)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert said(log()) == []
    gate.state.fails_to_read = gate.state.fails_to_count = False
    gate.beat(60)
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 55)
    assert len(said(log())) == 4


def test_a_state_that_is_not_written_for_days_is_counted_in_memory(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.state.fails_to_count = gate.state.fails_to_remember = True
    for number in (20, 30, 40):
        gate.stop(number)
        gate.beat(DAY)
        gate.beat(60)
    assert [row[3] for row in said(log()) if row[2] == "stopped"] == [20, 30, 40]
    gate.state.fails_to_count = gate.state.fails_to_remember = False
    gate.beat(60)
    assert [gate.counts()[f"2026-11-{day}", STOPPED] for day in (21, 22, 23)] == [20, 30, 40]


def test_where_no_state_can_be_written_at_all_periods_are_said(start: Gates, log: Callable[[], list[Record]]):
    """A state directory that cannot be written from the start on: the state is in memory."""
    (start.folder / "file").touch()
    gate = start(folder=start.folder / "file")
    gate.stop(20)
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 20)


OPERATIONS = st.lists(
    st.sampled_from(["stop", "pass", "beat", "fail", "mend", "halfway", "follow", "leave", "restart", "renew"]),
    max_size=40,
)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(operations=OPERATIONS)
def test_whatever_happens_what_was_counted_adds_up(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, operations: list[str]
):
    """A gate that ends while its disk fails loses what it could not write; nothing else does."""
    folder = tmp_path_factory.mktemp("state")
    gate, counted, serial = Gate(folder, clock), 0, 1
    for operation in operations:
        match operation:
            case "stop":
                gate.stop(3)
                counted += 3
            case "pass":
                gate.ask("pass.example", 2)
                counted += 2
            case "beat":
                gate.beat(60)
            case "fail":
                gate.state.fails_to_count = True
            case "halfway":
                gate.state.fails_halfway = True
            case "mend":
                gate.state.fails_to_count = gate.state.fails_halfway = False
            case "follow":
                serial += 1
                gate.follow(of_serial(1 + serial % 3))
            case "leave":
                gate.period_counts.leave(gate.counter.counters)
                gate.counter.counters = SharedCounters(None)
                gate.period_counts.read(gate.counter.counters)
            case "restart":
                gate.state.fails_to_count = gate.state.fails_halfway = False
                gate.end()
                gate = Gate(folder, clock, gate.rules)
            case "renew":
                gate.end()
                kept: Kept = json.loads(json.dumps(gate.period_counts.keep()))
                gate = Gate(folder, clock, gate.rules, kept, gate.counter.counters)
    gate.state.fails_to_count = gate.state.fails_halfway = False
    gate.beat(60)
    assert sum(each.requests for each in gate.state.counts(0, EVER)) == counted
    gate.state.close()


# Who takes over


def passed_on(period_counts: PeriodCounts) -> Kept:
    return json.loads(json.dumps(period_counts.keep()))


def test_a_ledger_that_knows_nothing_keeps_nothing(tmp_path: Path, clock: Clock):
    state = State.open(tmp_path, datetime.fromtimestamp(clock.now, UTC))
    assert PeriodCounts(state).keep() == {"cells": [], "unwritten": []}
    state.close()


def test_who_takes_over_counts_on_the_boards_of_before(start: Gates, log: Callable[[], list[Record]]):
    gate = start()
    gate.stop(5)
    gate.end()
    gate.stop(6)  # the worker goes on while its supervisor is another
    after = start(RULES, passed_on(gate.period_counts), gate.counter.counters)
    gate.stop(7)
    after.stop(8)
    after.beat(60)
    gate.stop(1)
    after.beat(60)
    assert after.counts() == {("2026-11-21", STOPPED): 27}


def test_who_takes_over_has_the_cells_where_they_were(start: Gates):
    gate = start()
    for serial in (2, 3, 4):
        before = gate.follow(of_serial(serial))
    after = start(of_serial(4), passed_on(gate.period_counts))
    layout = after.follow(of_serial(4))
    assert {cell: place for cell, place in before.items() if cell in layout} == dict(layout)


def test_old_workers_can_count_by_the_ruleset_before_when_another_is_in_force_after_a_renewal(start: Gates):
    """The list changes while the gate is renewed: they still judge by the one before when they are told of it."""
    gate = start()
    gate.end()
    after = start(of_serial(2), passed_on(gate.period_counts), gate.counter.counters)
    gate.counter.follow(after.layout)
    gate.stop(3)
    after.stop(4)
    after.beat(60)
    newer = Cell("worst-of", 2, Outcome.STOPPED)
    assert after.counts() == {("2026-11-21", STOPPED): 3, ("2026-11-21", newer): 4}


def test_what_could_not_be_written_is_written_by_who_takes_over(start: Gates):
    gate = start()
    gate.stop(10)
    gate.state.fails_to_count = True
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    gate.stop(11)
    gate.end()
    after = start(RULES, passed_on(gate.period_counts), gate.counter.counters)
    after.beat(60)
    assert after.counts() == {("2026-11-21", STOPPED): 10, ("2026-11-22", STOPPED): 11}
    assert after.period_counts.keep()["unwritten"] == []


# Beats that overlap


class SlowState(State):
    """A state that takes its time to write."""

    is_writing: threading.Event
    may_write: threading.Event

    def count(self, counts: Iterable[Count]) -> None:
        self.is_writing.set()
        assert self.may_write.wait(SECONDS)
        super().count(counts)


@pytest.mark.parametrize("then", ["a beat", "keeping"])
def test_what_is_being_written_is_neither_forgotten_nor_counted_twice(
    tmp_path: Path, clock: Clock, log: Callable[[], list[Record]], then: str
):
    """A gate is told to end, or to be renewed, in the middle of a beat, and the last one comes at once."""
    state = SlowState.open(tmp_path, datetime.fromtimestamp(clock.now, UTC))
    state.is_writing, state.may_write = threading.Event(), threading.Event()
    period_counts, counters = PeriodCounts(state), SharedCounters(None)
    counter = VerdictCounter(counters, period_counts.follow(RULES, clock.now))
    period_counts.read(counters)
    for _ in range(20):
        counter.add(decide(RULES, Host("listed.example"), DAWN), page=True)
    first = threading.Thread(target=period_counts.beat, args=(MIDNIGHT,))
    first.start()
    assert state.is_writing.wait(SECONDS)
    for _ in range(30):
        counter.add(decide(RULES, Host("listed.example"), DAWN), page=True)
    last = threading.Thread(target=period_counts.beat, args=(MIDNIGHT + 1,))
    last.start()
    state.may_write.set()
    first.join(SECONDS)
    last.join(SECONDS)
    if then == "keeping":
        assert period_counts.keep()["unwritten"] == []
    assert [row[3] for row in said(log()) if row[2] == "stopped"] == [20]
    assert len(said(log())) == 4
    assert sorted(each.requests for each in state.counts(0, EVER) if each.requests) == [20, 30]
    state.close()


# What is forgotten


@pytest.mark.parametrize(
    ("keep", "last_kept"),
    [
        pytest.param("1 day", "2026-11-20", id="a day"),
        pytest.param("1 week", "2026-11-14", id="a week"),
        pytest.param("1 month", "2026-10-21", id="a month"),
        pytest.param("1 year", "2025-11-21", id="a year"),
    ],
)
def test_what_is_older_than_the_policy_keeps_is_forgotten(start: Gates, keep: str, last_kept: str):
    gate = start(of_serial(1, counts={"keep": keep}))
    days = [int(at("2025-11-01T00:00")) + number * DAY for number in range(386)]
    gate.state.count(
        Count(Period(day, day + DAY, f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}"), PASSED, 100, DAY, 0)
        for day in days
        if day + DAY < DAWN
    )
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    assert min(each.period.name for each in gate.state.counts(0, EVER)) == last_kept


def test_nothing_is_forgotten_before_it_was_said(start: Gates, log: Callable[[], list[Record]]):
    """A gate that was off for longer than counts are kept."""
    gate = start(of_serial(1, counts={"keep": "1 day"}))
    gate.stop(20)
    gate.end()
    start.clock.now = MIDNIGHT + 30 * DAY
    gate = start(of_serial(1, counts={"keep": "1 day"}))
    gate.beat()
    assert said(log())[0] == ("2026-11-21", "worst-of", "stopped", 20)


# Nobody recorded


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """What the files of a state look like from outside: length and blocks."""
    return {
        path.name: (path.stat().st_size, path.stat().st_blocks) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_files_are_of_the_same_size_whatever_was_asked_for(start: Gates, tmp_path: Path):
    """Beat by beat, over the ends of periods, too."""
    busy, idle = tmp_path / "busy", tmp_path / "idle"
    folders = {busy: start(HOURLY, folder=_made(busy)), idle: start(HOURLY, folder=_made(idle))}
    hits = {"listed.example": 1000, "pass.example": 123_456, "127.0.0.1": 3}
    for number in range(130):
        start.clock.go(60)
        for folder, gate in folders.items():
            if folder == busy and number % 3 == 0:
                for host, times_ in hits.items():
                    gate.ask(host, times_ // (1 + number), page=number % 2 == 0 and host == "listed.example")
            gate.period_counts.beat(start.clock.now)
        assert sizes(busy) == sizes(idle), f"after {number} beats"
    assert sum(folders[busy].counts().values()) > 100_000
    assert folders[idle].counts() == {}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_files_are_written_by_the_beat_and_not_by_what_is_asked_for(start: Gates):
    gate = start()
    gate.beat(60)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in start.folder.iterdir() if path.is_file()}
    gate.stop(1000)
    gate.ask("pass.example", 1000)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in start.folder.iterdir() if path.is_file()}
    assert after == before


def test_a_ledger_says_nothing_of_hosts(start: Gates, log: Callable[[], list[Record]], tmp_path: Path):
    gate = start()
    for host in HOSTS:
        gate.ask(host, 30)
    gate.beat(60)
    start.clock.now = MIDNIGHT
    gate.beat()
    gate.end()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    written += "".join(map(str, log())).encode() + repr(gate.period_counts.closed).encode() + repr(log()).encode()
    assert not any(host.encode() in written for host in HOSTS)
    assert os.listdir(tmp_path)  # noqa: PTH208  there is something to look at
