"""Reports: what is in them is what may be shown, in every format, and nothing else of what a gate remembers."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
import zoneinfo
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoplist import __version__
from stoplist.core.counts import Cell, Count, Disclosure, Outcome, Period, PeriodLength, Shown, cells_of
from stoplist.core.lists.signed_list import SignedList
from stoplist.errors import StoplistError
from stoplist.state import State
from stoplist.tools.output.report_data import as_csv, as_json
from stoplist.tools.output.report_formats import FORMATS
from stoplist.tools.output.report_html import as_html
from stoplist.tools.output.report_table import as_table
from stoplist.tools.reports import report as reporting
from stoplist.tools.reports.report import Coverage, ListEvent, Report
from stoplist.tools.selftest.results import NotPassed, SelfTests, as_line
from stoplist.tools.selftest.self_test import Check, CheckName, CheckState, Result, SelfTest
from tests.examples import examples
from tests.fixed_time import NOW
from tests.keys import open_list
from tests.published import Publisher

DAY = 86400
STOPPED = Cell("worst-of", 7, Outcome.STOPPED)
CELLS = cells_of({("worst-of", 7): True, ("own", 1): False})
UTC_ZONE = zoneinfo.ZoneInfo("UTC")


@dataclass
class Site:
    """A policy, and the state directories of its gates."""

    publisher: Publisher
    folder: Path

    @property
    def states(self) -> list[Path]:
        return sorted(self.folder.glob("state-*"))

    def adapt(self, *lines: str) -> None:
        """Add keys to the policy."""
        policy = self.publisher.policy
        policy.write_text("\n".join([policy.read_text(), *lines, ""]))

    def gate(self, counts: Iterable[Count] = ()) -> State:
        """The state of one more gate, in which this was counted."""
        state = State.open(self.folder / f"state-{len(self.states) + 1}", NOW)
        state.count(counts)
        return state

    def add(self, counts: Iterable[Count]) -> None:
        self.gate(counts).close()

    def selftests(self, *lines: str) -> Path:
        """One more file with results of self-tests."""
        file = self.folder / f"selftests-{len(self.results) + 1}"
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    @property
    def results(self) -> list[Path]:
        return sorted(self.folder.glob("selftests-*"))

    def report(self, since: str | None = None, until: str | None = None, now: datetime = NOW) -> Report:
        made, problems = reporting.make(
            self.publisher.policy,
            self.states,
            since=date.fromisoformat(since) if since else None,
            until=date.fromisoformat(until) if until else None,
            now=now,
            selftests=self.results,
        )
        assert problems == []
        return made


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Publisher.new(tmp_path / "publisher", NOW), tmp_path)


def days(first: str, number: int, length: PeriodLength = "day", zone: zoneinfo.ZoneInfo = UTC_ZONE) -> Sequence[Period]:
    period = Period.at(datetime.fromisoformat(first).replace(tzinfo=zone).timestamp(), length, zone)
    found = [period]
    while len(found) < number:
        found.append(Period.at(found[-1].ends, length, zone))
    return found


def counted(
    period: Period, requests: int = 0, cell: Cell = STOPPED, *, fresh: int | None = None, expired: int = 0
) -> Count:
    return Count(period, cell, requests, period.ends - period.starts if fresh is None else fresh, expired)


def all_formats(report: Report) -> dict[str, str]:
    return {name: render(report).decode() for name, render in FORMATS.items()}


# What is shown


def test_every_format_has_the_numbers_that_may_be_shown(site: Site) -> None:
    counts = [
        counted(period, 1237 * at + 40 * place, cell)
        for at, period in enumerate(days("2026-11-01", 4))
        for place, cell in enumerate(CELLS)
    ]
    site.add(counts)
    report = site.report()
    rows = Disclosure().rows([counts])
    assert list(report.rows) == rows
    from_csv = [
        (line["period"], line["list"] or None, line["outcome"], int(line["requests"]) if line["requests"] else None)
        for line in csv.DictReader(io.StringIO(as_csv(report).decode()))
    ]
    from_json = [
        (count["period"], count["list"], count["outcome"], count["requests"])
        for count in json.loads(as_json(report))["counts"]
    ]
    expected = [(row.period.name, row.list, row.outcome.value, row.shown.requests) for row in rows]
    assert from_csv == from_json == expected
    assert {None, 40, 80, 1235, 3830} < {requests for *_, requests in expected}
    table, page = as_table(report).decode(), as_html(report).decode()
    for row in rows:
        written = "under 10" if row.shown.requests is None else f"{row.shown.requests:,}"
        (line,) = [line for line in _table_of(table, row.list).splitlines() if row.period.name in line]
        assert written in line
        (cells,) = [cells for cells in _cells_of(page, row.list) if cells[0] == row.period.name]
        assert written in cells


def _table_of(table: str, list_id: str | None) -> str:
    head = f"List {list_id}\n" if list_id else "Requests that no list decided\n"
    return re.split(r"\nList |\nRequests that|\nChanges|\nHow to", table[table.index(head) + 1 :])[0]


def _cells_of(page: str, list_id: str | None) -> list[list[str]]:
    (section,) = [
        section
        for section in parsed(page).iter("section")
        if section.get("aria-labelledby") == f"s-{list_id or 'none'}"
    ]
    return [["".join(cell.itertext()) for cell in row] for row in section.iter("tr")]


def parsed(page: str) -> ElementTree.Element:
    """The page as a tree: it is well-formed XML behind its document type."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


