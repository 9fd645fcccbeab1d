"""Trials: what a gate would have done, counted exactly, shown so that it identifies nobody."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoplist.core.counts import Outcome, Shown
from stoplist.core.decide import Action, decide
from stoplist.core.hosts import Host
from stoplist.core.lists.digests import DigestSet
from stoplist.errors import StoplistError
from stoplist.tools.output.trial_formats import FORMATS, as_html, as_json, as_table
from stoplist.tools.trial import trial as trying
from stoplist.tools.trial.distinct_hosts import DistinctHosts
from stoplist.tools.trial.logs.reading import Batch
from stoplist.tools.trial.trial import NO_DAY, Outcomes, Trial, TrialOptions
from tests.examples import examples
from tests.fixed_time import NOW
from tests.published import Publisher

DAY = 86400
FIRST = int(NOW.replace(hour=0).timestamp())
"""When the day of NOW begins."""


def squid(*asked: tuple[int, str, int]) -> bytes:
    """A log of Squid: so many requests for a host on a day, from the first on."""
    line = "{}.123 12 192.0.2.7 TCP_TUNNEL/200 45 CONNECT {}:443 - HIER_DIRECT/192.0.2.2 -\n"
    return "".join(line.format(FIRST + day * DAY + 7, host) * times for day, host, times in asked).encode()


@dataclass
class Site:
    """A policy that lists listed.test and a few more, and a log."""

    publisher: Publisher
    folder: Path
    known: Path | None = None

    def adapt(self, *lines: str) -> None:
        policy = self.publisher.policy
        policy.write_text("\n".join([policy.read_text(), *lines, ""]))

    def run(
        self, *logs: bytes, is_exact: bool = True, reveals: bool = False, format_name: str | None = None
    ) -> Outcomes:
        names = []
        for number, log in enumerate(logs):
            (self.folder / f"{number}.log").write_bytes(log)
            names.append(str(self.folder / f"{number}.log"))
        wanted = TrialOptions(self.publisher.policy, tuple(names), format_name, None, self.known, is_exact, reveals)
        return trying.run(wanted, io.BytesIO(), NOW, lambda batches, _: batches)

    def trial(self, *logs: bytes, is_exact: bool = True, reveals: bool = False) -> Trial:
        return self.run(*logs, is_exact=is_exact, reveals=reveals).trial


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(Publisher.new(tmp_path / "publisher", NOW), tmp_path)


def totals(trial: Trial) -> dict[tuple[str | None, str], int]:
    found: dict[tuple[str | None, str], int] = {}
    for row in trial.rows:
        if row.shown.requests:
            key = (row.list, row.outcome.value)
            found[key] = found.get(key, 0) + row.shown.requests
    return found


# What is counted


def test_each_request_is_judged_as_a_gate_would(site: Site) -> None:
    site.adapt(
        'exceptions: [{domain: d1.test, reason: "appeal", until: 2099-12-31}]', "upstream: {deny: [192.0.2.0/24]}"
    )
    log = squid(
        *((0, "listed.test", 3), (0, "WWW.listed.test.", 2), (1, "serial1.test", 1), (0, "d1.test", 4)),
        *((0, "pass.test", 5), (0, "192.0.2.2", 1), (0, "203.0.113.9", 1), (0, "a b".replace(" ", "%"), 2)),
        (0, "check.stoplist.invalid", 7),
    )
    trial = site.trial(log)
    assert totals(trial) == {("test", "stopped"): 6, (None, "passed"): 10, (None, "refused"): 3}
    assert (trial.requests, trial.judged) == (26, 19)
    assert [day.name for day in trial.days] == ["2026-11-21", "2026-11-22"]
    assert trial.found.hosts == Shown(3, is_complete=True)


HOST = st.sampled_from(
    [
        "listed.test",
        "a.listed.test",
        "LISTED.test",
        "pass.test",
        "d1.test",
        "x.d2.test",
        "192.0.2.1",
        "check.stoplist.invalid",
    ]
) | st.text(st.characters(exclude_characters='/ ?#@"\r\n', exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(HOST, max_size=30))
def test_the_counts_are_those_of_each_host_judged_alone(site: Site, hosts: list[str]) -> None:
    ruleset = trying.loading.load(site.publisher.policy, now=NOW).ruleset
    expected: dict[str, int] = {}
    for text in hosts:
        try:
            verdict = decide(ruleset, trying.host_of(text.encode()), NOW.timestamp())
            outcome = {Action.STOP: "stopped", Action.REFUSE: "refused", Action.PASS: "passed"}[verdict.action]
            outcome = outcome if verdict.is_counted else ""
        except StoplistError:
            outcome = "refused"
        expected[outcome] = expected.get(outcome, 0) + 1
    expected.pop("", None)
    log = "".join(f"1795219207.1 1 192.0.2.7 A/200 1 GET http://{host}/ - B/- -\n" for host in hosts).encode()
    found = site.run(log, format_name="squid").trial
    by_outcome: dict[str, int] = {}
    for (_, outcome), number in totals(found).items():
        by_outcome[outcome] = by_outcome.get(outcome, 0) + number
    assert by_outcome == expected


def test_what_is_only_observed_is_told_as_such(site: Site) -> None:
    site.adapt("mode: observe")
    trial = site.trial(squid((0, "listed.test", 3)))
    assert totals(trial) == {("test", "observed"): 3}
    assert trial.found.hosts.requests == 1
    assert b"test observed" in as_table(trial)


def test_days_are_of_the_policys_time_zone(site: Site) -> None:
    site.adapt("time_zone: Pacific/Auckland")
    at = FIRST + 11 * 3600  # midnight there
    lines = [f"{at + seconds}.1 1 192.0.2.7 A/200 1 CONNECT pass.test:443 - B/- -\n" for seconds in (-1, 0)]
    assert [day.name for day in site.trial("".join(lines).encode()).days] == ["2026-11-21", "2026-11-22"]


def test_several_logs_are_added_up_and_what_has_no_time_is_under_no_day(site: Site) -> None:
    trial = site.trial(squid((0, "listed.test", 3)), b"listed.test\npass.test\n", squid((3, "listed.test", 1)))
    assert totals(trial) == {("test", "stopped"): 5, (None, "passed"): 1}
    assert trial.formats == ("hosts", "squid")
    assert [day.name for day in trial.days] == ["2026-11-21", "2026-11-22", "2026-11-23", "2026-11-24"]
    assert {row.period.name for row in trial.rows} == {"2026-11-21", "2026-11-24", "no day"}
    table = as_table(trial).decode()
    assert re.search(r"2026-11-24 .*\n  no day .*\n  total shown", table)


def test_days_without_end_are_not_all_kept(site: Site) -> None:
    lines = (f"{day * DAY}.1 1 192.0.2.7 A/200 1 CONNECT pass.test:443 - B/- -\n" for day in range(20_000, 26_000))
    trial = site.trial("".join(lines).encode())
    assert len(trial.days) == trying.MAX_DAYS
    assert totals(trial) == {(None, "passed"): 6000}
    assert (
        next(row for row in trial.rows if row.period == NO_DAY and row.outcome is Outcome.PASSED).shown.requests == 2000
    )


def test_what_is_judged_is_forgotten_when_it_is_too_much(site: Site, tmp_path: Path) -> None:
    loaded = trying.loading.load(site.publisher.policy, now=NOW)
    judging = trying._Judging.of(loaded.ruleset, TrialOptions(site.publisher.policy, ("x",)), NOW)
    for start in range(0, 250_000, 50_000):
        requests = {(b"%08d" % at, b"h%d.listed.test" % at): 1 for at in range(start, start + 50_000)}
        judging.judge(Batch(requests, 0, 0, (), 0))
    judging.judge(Batch({(b"", b"x" * 100_000): 1}, 0, 0, (), 0))
    assert max(len(judging.hosts), len(judging.stamps)) <= 100_000
    assert len(judging.hosts._older) <= 100_000
    assert not any(len(host) > 128 for host in judging.hosts)
    assert judging.trial(["squid"]).requests is None


# False positives


def test_hosts_that_are_likely_mistakes_are_counted(site: Site, tmp_path: Path) -> None:
    site.adapt("never_block: [listed.test]")
    site.known = tmp_path / "known.txt"
    site.known.write_text("# the most visited\n1,serial1.test\nD0.test # why\n\npass.test\n")
    log = squid(
        *((0, "www.listed.test", 3), (0, "listed.test", 3), (0, "serial1.test", 1), (0, "x.d0.test", 1)),
        *((0, "d1.test", 1), (0, "pass.test", 1)),
    )
    found = site.run(log)
    assert found.trial.found == trying.Found(Shown(5, is_complete=True), never_block=2, known=2, is_all=True)
    assert any("it lists 1 of the names in 'never_block'" in str(warning) for warning in found.warnings)
    hidden = site.trial(log, is_exact=False)
    assert hidden.found == trying.Found(Shown(None, is_complete=False), never_block=2, known=2, is_all=True)
    assert re.search(
        r"distinct hosts +under 10\n  of them in never_block +2\n  of them well-known sites +2\n",
        as_table(hidden).decode(),
    )


def test_a_known_site_that_is_none_is_told_with_its_line(site: Site, tmp_path: Path) -> None:
    site.known = tmp_path / "known.txt"
    site.known.write_text("pass.test\nhttp://pass.test/\n")
    with pytest.raises(StoplistError) as caught:
        site.trial(squid((0, "pass.test", 1)))
    assert str(caught.value).startswith(f"{site.known}:2: no site: ")


def test_of_more_hosts_than_can_be_kept_the_first_are_counted() -> None:
    none = DigestSet(bytes(32), b"")
    hosts = DistinctHosts(none, none, most=3)
    for number in (1, 2, 2, 3, 4, 1, 5):
        hosts.add(Host(f"d{number}.test"))
    assert hosts.found(None) == trying.Found(Shown(3, is_complete=True), 0, 0, is_all=False)


# What is shown


def all_formats(trial: Trial) -> dict[str, str]:
    return {name: render(trial).decode() for name, render in FORMATS.items()}


WORLD = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1233, 1237))


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(WORLD, WORLD)
def test_no_hidden_number_is_in_any_format(site: Site, one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    """Whatever is hidden, and whatever was rounded off, the results are the same to the last byte."""
    renderings = []
    for stopped, refused, passed in (one, other):
        log = squid((0, "listed.test", stopped), (0, "a%b", refused), (0, "pass.test", passed))
        renderings.append(all_formats(site.trial(log, is_exact=False)))
    assert renderings[0] == renderings[1]


HOSTS = ("www.listed.test", "secret.pass.test", "192.0.2.7", "anna", "serial1.test", "TCP_TUNNEL")


def everything_said(outcomes: Outcomes) -> Iterable[str]:
    yield from all_formats(outcomes.trial).values()
    yield from map(str, (*outcomes.warnings, *outcomes.unparsable, *outcomes.faults))
    yield repr(outcomes)


@pytest.mark.parametrize("is_exact", [False, True])
def test_nothing_of_a_log_is_said(site: Site, is_exact: bool) -> None:
    log = squid((0, "www.listed.test", 30), (0, "secret.pass.test", 30), (0, "serial1.test", 1)) + b"anna asked\n" * 5
    found = site.run(log, is_exact=is_exact)
    assert [(each.lines, each.told) for each in found.unparsable] == [(5, (62, 63, 64))]
    for text in everything_said(found):
        assert not [host for host in HOSTS if host in text]


def test_hosts_are_shown_where_they_are_revealed(site: Site, tmp_path: Path) -> None:
    site.known = tmp_path / "known.txt"
    site.known.write_text("serial1.test\n")
    log = squid(
        (0, "www.LISTED.test", 2), (1, "www.listed.test.", 3), (0, "serial1.test", 1), (0, "secret.pass.test", 9)
    )
    trial = site.trial(log, is_exact=False, reveals=True)
    assert [(each.host, each.requests, each.is_known) for each in trial.revealed] == [
        ("www.listed.test", 5, False),
        ("serial1.test", 1, True),
    ]
    assert trial.disclosure is None
    assert re.search(r"  www.listed.test +test  stopped +5  no +no\n  serial1.test", as_table(trial).decode())
    assert json.loads(as_json(trial))["revealed"][0]["host"] == "www.listed.test"
    assert "www.listed.test" in as_html(trial).decode()
    assert not [text for text in all_formats(trial).values() if "secret" in text]


def test_the_page_is_well_formed_and_draws_what_may_be_shown(site: Site) -> None:
    log = squid((0, "listed.test", 1237), (2, "listed.test", 7), (0, "pass.test", 100))
    page = as_html(site.trial(log, is_exact=False)).decode()
    tree = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    bars = [
        rect
        for rect in tree.iter("rect")
        if rect.get("class") in ("stopped", "hidden") and rect.find("title") is not None
    ]
    titles = ["".join(rect.itertext()) for rect in bars]
    assert titles == ["2026-11-21: 1,235 stopped", "2026-11-23: under 10 stopped"]
    runs = [rect.get("class") for rect in tree.iter("rect") if "in-the-logs" in (rect.get("class") or "")]
    assert runs.count("not-in-the-logs") == 1
    assert "<script" not in page
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_an_empty_log_is_said_to_be_empty(site: Site) -> None:
    trial = site.trial(b"")
    assert (trial.rows, trial.days, trial.requests) == ((), (), 0)
    assert "no day" in as_table(trial).decode()
    assert "No request was read." in as_html(trial).decode()


def test_json_has_a_field_for_each_number(site: Site) -> None:
    logs = squid((0, "listed.test", 12)), b"pass.test\npass.test\nx y\n"
    fields = json.loads(as_json(site.trial(*logs, is_exact=False)))
    wanted = {"trial": 1, "exact": False, "hide_below": 10, "round_to": 5, "requests": None, "unparsable_lines": 1}
    assert {key: fields[key] for key in wanted} == wanted
    assert fields["counts"][0] == {"day": "2026-11-21", "list": "test", "outcome": "stopped", "requests": 10}
    assert [each["day"] for each in fields["counts"]] == ["2026-11-21"] * 3 + [None] * 3


# Inputs


def test_an_input_that_cannot_be_opened_is_told_before_any_is_read(site: Site, tmp_path: Path) -> None:
    wanted = TrialOptions(site.publisher.policy, (str(tmp_path / "gone.log"),))
    read: list[object] = []
    with pytest.raises(StoplistError) as caught:
        trying.run(wanted, io.BytesIO(), NOW, lambda batches, _: read or batches)
    assert str(caught.value) == f"{tmp_path / 'gone.log'}: cannot be read (no such file or directory); check the path"
    (tmp_path / "first.log").write_bytes(squid((0, "pass.test", 1)))
    (tmp_path / "other.log").write_text("what is this\n")
    both = replace(wanted, inputs=(str(tmp_path / "first.log"), str(tmp_path / "other.log")))
    with pytest.raises(StoplistError, match=r"other\.log: the format is not known"):
        trying.run(both, io.BytesIO(), NOW, lambda batches, _: pytest.fail("was read"))


def test_a_pipe_is_read_once(site: Site, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, squid((0, "listed.test", 3)))
    os.close(writing)
    wanted = TrialOptions(site.publisher.policy, (f"/dev/fd/{reading}", "-"), is_exact=True)
    found = trying.run(wanted, io.BytesIO(b"listed.test\n"), NOW, lambda batches, _: batches)
    os.close(reading)
    assert totals(found.trial) == {("test", "stopped"): 4}


def test_the_sizes_of_batches_add_up_to_that_of_the_files(site: Site) -> None:
    seen: list[int | None] = []

    def track(batches: Iterable[Batch], total: int | None) -> Iterable[Batch]:
        seen.append(total)
        found = list(batches)
        seen.append(sum(batch.consumed for batch in found))
        return found

    log = squid((0, "pass.test", 20_000))
    (site.folder / "a.log").write_bytes(log)
    name = str(site.folder / "a.log")
    trying.run(TrialOptions(site.publisher.policy, (name, name)), io.BytesIO(), NOW, track)
    assert seen == [2 * len(log)] * 2
