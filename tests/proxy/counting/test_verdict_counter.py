"""VerdictCounter: each verdict is one more in its cell, wherever that stands; nothing else is known of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.counts import Cell, Outcome
from stoplist.core.decide import (
    AMBIGUOUS,
    DENIED,
    FAULT,
    NOT_FORWARDED,
    PASS,
    PASS_ADDRESS,
    PASS_EXCEPTION,
    UNREADABLE,
    Ruleset,
    Verdict,
    decide,
)
from stoplist.core.hosts import CHECK_HOST, Host
from stoplist.proxy.counting.shared_counters import FIRST_CELL, NUMBERS, Layout, SharedCounters
from stoplist.proxy.counting.verdict_counter import VerdictCounter, cells
from tests.fixed_time import NOW
from tests.rulesets import ruleset, signed

NOON = NOW.timestamp()
RULES = ruleset(
    signed("listed.example", serial=3),
    signed("trial.example", list_id="trial", serial=7, check_host="check.trial.invalid"),
    modes=("enforce", "observe"),
    exceptions={"excepted.listed.example": "2099-12-31"},
)
PASSED = Cell(None, None, Outcome.PASSED)
REFUSED = Cell(None, None, Outcome.REFUSED)
STOPPED = Cell("worst-of", 3, Outcome.STOPPED)
NOT_SHOWN = Cell("worst-of", 3, Outcome.NOT_SHOWN)
OBSERVED = Cell("trial", 7, Outcome.OBSERVED)


def of(name: str, rules: Ruleset = RULES) -> Verdict:
    return decide(rules, Host.parse(name), NOON)


class Counts:
    """A counter with all it writes on; by cell, what was counted."""

    def __init__(self, rules: Ruleset = RULES) -> None:
        self.counters = SharedCounters(None)
        self.layout = Layout()
        self.counter = VerdictCounter(self.counters, self.layout.of(cells(rules)))

    def __call__(self) -> dict[Cell, int]:
        found = {cell: self.counters.numbers[place] for cell, place in self.layout.items()}
        assert sum(found.values()) == sum(self.counters.numbers), "a number stands where no cell does"
        return {cell: requests for cell, requests in found.items() if requests}


# Where a verdict is counted


@pytest.mark.parametrize(
    ("verdict", "page", "cell"),
    [
        pytest.param(of("listed.example"), True, STOPPED, id="stopped, with the page"),
        pytest.param(of("listed.example"), False, NOT_SHOWN, id="stopped, without a page"),
        pytest.param(of("a.trial.example"), False, OBSERVED, id="observed"),
        pytest.param(of("pass.example"), False, PASSED, id="not listed"),
        pytest.param(of("192.0.2.1"), False, PASSED, id="an address"),
        pytest.param(of("excepted.listed.example"), False, PASSED, id="excepted"),
        pytest.param(of("127.0.0.1"), False, REFUSED, id="a denied address"),
        pytest.param(PASS, False, PASSED, id="passes"),
        pytest.param(PASS_ADDRESS, False, PASSED, id="passes as an address"),
        pytest.param(PASS_EXCEPTION, False, PASSED, id="passes as an exception"),
        pytest.param(UNREADABLE, False, REFUSED, id="unreadable"),
        pytest.param(AMBIGUOUS, False, REFUSED, id="ambiguous"),
        pytest.param(DENIED, False, REFUSED, id="denied"),
        pytest.param(NOT_FORWARDED, False, REFUSED, id="not forwarded"),
        pytest.param(FAULT, False, REFUSED, id="a fault"),
    ],
)
def test_each_verdict_is_counted_in_its_cell(verdict: Verdict, page: bool, cell: Cell):
    counts = Counts()
    for number in range(1, 4):
        counts.counter.add(verdict, page=page)
        assert counts() == {cell: number}


@pytest.mark.parametrize("page", [True, False], ids=["with the page", "without a page"])
@pytest.mark.parametrize("host", [CHECK_HOST, "check.trial.invalid"], ids=["enforced list", "observed list"])
def test_the_check_host_is_never_counted(host: str, page: bool):
    counts = Counts()
    for _ in range(3):
        counts.counter.add(of(host), page=page)
    assert counts() == {}


def test_an_expired_list_that_refuses_all_is_counted_as_refusals():
    rules = ruleset(signed("listed.example"), when_expired="refuse-all")
    counts = Counts(rules)
    counts.counter.add(decide(rules, Host("pass.example"), rules.refuse_from + 1))
    assert counts() == {REFUSED: 1}


HOSTS = ["listed.example", "trial.example", "pass.example", "127.0.0.1", CHECK_HOST, "excepted.listed.example"]


@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.booleans()), max_size=40))
def test_any_requests_add_up_to_as_many_as_there_were(requests: list[tuple[str, bool]]):
    counts = Counts()
    for host, page in requests:
        counts.counter.add(of(host), page=page and host == "listed.example")
    assert sum(counts().values()) == sum(host != CHECK_HOST for host, _ in requests)
    pages = sum(page and host == "listed.example" for host, page in requests)
    assert counts().get(STOPPED, 0) == pages
    assert counts().get(NOT_SHOWN, 0) == sum(host == "listed.example" for host, _ in requests) - pages


def test_nothing_is_written_but_numbers_of_cells():
    counts = Counts()
    for host in HOSTS:
        counts.counter.add(of(host))
    assert not any(counts.counters.numbers[:FIRST_CELL])
    assert not any(counts.counters.taken)


# The cells of a ruleset


def test_a_ruleset_has_a_cell_for_whatever_can_come_of_it():
    assert set(cells(RULES)) == {PASSED, REFUSED, STOPPED, NOT_SHOWN, OBSERVED}


def test_a_policy_that_observes_has_cells_of_observing_only():
    rules = ruleset(signed("listed.example", serial=3), mode="observe")
    assert set(cells(rules)) == {PASSED, REFUSED, Cell("worst-of", 3, Outcome.OBSERVED)}


def test_where_some_clients_are_observed_an_enforced_list_has_all_three():
    rules = ruleset(signed("listed.example", serial=3), observe_clients=("10.7.0.0/16",))
    assert set(cells(rules)) == {PASSED, REFUSED, STOPPED, NOT_SHOWN, Cell("worst-of", 3, Outcome.OBSERVED)}


@pytest.mark.parametrize("serial", [3, 4], ids=["the same", "a newer one"])
def test_a_version_that_is_observed_beside_the_enforced_one_has_cells_of_its_own(serial: int):
    rules = ruleset(
        signed("listed.example", serial=3), signed("new.example", serial=serial), modes=("enforce", "observe")
    )
    assert set(cells(rules)) == {PASSED, REFUSED, STOPPED, NOT_SHOWN, Cell("worst-of", serial, Outcome.OBSERVED)}
    assert len(cells(rules)) == 5


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(RULES, id="several lists"),
        pytest.param(ruleset(signed("listed.example"), observe_clients=("10.7.0.0/16",)), id="some clients observed"),
        pytest.param(ruleset(signed("listed.example"), mode="observe"), id="observed"),
        pytest.param(ruleset(signed("listed.example"), when_expired="refuse-all"), id="refused once expired"),
        pytest.param(ruleset(signed()), id="an empty list"),
    ],
)
def test_no_verdict_of_a_ruleset_is_without_a_cell(rules: Ruleset):
    counts = Counts(rules)
    for host in (*HOSTS, "check.trial.invalid"):
        for now in (NOON, datetime(2099, 1, 1, tzinfo=UTC).timestamp()):
            for observes in {False, bool(rules.observed)}:
                verdict = decide(rules, Host.parse(host), now, observes=observes)
                counts.counter.add(verdict, page=verdict.action == "stop")
    for verdict in (UNREADABLE, AMBIGUOUS, DENIED, NOT_FORWARDED, FAULT, PASS):
        counts.counter.add(verdict)
    assert sum(counts().values()) > 0


# Another layout


def test_what_is_counted_goes_to_the_new_place_from_then_on():
    counts = Counts()
    counts.counter.add(of("listed.example"))
    other = Layout([Cell("x", 0, Outcome.STOPPED), *cells(RULES)])
    counts.counter.follow(other.of(cells(RULES)))
    counts.counter.add(of("listed.example"))
    assert counts.counters.numbers[dict(other.items())[NOT_SHOWN]] == 1
    assert sum(counts.counters.numbers) == 2


def test_a_verdict_by_the_ruleset_before_is_counted_while_another_comes_into_force():
    """Requests that were judged a moment ago are counted a moment later."""
    counts, newer = Counts(), ruleset(signed("listed.example", serial=4))
    counts.counter.follow(counts.layout.of([*cells(newer), *cells(RULES)]))
    counts.counter.add(of("listed.example"), page=True)
    counts.counter.add(of("listed.example", newer), page=True)
    assert counts() == {STOPPED: 1, Cell("worst-of", 4, Outcome.STOPPED): 1}


def test_a_verdict_without_a_cell_is_a_fault_and_counts_nothing():
    counts = Counts(ruleset(signed("listed.example", serial=1)))
    with pytest.raises(KeyError):
        counts.counter.add(of("listed.example"))
    assert counts() == {}


def test_nothing_is_lost_while_layouts_follow_one_another():
    """The store's thread changes the layout while the event loop counts."""
    counts, over = Counts(), threading.Event()

    def follow_on_and_on() -> None:
        serial = 100
        while not over.is_set():
            serial = 100 + (serial + 1) % (NUMBERS // 2)
            newer = Cell("worst-of", serial, Outcome.STOPPED)
            counts.counter.follow(counts.layout.of([newer, *cells(RULES)]))

    thread = threading.Thread(target=follow_on_and_on)
    thread.start()
    for _ in range(20_000):
        counts.counter.add(of("listed.example"), page=True)
        counts.counter.add(PASS)
    over.set()
    thread.join()
    assert counts() == {STOPPED: 20_000, PASSED: 20_000}