WORLD = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1233, 1237)), min_size=4, max_size=4)


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(WORLD, WORLD)
def test_no_hidden_number_is_in_any_format(
    site: Site, one: list[tuple[int, int, int]], other: list[tuple[int, int, int]]
) -> None:
    """Whatever is hidden, and whatever was rounded off, the reports are the same to the last byte."""
    renderings = []
    for world in (one, other):
        for state in site.states:
            shutil.rmtree(state)
        gates: tuple[list[Count], list[Count]] = ([], [])
        for period, (of_one, of_both, shown) in zip(days("2026-11-01", 4), world, strict=True):
            gates[0].extend([counted(period, of_one), counted(period, shown, CELLS[0])])
            gates[1].extend([counted(period, of_both, CELLS[-1]), counted(period, of_both, CELLS[0])])
        for gate in gates:
            site.add(gate)
        renderings.append(all_formats(site.report()))
    assert renderings[0] == renderings[1]


def test_no_exact_number_is_in_any_format(site: Site) -> None:
    exact = (100_237, 100_238, 100_241, 100_246)
    site.add([counted(period, number) for period, number in zip(days("2026-11-01", 4), exact, strict=True)])
    for name, text in all_formats(site.report()).items():
        digits = text.replace(",", "")
        assert "100235" in digits
        assert not [number for number in exact if str(number) in digits]
        assert str(sum(exact)) not in digits
        assert str(100_235 + 2 * 100_240 + 100_245) in digits or name == "csv"


def test_a_period_that_has_not_closed_is_not_shown(site: Site) -> None:
    site.add([counted(period, 100) for period in days("2026-11-19", 3)])
    assert [row.period.name for row in site.report().rows] == ["2026-11-19", "2026-11-20"]
    for text in all_formats(site.report()).values():
        assert "2026-11-20" in text
        assert "2026-11-21" not in text.replace("2026-11-21T12:00:00Z", "").replace("2026-11-21T00:00:00Z", "")


def test_totals_are_of_the_numbers_shown(site: Site) -> None:
    site.add([counted(period, number) for period, number in zip(days("2026-11-01", 3), (9, 13, 104), strict=True)])
    report = site.report()
    (total,) = json.loads(as_json(report))["totals"]
    assert total == {
        "list": "worst-of",
        "outcome": "stopped",
        "requests": 120,
        "complete": False,
        "periods": 3,
        "hidden_periods": 1,
    }
    assert re.search(r"total shown +120\n", as_table(report).decode())
    assert ["Total shown", "", "120", "", ""] in _cells_of(as_html(report).decode(), "worst-of")
    assert "Totals add up the numbers shown, and leave out the hidden ones" in as_table(report).decode()


def test_where_all_is_hidden_so_is_the_total(site: Site) -> None:
    site.add([counted(period, 9) for period in days("2026-11-01", 3)])
    report = site.report()
    assert json.loads(as_json(report))["totals"][0]["requests"] is None
    assert re.search(r"total shown +hidden\n", as_table(report).decode())


# Several gates


def test_gates_are_added_up_before_anything_is_hidden(site: Site) -> None:
    first, second, third, fourth = days("2026-11-01", 4)
    gates = [
        [counted(first, 3), counted(second, 100), counted(third, 9), counted(fourth, 100)],
        [counted(first, 3), counted(second, 213), counted(third, 9), counted(fourth, 9)],
        [counted(first, 4), counted(second, 100), counted(third, 9)],
    ]
    for gate in gates:
        site.add(gate)
    report = site.report()
    assert list(report.rows) == Disclosure().rows(gates)
    assert [row.shown for row in report.rows] == [
        Shown(10, is_complete=True),
        Shown(415, is_complete=True),
        Shown(None, is_complete=False),
        Shown(100, is_complete=False),
    ]
    assert report.gates == 3
    assert re.search(r"2026-11-04 +7 +100\* +fresh", as_table(report).decode())
    assert "100*" in as_html(report).decode()
    assert [count["complete"] for count in json.loads(as_json(report))["counts"]] == [True, True, False, False]
    lines = list(csv.DictReader(io.StringIO(as_csv(report).decode())))
    assert [(line["requests"], line["hidden"], line["complete"]) for line in lines] == [
        ("10", "false", "true"),
        ("415", "false", "true"),
        ("", "true", "false"),
        ("100", "false", "false"),
    ]
    for text in (as_table(report).decode(), as_html(report).decode()):
        assert "The numbers of 3 gates are added up before small ones are hidden." in " ".join(text.split())


def test_a_gate_that_is_named_twice_is_refused(site: Site, tmp_path: Path) -> None:
    """Three times the same gate would show a number that it hides."""
    site.add([counted(days("2026-11-01", 1)[0], 5)])
    (state,) = site.states
    (tmp_path / "link").symlink_to(state)
    for again in (state, state / ".." / state.name, tmp_path / "link"):
        with pytest.raises(StoplistError) as caught:
            reporting.make(site.publisher.policy, [state, again], since=None, until=None, now=NOW)
        assert str(caught.value) == f"{again}: the state of one gate is named twice; name each gate once"


def test_gates_of_other_time_zones_have_rows_of_their_own(site: Site) -> None:
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    site.add([counted(days("2026-11-01", 1)[0], 20)])
    site.add([counted(days("2026-11-01", 1, zone=paris)[0], 30)])
    site.add([counted(days("2026-11-01T12:00", 1, "hour")[0], 40)])
    report = site.report()
    assert sorted(row.shown.requests or 0 for row in report.rows) == [20, 30, 40]
    for text in all_formats(report).values():
        assert "2026-11-01T12Z" in text


