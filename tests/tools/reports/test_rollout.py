"""rollout: what enforcing would have done, hidden as a report hides it, and only over what was observed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from stoplist.core.counts import Cell, Outcome
from stoplist.errors import StoplistError
from stoplist.tools.output import rollout_formats
from stoplist.tools.reports import report as reporting
from stoplist.tools.reports import rollout as rolling
from tests.fixed_time import NOW
from tests.tools.reports.test_report import STOPPED, Site, counted, days, parsed, site

__all__ = ["site"]

WORST = Cell("worst-of", 7, Outcome.OBSERVED)
NEWER = Cell("worst-of", 8, Outcome.OBSERVED)
OWN = Cell("own", 1, Outcome.OBSERVED)
PASSED = Cell(None, None, Outcome.PASSED)


def rollout(site: Site, states: Sequence[Path] | None = None) -> rolling.Rollout:
    return rolling.make(site.publisher.policy, states or site.states, since=None, until=None, now=NOW)


def table(site: Site) -> str:
    return rollout_formats.as_table(rollout(site)).decode()


def words(site: Site) -> str:
    return " ".join(table(site).split())


def test_the_numbers_are_those_of_the_report(site: Site) -> None:
    one, two, three = days("2026-11-01", 3)
    site.add(
        [
            *(counted(one, 1237, WORST), counted(two, 4, WORST), counted(three, 40, WORST)),
            *(counted(day, 900, PASSED) for day in (one, two, three)),
            counted(one, 77, STOPPED),
        ]
    )
    made = rollout(site)
    report = site.report()
    expected = [row.shown.requests for row in report.rows if row.outcome is Outcome.OBSERVED]
    fields = json.loads(rollout_formats.as_json(made))
    (worst,) = fields["lists"]
    assert [each["requests"] for each in worst["counts"]] == expected == [1235, None, 40]
    assert worst["total"] == fields["total"] == {"requests": 1275, "complete": False}
    assert worst["hidden_periods"] == 1
    said = words(site)
    assert (
        "Enforcing list worst-of would have stopped about 1,275 requests, and fewer than 10 each in 1 number that is "
        "hidden." in said
    )
    assert "observed in 3 of 20 days" in said
    for exact in ("1237", "1,237", "77", "900"):
        assert exact not in said
        assert exact not in rollout_formats.as_json(made).decode()


def test_the_page_says_the_same_and_no_exact_number(site: Site) -> None:
    one, two, three = days("2026-11-01", 3)
    site.add([counted(one, 1237, WORST), counted(two, 4, WORST), counted(three, 40, WORST), counted(one, 20, OWN)])
    page = rollout_formats.as_html(rollout(site)).decode()
    tree = parsed(page)
    read = " ".join(" ".join(tree.itertext()).split())
    for sentence in ("about 1,275 requests", "in 1 number that is hidden", "all that was observed", "Range"):
        assert sentence in read
    assert [cell.text for row in tree.iter("tr") for cell in row][:4] == ["Day", "Serials", "Would be stopped", "Hours"]
    assert not re.search(r"1,?237", page)
    tags = {element.tag for element in tree.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "a", "form", "use", "image", "base"}
    bars = [each.get("class") for each in tree.iter("rect") if each.get("class") in ("observed", "hidden")]
    assert (bars.count("observed"), bars.count("hidden")) == (3 + 2, 1 + 2)  # with the legend of each list


def test_it_says_over_which_periods_nothing_was_observed(site: Site) -> None:
    one, two, three, four = days("2026-11-01", 4)
    site.add([counted(one, 20, WORST), counted(two, 20), counted(three, 20), counted(four, 30, WORST, fresh=7200)])
    said = table(site)
    assert "List worst-of, observed in 2 of 20 days" in said
    assert re.search(r"2026-11-01 +7 +20 +24\.0\n +2026-11-02 to 2026-11-03  not observed\n", said)
    assert re.search(r"2026-11-04 +7 +30 +2\.0\n", said)
    assert json.loads(rollout_formats.as_json(rollout(site)))["periods_observed"] == ["2026-11-01", "2026-11-04"]


def test_versions_and_lists_are_added_up_as_a_report_adds_them_up(site: Site) -> None:
    (one,) = days("2026-11-01", 1)
    site.add([counted(one, 6, WORST), counted(one, 6, NEWER), counted(one, 50, OWN)])
    said = words(site)
    assert "list own would have stopped about 50 requests" in said
    assert "list worst-of would have stopped about 10 requests" in said
    assert "all that was observed would have stopped about 60 requests" in said


def test_where_all_numbers_are_hidden_it_says_so(site: Site) -> None:
    site.add(counted(day, 3, WORST) for day in days("2026-11-01", 3))
    assert "would have stopped few requests or none: the number of each day is under 10, and hidden." in words(site)


def test_gates_are_added_up_before_hiding(site: Site) -> None:
    (one,) = days("2026-11-01", 1)
    for _ in range(3):
        site.add([counted(one, 6, WORST)])
    assert rollout(site).total.requests == 20


@pytest.mark.parametrize(
    ("policy", "hint"),
    [
        pytest.param("", "begin with 'mode: observe'", id="it enforces"),
        pytest.param("mode: observe", "ask again after a full day of observing", id="it observes"),
        pytest.param(
            "observe_clients: [10.7.0.0/16]", "ask again after a full day of observing", id="a part is observed"
        ),
    ],
)
def test_where_nothing_was_observed_it_says_how_to_begin(site: Site, policy: str, hint: str) -> None:
    site.adapt(policy)
    site.add([counted(days("2026-11-01", 1)[0], 20)])
    with pytest.raises(StoplistError) as caught:
        rollout(site)
    assert "nothing was observed" in caught.value.message
    assert hint in caught.value.hint


def test_it_is_good_at_80_columns(site: Site) -> None:
    site.add(counted(day, 1_234_567, WORST) for day in days("2026-11-01", 20))
    assert max(map(len, table(site).splitlines())) <= 80


def test_it_asks_for_the_same_report(site: Site) -> None:
    site.add([counted(days("2026-11-01", 1)[0], 20, WORST)])
    made, _ = reporting.make(site.publisher.policy, site.states, since=None, until=None, now=NOW)
    assert rollout(site).report == made