def test_a_state_that_is_not_there_is_an_error(site: Site, tmp_path: Path) -> None:
    site.add([])
    with pytest.raises(StoplistError, match="gone: no state; name the gate's --state-dir"):
        reporting.make(site.publisher.policy, [*site.states, tmp_path / "gone"], since=None, until=None, now=NOW)


# The range


def test_a_range_is_of_whole_days_both_inclusive(site: Site) -> None:
    site.add([counted(period, 100) for period in days("2026-11-01", 10)])
    names = [row.period.name for row in site.report("2026-11-03", "2026-11-05").rows]
    assert names == ["2026-11-03", "2026-11-04", "2026-11-05"]
    assert len(site.report("2026-11-09").rows) == 2
    assert len(site.report(None, "2026-11-01").rows) == 1
    assert site.report("2026-11-11", "2026-11-12").rows == ()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        pytest.param("Europe/Paris", "2026-03-29", 23, id="clocks forward"),
        pytest.param("Europe/Paris", "2026-10-25", 25, id="clocks back"),
        pytest.param("America/Havana", "2026-11-01", 25, id="midnight comes twice"),
        pytest.param("Asia/Kathmandu", "2026-10-25", 24, id="not of whole hours"),
    ],
)
@pytest.mark.parametrize("length", ["day", "hour"])
def test_days_are_of_the_policys_time_zone(site: Site, zone: str, day: str, hours: int, length: PeriodLength) -> None:
    site.adapt(f"time_zone: {zone}", f"counts: {{period: {length}}}")
    first = f"{date.fromisoformat(day) - timedelta(days=1)}"
    local = zoneinfo.ZoneInfo(zone)
    number = 3 if length == "day" else 75
    site.add([counted(period, 100) for period in days(first, number, length, local)])
    report = site.report(day, day)
    assert {row.period.name[:10] for row in report.rows} == {day}
    assert sum(each.fresh + each.expired for each in report.coverage) == hours * 3600
    assert len(report.periods) == len(report.rows) == (1 if length == "day" else hours)
    assert report.silent == frozenset()


def test_periods_in_which_no_gate_counted_are_said(site: Site) -> None:
    first, *_, last = days("2026-11-05", 4)
    site.add([counted(first, 100), counted(last, 100)])
    report = site.report("2026-11-03", "2026-11-10")
    assert [period.name for period in report.periods] == [f"2026-11-{day:02}" for day in range(3, 11)]
    assert sorted(period.name[-2:] for period in report.silent) == ["03", "04", "06", "07", "09", "10"]
    table = as_table(report).decode()
    assert "2026-11-03 to 2026-11-04  no gate was counting" in table
    assert "Days on which a fresh list was enforced: 2 of 8." in table
    assert json.loads(as_json(report))["periods_without_counts"] == [
        f"2026-11-{day}" for day in ("03", "04", "06", "07", "09", "10")
    ]
    assert ["2026-11-06 to 2026-11-07: no gate was counting"] in _cells_of(as_html(report).decode(), "worst-of")


def test_without_a_range_all_that_was_counted_is_reported(site: Site) -> None:
    first, second, *_ = days("2025-02-01", 2)
    site.add([counted(first, 100), counted(second, 100), counted(days("2026-11-20", 1)[0], 100)])
    report = site.report()
    assert (report.periods[0], report.periods[-1].name, len(report.rows)) == (first, "2026-11-20", 3)
    assert len(report.periods) == (date(2026, 11, 20) - date(2025, 2, 1)).days + 1


def test_what_the_policy_would_have_forgotten_is_not_reported(site: Site) -> None:
    site.adapt("counts: {keep: 2 months}")
    site.add([counted(period, 100) for period in days("2026-09-19", 5)])
    for since in (None, "0001-01-01", "2026-09-01"):
        report = site.report(since, "9999-12-31")
        assert [row.period.name for row in report.rows] == ["2026-09-21", "2026-09-22", "2026-09-23"]
        assert report.periods[0].name == "2026-09-21"


@pytest.mark.parametrize(("since", "until"), [(None, None), ("2026-11-20", "2026-11-20"), ("2026-12-01", None)])
def test_an_empty_state_gives_a_report_that_says_so(site: Site, since: str | None, until: str | None) -> None:
    site.add([])
    report = site.report(since, until)
    assert report.rows == ()
    texts = all_formats(report)
    assert texts["csv"].count("\r\n") == 1
    assert json.loads(texts["json"])["counts"] == []
    why = "No gate was counting in this range." if report.periods else "No period of this range has closed."
    assert why in texts["table"]
    assert why in texts["html"]
    parsed(texts["html"])


def test_a_state_of_version_1_has_no_counts(site: Site) -> None:
    state = site.gate()
    signed, data = a_list(site.publisher)
    state.activate(site.publisher.list, signed, data, NOW - timedelta(hours=1))
    state.close()
    database = sqlite3.connect(site.states[0] / "state.db")
    database.executescript("DROP TABLE counts; DROP TABLE reported; PRAGMA user_version = 1;")
    database.close()
    report = site.report()
    assert report.rows == ()
    assert [change.result for change in report.changes] == ["activated"]


# Whether a fresh list was enforced


def test_a_period_is_fresh_where_the_list_never_was_expired(site: Site) -> None:
    one, two, three, four = days("2026-11-01", 4)
    site.add(
        [
            counted(one),
            counted(two, fresh=40000, expired=46400),
            counted(three, fresh=0, expired=DAY),
            counted(four, fresh=3600),
            counted(one, cell=Cell("own", 1, Outcome.OBSERVED)),
        ]
    )
    report = site.report(until="2026-11-04")
    assert report.coverage == (
        Coverage(one, "own", is_enforced=False, gates=1, is_fresh=True, fresh=DAY, expired=0),
        Coverage(one, "worst-of", is_enforced=True, gates=1, is_fresh=True, fresh=DAY, expired=0),
        Coverage(two, "worst-of", is_enforced=True, gates=1, is_fresh=False, fresh=40000, expired=46400),
        Coverage(three, "worst-of", is_enforced=True, gates=1, is_fresh=False, fresh=0, expired=DAY),
        Coverage(four, "worst-of", is_enforced=True, gates=1, is_fresh=True, fresh=3600, expired=0),
    )
    table = as_table(report).decode()
    assert "Days on which a fresh list was enforced: 2 of 4." in table
    assert "Days on which a fresh list was observed: 1 of 4." in table
    lines = [line.split()[-3:] for line in _table_of(table, "worst-of").splitlines() if line.startswith("  2026")]
    assert lines == [
        ["10", "fresh", "24.0"],
        ["partly", "expired", "24.0"],
        ["10", "expired", "24.0"],
        ["10", "fresh", "1.0"],
    ]
    assert "2026-11-02 to 2026-11-04  the list was not in force" in _table_of(table, "own")


def test_serials_of_a_period_are_one_list(site: Site) -> None:
    (day,) = days("2026-11-01", 1)
    serials = [Cell("worst-of", serial, Outcome.STOPPED) for serial in (7, 8)]
    site.add([counted(day, 6, cell, fresh=DAY // 2) for cell in serials])
    report = site.report()
    (row,) = report.rows
    (coverage,) = report.coverage
    assert (row.serials, row.shown.requests, coverage.fresh) == ((7, 8), 10, DAY)


def test_several_gates_are_fresh_where_each_one_is(site: Site) -> None:
    one, two = days("2026-11-01", 2)
    site.add([counted(one), counted(two)])
    site.add([counted(one, fresh=0, expired=DAY), counted(two)])
    site.add([counted(two, cell=Cell("own", 1, Outcome.STOPPED))])
    found = [(each.list, each.gates, each.is_fresh, each.fresh, each.expired) for each in site.report().coverage]
    assert found == [
        ("worst-of", 2, False, DAY, DAY),
        ("own", 1, True, DAY, 0),
        ("worst-of", 2, True, 2 * DAY, 0),
    ]


def test_a_list_that_changes_from_observed_to_enforced_says_so_each_day(site: Site) -> None:
    one, two, three = days("2026-11-01", 3)
    observed = Cell("worst-of", 7, Outcome.OBSERVED)
    site.add(
        [counted(one, cell=observed), counted(two, cell=observed, fresh=3600), counted(two, fresh=7200), counted(three)]
    )
    table = _table_of(as_table(site.report(until="2026-11-03")).decode(), "worst-of")
    assert re.search(r"2026-11-01 .*observed, fresh +24\.0", table)
    assert re.search(r"2026-11-02 .*observed, fresh and enforced, fresh +1\.0 and 2\.0", table)
    assert re.search(r"2026-11-03 .*enforced, fresh +24\.0", table)
    assert re.search(r"enforced: 2 of 3\.\nDays .*observed: 2 of 3\.", table)


def test_a_list_that_is_enforced_and_observed_at_once_has_the_hours_of_one_day(site: Site) -> None:
    """A part of the network is observed, and beside it a newer version of the list."""
    site.add(
        counted(day, cell=cell)
        for day in days("2026-11-01", 2)
        for cell in (STOPPED, replace(STOPPED, outcome=Outcome.OBSERVED), Cell("worst-of", 8, Outcome.OBSERVED))
    )
    report = site.report()
    assert {(each.is_enforced, each.fresh) for each in report.coverage} == {(True, DAY), (False, DAY)}
    assert re.search(r"2026-11-01 +7 8 .* fresh +24\.0\n", _table_of(as_table(report).decode(), "worst-of"))


def test_a_list_without_a_second_in_force_has_no_coverage(site: Site) -> None:
    """A request that was still under way when its list left the policy does not make it in force."""
    (day,) = days("2026-11-01", 1)
    site.add([counted(day, 1, fresh=0), counted(day, 0, Cell(None, None, Outcome.PASSED))])
    assert site.report().coverage == ()


# What happened to lists


SECRET = "asked-for-by-somebody-secret"


def a_list(publisher: Publisher, serial: int = 1) -> tuple[SignedList, bytes]:
    data = publisher.build(serial)
    return open_list(data, publisher.signer, list_key=publisher.list_key, now=NOW), data


def test_changes_of_lists_are_told_in_order_and_without_reasons_paths_or_names(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "home-of-secret" / "worst-of.stoplist"
    state = site.gate([counted(period, 100) for period in days("2026-11-01", 10)])
    signed, data = a_list(site.publisher, 5)
    start = datetime(2026, 11, 3, 8, tzinfo=UTC)
    state.activate(file, signed, data, start)
    state.refuse(file, f"torn {SECRET}", start + timedelta(days=1))
    held, _ = a_list(site.publisher, 6)
    state.hold(file, held, f"grows {SECRET}", start + timedelta(days=2))
    state.release(state.held()[0], start + timedelta(days=3))
    state.close()
    report = site.report()
    assert report.changes == (
        ListEvent(1, start, "activated", "test", 5, 1),
        ListEvent(1, start + timedelta(days=1), "refused", None, None, 0),
        ListEvent(1, start + timedelta(days=2), "held", "test", 6, 1),
        ListEvent(1, start + timedelta(days=3), "released", "test", 6, 0),
    )
    for text in all_formats(report).values():
        assert "secret" not in text
        assert str(tmp_path) not in text
        assert "worst-of.stoplist" not in text
        assert site.publisher.signer.public_key.keyid not in text
    table = as_table(report).decode()
    assert re.search(r"2026-11-03 08:00 +activated +test +5 +1\n", table)
    assert re.search(r"2026-11-04 08:00 +refused +- +- +-\n", table)
    assert json.loads(as_json(report))["changes"][3] == {
        "gate": 1,
        "time": "2026-11-06T08:00:00Z",
        "result": "released",
        "list": "test",
        "serial": 6,
        "signers": 0,
    }
    assert [change.result for change in site.report("2026-11-04", "2026-11-05").changes] == ["refused", "held"]


def test_changes_of_several_gates_are_told_by_time_with_the_number_of_the_gate(site: Site) -> None:
    signed, data = a_list(site.publisher)
    for hour in (2, 1):
        state = site.gate([counted(days("2026-11-20", 1)[0], 100)])
        state.activate(site.publisher.list, signed, data, datetime(2026, 11, 20, hour, tzinfo=UTC))
        state.close()
    assert [(change.gate, change.time.hour) for change in site.report().changes] == [(2, 1), (1, 2)]
    assert "2026-11-20 01:00 gate 2  activated" in as_table(site.report()).decode()


def test_times_of_changes_are_of_the_policys_time_zone(site: Site) -> None:
    site.adapt("time_zone: Asia/Kathmandu")
    state = site.gate()
    signed, data = a_list(site.publisher)
    state.activate(site.publisher.list, signed, data, datetime(2026, 11, 19, 18, 30, tzinfo=UTC))
    state.close()
    report = site.report("2026-11-20", "2026-11-20")
    assert "2026-11-20 00:15" in as_table(report).decode()
    assert json.loads(as_json(report))["changes"][0]["time"] == "2026-11-19T18:30:00Z"


# The policy's tests


def test_the_policys_tests_are_of_check_hosts_too(site: Site) -> None:
    site.adapt("tests: [{host: listed.test, expect: stop}, {host: www.school.example, expect: pass}]")
    site.add([])
    report = site.report(now=NOW)
    assert (report.policy_tests.passed, report.policy_tests.tests) == (True, 3)
    assert "passed (3 tests)" in as_table(report).decode()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(lambda publisher: publisher.list.unlink(), "no such file", id="no list"),
        pytest.param(
            lambda publisher: publisher.list.write_bytes(b"<html>"), "not a complete list file", id="an error page"
        ),
        pytest.param(lambda publisher: (publisher.folder / "test.listkey").unlink(), "no such file", id="no list key"),
        pytest.param(
            lambda publisher: publisher.policy.write_text(
                publisher.policy.read_text() + "tests: [{host: www.school.example, expect: stop}]\n"
            ),
            "test 1 fails",
            id="a test that fails",
        ),
    ],
)
def test_a_policys_test_that_fails_is_in_the_report_and_why_is_told_beside_it(site: Site, spoil, why: str) -> None:
    spoil(site.publisher)
    site.add([counted(days("2026-11-01", 1)[0], 100)])
    report, problems = reporting.make(site.publisher.policy, site.states, since=None, until=None, now=NOW)
    assert not report.policy_tests.passed
    assert [why in str(problem) for problem in problems] == [True]
    for name, text in all_formats(report).items():
        assert why not in text
        assert str(site.folder) not in text
        assert "FAILED" in text or name in ("csv", "json")
    assert json.loads(as_json(report))["policy_tests"]["passed"] is False
    assert [row.shown.requests for row in report.rows] == [100]


def test_a_policy_that_cannot_be_read_is_an_error(site: Site) -> None:
    site.add([])
    site.publisher.policy.write_text("version: 2\n")
    with pytest.raises(StoplistError, match="version"):
        site.report()


# Self-tests


WORKS = dict.fromkeys(CheckName, Result.OK)
SILENT = dict.fromkeys(CheckName, Result.SKIPPED) | {CheckName.HTTP: Result.UNKNOWN}
STALE = WORKS | {CheckName.LIST_AGE: Result.WARNING}
FAILS = dict.fromkeys(CheckName, Result.FAILED)


def result(time: str, results: dict[CheckName, Result] = WORKS, seen: str = "seen", remedy: str = "remedy") -> str:
    """A line as `stoplist selftest` writes it."""
    checks = tuple(Check(name, each, seen, remedy, 0.25) for name, each in results.items())
    return as_line(SelfTest(checks, 3, 7), datetime.fromisoformat(f"{time}Z"))


@pytest.fixture
def week(site: Site) -> Site:
    """A week of one gate, whose self-tests failed in the night of the fourth day, and warned on the last one."""
    site.add(counted(period, 100) for period in days("2026-11-01", 7))  # fixed time: before NOW
    site.selftests(  # fixed time: before NOW
        *(result(f"2026-11-0{day}T12:00:00") for day in (1, 2, 4, 5)),
        result("2026-11-04T22:00:00", FAILS),
        result("2026-11-04T23:00:00", SILENT),
        result("2026-11-05T00:00:00", SILENT),
        result("2026-11-05T00:10:00", SILENT),
        result("2026-11-07T12:00:00", STALE),
        result("2026-11-08T12:00:00", SILENT),
    )
    return site


def test_self_tests_are_in_the_report_where_they_are_given(site: Site) -> None:
    site.add([counted(days("2026-11-01", 1)[0], 100)])
    without = site.report()
    assert without.self_tests is None
    site.selftests()
    empty = site.report()
    assert empty.self_tests == SelfTests(1, 0, 0, 0, ())
    for report, words in ((without, "none given"), (empty, "none in this range")):
        assert f"\nSelf-tests:   {words}\n" in as_table(report).decode()
        assert ["Self-tests", words] in _facts_of(as_html(report).decode())
        assert "Self-tests that" not in as_table(report).decode() + as_html(report).decode()
    assert "self-test" not in as_table(without).decode()
    assert json.loads(as_json(without))["self_tests"] is None
    assert as_csv(without) == as_csv(empty)


def _facts_of(page: str) -> list[list[str]]:
    (facts,) = [element for element in parsed(page).iter("dl") if element.get("class") == "facts"]
    return [[" ".join("".join(part.itertext()).split()) for part in fact] for fact in facts]


def test_self_tests_are_summed_up_over_the_days_of_the_report(week: Site) -> None:
    report = week.report("2026-11-02", "2026-11-07")
    night, later = datetime(2026, 11, 4, 22, tzinfo=UTC), datetime(2026, 11, 5, 0, 10, tzinfo=UTC)
    noon = datetime(2026, 11, 7, 12, tzinfo=UTC)
    assert report.self_tests == SelfTests(
        files=1,
        tests=8,
        passed=3,
        passed_periods=1,
        not_passed=(
            NotPassed(1, night, night, 1, CheckState.CRITICAL, tuple(CheckName)),
            NotPassed(1, night.replace(hour=23), later, 3, CheckState.UNKNOWN, ("http",)),
            NotPassed(1, noon, noon, 1, CheckState.WARNING, ("list age",)),
        ),
    )
    fact = "3 of 8 passed; days with all passed: 1 of 6"
    assert f"\nSelf-tests:   {fact}\n" in as_table(report).decode()
    assert ["Self-tests", fact] in _facts_of(as_html(report).decode())


def test_self_tests_up_to_the_moment_of_the_report_are_in_it(site: Site) -> None:
    """Its period has not closed: it is none of those in which all passed."""
    site.add([])
    site.selftests(result("2026-11-21T11:59:59"), result("2026-11-21T12:00:00"), result("2026-11-21T12:00:01"))
    report = site.report()
    assert report.self_tests == SelfTests(1, 1, 1, 0, ())
    assert "\nSelf-tests:   1 of 1 passed\n" in as_table(report).decode()


def test_a_table_tells_of_self_tests_that_did_not_pass(week: Site) -> None:
    report = week.report(until="2026-11-07")
    table = as_table(report).decode()
    assert table[table.index("Self-tests that") : table.index("How to read")].splitlines() == [
        "Self-tests that did not pass",
        "",
        "  from              to                tests  state     checks",
        "  2026-11-04 22:00  2026-11-04 22:00      1  critical  http",
        "                                                       https",
        "                                                       control",
        "                                                       untouched",
        "                                                       list age",
        "  2026-11-04 23:00  2026-11-05 00:10      3  unknown   http",
        "  2026-11-07 12:00  2026-11-07 12:00      1  warning   list age",
        "",
        "  warning: the filter worked, but the list was too old.",
        "  critical: the filter did not work, or an unlisted host did not pass untouched.",
        "  unknown: the gate could not be reached, or its answers were incomplete.",
        "  http: fine if the check host is stopped over HTTP.",
        "  https: fine if the check host is stopped over HTTPS.",
        "  control: fine if a host that is not listed passes.",
        "  untouched: fine if a host that is not listed shows its own certificate.",
        "  list age: fine if the list is not too old.",
        "",
    ]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "and the gate records none.\n  The times of self-tests are those of the operator's own requests.\n" in table
    assert "times of self-tests" not in as_table(week.report(until="2026-11-03")).decode()


def test_a_page_tells_of_self_tests_that_did_not_pass(week: Site) -> None:
    page = as_html(week.report("2026-11-05", "2026-11-07")).decode()
    (section,) = [each for each in parsed(page).iter("section") if each.get("aria-labelledby") == "not-passed"]
    assert [["".join(cell.itertext()) for cell in row] for row in section.iter("tr")] == [
        ["From", "To", "Tests", "State", "Checks"],
        ["2026-11-05 00:00", "2026-11-05 00:10", "2", "unknown", "http"],
        ["2026-11-07 12:00", "2026-11-07 12:00", "1", "warning", "list age"],
    ]
    assert [term.text for term in section.iter("dt")] == ["warning", "unknown", "http", "list age"]


def test_json_has_the_self_tests(week: Site) -> None:
    fields = json.loads(as_json(week.report("2026-11-05", "2026-11-06")))
    assert fields["self_tests"] == {
        "files": 1,
        "tests": 3,
        "passed": 1,
        "passed_periods": 0,
        "periods": 2,
        "not_passed": [
            {
                "file": 1,
                "first": "2026-11-05T00:00:00Z",
                "last": "2026-11-05T00:10:00Z",
                "tests": 2,
                "state": "unknown",
                "checks": ["http"],
            }
        ],
    }


def test_csv_has_none_of_the_self_tests(week: Site) -> None:
    given = as_csv(week.report())
    week.results[0].unlink()
    assert as_csv(week.report()) == given


def test_self_tests_of_several_files_have_the_number_of_their_file(week: Site) -> None:
    week.selftests(result("2026-11-04T22:30:00", SILENT), result("2026-11-04T22:40:00", SILENT))
    report = week.report("2026-11-04", "2026-11-04")
    table = as_table(report).decode()
    assert "  file  from              to                tests  state     checks\n" in table
    assert re.search(r"\n  1     2026-11-04 22:00 .*critical", table)
    assert re.search(
        r"\n  2     2026-11-04 22:30  2026-11-04 22:40 +2  unknown   http\n  1     2026-11-04 23:00", table
    )
    assert '<tr><th scope="row">2</th><td class="whole">2026-11-04 22:30</td>' in as_html(report).decode()
    assert [each["file"] for each in json.loads(as_json(report))["self_tests"]["not_passed"]] == [1, 2, 1]


def test_self_tests_are_told_in_the_policys_time_zone_and_hours(site: Site) -> None:
    site.adapt("counts: {period: hour}", "time_zone: Asia/Kathmandu")
    kathmandu = zoneinfo.ZoneInfo("Asia/Kathmandu")
    site.add(counted(hour, 100) for hour in days("2026-11-03", 24, "hour", kathmandu))
    site.selftests(
        result("2026-11-02T18:14:59", SILENT),
        result("2026-11-02T18:15:00", SILENT),
        result("2026-11-02T19:15:00"),
        result("2026-11-03T18:14:59"),
        result("2026-11-03T18:15:00", SILENT),
    )
    table = as_table(site.report("2026-11-03", "2026-11-03")).decode()
    assert "Self-tests:   2 of 3 passed; hours with all passed: 2 of 24\n" in table
    assert "\n  2026-11-03 00:00  2026-11-03 00:00      1  unknown  http\n" in table


def test_a_year_of_self_tests_is_good_at_80_columns(site: Site) -> None:
    report = site.report("2026-11-01", "2026-11-20")
    stretch = NotPassed(12, NOW, NOW + timedelta(days=300), 1_234_567, CheckState.CRITICAL, tuple(CheckName))
    many = replace(report, self_tests=SelfTests(12, 1_234_567, 1_234_000, 8_760, (stretch,)), length="hour")
    assert max(len(line) for line in as_table(many).decode().splitlines()) <= 80


def test_nothing_that_a_self_test_saw_is_in_any_format(week: Site) -> None:
    """Whatever its words say, the reports are the same to the last byte."""
    file = week.results[0]
    plain = all_formats(week.report())
    lines = []
    for line in file.read_text().splitlines():
        fields = json.loads(line)
        for check in fields["checks"]:
            check["seen"] = "control-of-secret.example:4443 passes, asked of http://anna:secret@gate-of-secret.example"
            check["remedy"] = "name the secret.example ones with --control-ca /home/of-secret/ca.pem"
            check["secret"] = ["secret.example"]
        fields |= {"proxy": "http://secret.example:8080", "control": {"secret.example": 443}, "list_age_days": 98765}
        lines.append(json.dumps(fields))
    file.rename(week.folder / "selftests-of-secret").write_text("".join(f"{line}\n" for line in lines))
    assert [path.name for path in week.results] == ["selftests-of-secret"]
    found = all_formats(week.report())
    assert found == plain
    for text in found.values():
        assert "secret" not in text
        assert "98765" not in text


def test_a_line_that_is_no_result_makes_no_report(week: Site) -> None:
    with week.results[0].open("a") as file:
        file.write("STOPLIST OK - 5 checks fine\n")
    with pytest.raises(StoplistError, match="selftests-1:11: 'STOPLIST OK - 5 checks fine' is not strict JSON"):
        week.report("2026-11-01", "2026-11-01")


# Formats


@pytest.fixture
def sample(site: Site) -> Report:
    """Two lists over a week, one of them expired on a day, with a gap, and an operator with a sharp name."""
    policy = site.publisher.policy
    policy.write_text(policy.read_text().replace("Example School", "'<script>alert(1)</script> & Söhne'"))
    counts = [  # fixed time: before NOW
        counted(period, 90 * at + 4 * place, cell, **({"fresh": 0, "expired": DAY} if at == 3 else {}))
        for at, period in enumerate(days("2026-11-01", 7))
        for place, cell in enumerate(CELLS)
        if at != 5
    ]
    state = site.gate(counts)
    signed, data = a_list(site.publisher)
    state.activate(site.publisher.list, signed, data, datetime(2026, 11, 2, tzinfo=UTC))  # fixed time: before NOW
    state.close()
    return site.report(until="2026-11-07")  # fixed time: before NOW


def test_the_table_is_good_at_80_columns(sample: Report) -> None:
    lines = as_table(sample).decode().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert lines[0] == "Requests stopped by <script>alert(1)</script> & Söhne"
    assert f"Made:         2026-11-21T12:00:00Z by Stoplist {__version__}" in lines
    assert "  day          serials   stopped  page not shown  list     hours" in lines
    assert "  2026-11-03   7             190             190  fresh     24.0" in lines
    assert "  2026-11-04   7             280             280  expired   24.0" in lines
    assert "  2026-11-06  no gate was counting" in lines


def test_the_table_of_hours_is_good_at_80_columns(site: Site) -> None:
    site.adapt("counts: {period: hour}", "time_zone: Europe/Paris")
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    cells = [replace(cell, serial=cell.serial and 1234) for cell in CELLS]
    site.add([counted(hour, 12345, cell) for hour in days("2026-11-01", 26, "hour", paris) for cell in cells])
    lines = as_table(site.report("2026-11-01", "2026-11-01")).decode().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "Hours in which a fresh list was enforced: 24 of 24." in lines


def test_csv_is_one_flat_table(sample: Report) -> None:
    text = as_csv(sample).decode()
    assert text.count("\r\n") == text.count("\n") == len(sample.rows) + 1
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[:2] == [
        *[
            [
                *("period", "starts", "ends", "list", "outcome", "serials", "requests", "hidden", "complete"),
                *("gates", "fresh", "fresh_seconds", "expired_seconds"),
            ]
        ],
        [
            *("2026-11-01", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "own", "observed", "1", "15", "false"),
            *("true", "1", "true", "86400", "0"),
        ],
    ]
    assert lines[2][3:9] == ["worst-of", "stopped", "7", "", "true", "false"]
    assert lines[5][3:] == ["", "passed", "", "", "true", "false", "", "", "", ""]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_json_is_one_object_with_these_keys(sample: Report) -> None:
    fields = json.loads(as_json(sample))
    assert {name: value for name, value in fields.items() if not isinstance(value, list)} == {
        "report": 1,
        "made": "2026-11-21T12:00:00Z",
        "version": __version__,
        "operator": "<script>alert(1)</script> & Söhne",
        "authority": "not named in the policy",
        "time_zone": "UTC",
        "period": "day",
        "first": "2026-11-01",
        "last": "2026-11-07",
        "periods": 7,
        "gates": 1,
        "hide_below": 10,
        "round_to": 5,
        "policy_tests": {"passed": True, "tests": 1},
        "self_tests": None,
    }
    assert {name: value[0] for name, value in fields.items() if isinstance(value, list)} == {
        "periods_without_counts": "2026-11-06",
        "counts": {
            "period": "2026-11-01",
            "starts": "2026-11-01T00:00:00Z",
            "ends": "2026-11-02T00:00:00Z",
            "list": "own",
            "outcome": "observed",
            "serials": [1],
            "requests": 15,
            "complete": True,
        },
        "totals": {
            "list": "worst-of",
            "outcome": "stopped",
            "requests": 1490,
            "complete": False,
            "periods": 6,
            "hidden_periods": 1,
        },
        "in_force": {
            "period": "2026-11-01",
            "starts": "2026-11-01T00:00:00Z",
            "ends": "2026-11-02T00:00:00Z",
            "list": "own",
            "enforced": False,
            "gates": 1,
            "fresh": True,
            "fresh_seconds": 86400,
            "expired_seconds": 0,
        },
        "freshness": {"list": "worst-of", "enforced": True, "fresh_periods": 5, "periods": 7, "seconds": 6 * DAY},
        "changes": {
            "gate": 1,
            "time": "2026-11-02T00:00:00Z",
            "result": "activated",
            "list": "test",
            "serial": 1,
            "signers": 1,
        },
    }


def test_the_page_is_well_formed_and_complete(sample: Report) -> None:
    page = as_html(sample).decode()
    tree = parsed(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby", "aria-describedby"):
        for element in tree.iter():
            assert set((element.get(attribute) or "").split()) <= set(ids)
    assert [element.text for element in tree.iter("h1")] == ["Requests stopped by <script>alert(1)</script> & Söhne"]
    assert {element.get("scope") for element in tree.iter("th")} == {"col", "row", "rowgroup"}
    drawings = [element for element in tree.iter("svg") if element.get("role") == "img"]
    assert len(drawings) == 2
    for drawing in drawings:
        assert drawing[0].tag == "title"
        assert drawing[1].tag == "desc"
    HTMLParser().feed(page)


def test_the_page_runs_nothing_and_loads_nothing(sample: Report) -> None:
    page = as_html(sample).decode()
    tree = parsed(page)
    policies = [meta.get("content") for meta in tree.iter("meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    tags = {element.tag for element in tree.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "a", "form", "use", "image", "base"}
    names = {name for element in tree.iter() for name in element.attrib}
    assert not [name for name in names if name.startswith("on") or name in ("href", "src", "srcset", "action", "style")]
    assert set(re.findall(r"url\(([^)]*)\)", page)) <= {f"#{name}" for name in ("hatch", "dots", "cross", "rows")}
    assert not re.findall(r"https?:|//|@import|javascript:", page.replace("<!DOCTYPE html>", ""))


def test_hidden_numbers_are_drawn_alike(site: Site) -> None:
    not_shown = Cell("worst-of", 7, Outcome.NOT_SHOWN)
    periods = days("2026-11-01", 12)
    site.add(
        [counted(period, at, STOPPED) for at, period in enumerate(periods)]
        + [counted(period, 11 - at, not_shown) for at, period in enumerate(periods)]
    )
    bars = [
        (element.get("class"), element.get("height"), element.get("width"))
        for element in parsed(as_html(site.report()).decode()).iter("rect")
        if element.get("class") in ("hidden", "stopped", "page-not-shown") and element.get("x", "").endswith("%")
    ]
    assert len(bars) == 24
    assert len({bar for bar in bars if bar[0] == "hidden"}) == 1
    assert len([bar for bar in bars if bar[0] == "hidden"]) == 20
